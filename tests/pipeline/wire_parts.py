"""Messages for the tests of the wire: one of each kind that they need, and what is none."""

from typing import Any

import msgpack

from pipeline.bus import encode
from pipeline.messages import (
    FORMAT,
    Captured,
    Presence,
    Trigger,
)

HERE = Presence(station="s", stage="inspector", role="inspector", ready=True, loaded=())
CAPTURED = Captured(
    station="s", token="0" * 32, camera="top", frame_ids=(1,), digest="1" * 32, exposed_ns=0, ready_ns=0
)
TRIGGER = Trigger(
    station="s",
    token="0" * 32,
    seq=1,
    panel_id="p",
    recipe_no=1,
    recipe="r",
    inspector="inspector",
    cameras=("top",),
    edge_ns=0,
    window_ms=1,
)


def envelope(**changes: Any) -> bytes:
    good = {
        "format": FORMAT,
        "topic": "captured",
        "source": "capture_top",
        "sequence": 0,
        "sent_ns": 0,
        "body": CAPTURED.model_dump(),
    }
    return bytes(msgpack.packb(good | changes) or b"")


def body(**changes: Any) -> bytes:
    return envelope(body=CAPTURED.model_dump() | changes)


BROKEN = {
    "nothing": b"",
    "reserved byte": b"\xc1",
    "text": b"hello",
    "cut off": envelope()[:-3],
    "something behind it": envelope() + b"\x00",
    "a number": msgpack.packb(7),
    "a list": msgpack.packb([1, 2]),
    "an empty map": msgpack.packb({}),
    "keys that are numbers": msgpack.packb({1: 2}),
    "too deep": b"\x91" * 3000,
    "bytes as keys": msgpack.packb({b"format": 1}),
    "text that is none": b"\x81\xa6format\xa2\xff\xff",
    "oversize": envelope(source="capture_top", body=CAPTURED.model_dump() | {"digest": "x" * 5000}),
    "newer format": envelope(format=FORMAT + 1),
    "older format": envelope(format=0),
    "format as text": envelope(format="1"),
    "unknown topic": envelope(topic="gossip"),
    "a topic of another socket": encode("triggers", "capture_top", 0, TRIGGER),
    "the type of another topic": envelope(body=HERE.model_dump()),
    "unknown field in the envelope": envelope(extra=1),
    "unknown field in the body": body(extra=1),
    "field missing": envelope(body={"token": "0" * 32}),
    "number as text": body(exposed_ns="12"),
    "number as bool": body(exposed_ns=True),
    "number as float": body(exposed_ns=1.0),
    "number below zero": body(exposed_ns=-1),
    "token in capitals": body(token="A" * 32),
    "token too short": body(token="0" * 31),
    "unknown fault": body(fault="BAD_LUCK"),
    "no source": envelope(source=""),
    "sequence below zero": envelope(sequence=-1),
    "body is text": envelope(body="x"),
}
