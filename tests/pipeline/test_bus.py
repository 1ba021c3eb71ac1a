"""Typed messages over real sockets: what follows the schema arrives, all else is dropped, counted, never raised."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.bus import Bus, Port, Received, decode, encode
from pipeline.errors import MessageError, StageError
from pipeline.messages import (
    FAULTS,
    FORMAT,
    TOPICS,
    Captured,
    Defect,
    Evidence,
    Fault,
    FinalOutcome,
    Frames,
    Health,
    ImageSet,
    LowMask,
    Message,
    Outcome,
    Presence,
    Timing,
    Trigger,
    Verdict,
)

COUNTS = st.integers(0, (1 << 63) - 1)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=32)
TEXTS = st.text(max_size=16)
HEX32 = st.text("0123456789abcdef", min_size=32, max_size=32)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
FAULT = st.none() | st.sampled_from(list(Fault))
OUTCOMES = st.sampled_from(list(Outcome))
SEQUENCES = st.integers(0, 0xFFFF_FFFF)
FRAMES = st.builds(
    Frames,
    shape=st.tuples(COUNTS, COUNTS, COUNTS),
    dtype=st.sampled_from(["uint8", "uint16"]),
    digest=HEX32,
    ring=st.none() | NAMES,
    slot=st.none() | COUNTS,
    generation=st.none() | COUNTS,
)
DEFECTS = st.builds(
    Defect, x=COUNTS, y=COUNTS, width=COUNTS, height=COUNTS, area_px=COUNTS, peak=FLOATS, channels=st.tuples(TEXTS)
)
TIMING = st.builds(Timing, joined_ns=COUNTS, started_ns=COUNTS, network_ns=COUNTS, decided_ns=COUNTS)
MASK = st.none() | st.builds(LowMask, height=COUNTS, width=COUNTS, bits=st.binary(max_size=32_768))
SEVERAL_DEFECTS = st.lists(DEFECTS, max_size=3).map(tuple)
MESSAGES: dict[str, st.SearchStrategy[Any]] = {
    "triggers": st.builds(
        Trigger,
        station=NAMES,
        token=HEX32,
        seq=SEQUENCES,
        panel_id=TEXTS,
        recipe_no=COUNTS,
        recipe=TEXTS,
        inspector=NAMES,
        cameras=st.tuples(NAMES, NAMES),
        edge_ns=COUNTS,
        window_ms=COUNTS,
    ),
    "captured": st.builds(
        Captured,
        station=NAMES,
        token=HEX32,
        camera=NAMES,
        frame_ids=st.tuples(COUNTS),
        digest=HEX32,
        exposed_ns=COUNTS,
        ready_ns=COUNTS,
        fault=FAULT,
    ),
    "images": st.builds(
        ImageSet, station=NAMES, token=HEX32, camera=NAMES, frames=FRAMES, exposed_ns=COUNTS, ready_ns=COUNTS
    ),
    "verdicts": st.builds(
        Verdict,
        station=NAMES,
        token=HEX32,
        inspector=NAMES,
        outcome=OUTCOMES,
        fault=FAULT,
        digest=HEX32,
        recipe=TEXTS,
        calibration=TEXTS,
        engine=TEXTS,
        score=FLOATS,
        limit=FLOATS,
        defects=SEVERAL_DEFECTS,
        mask=MASK,
        batch=COUNTS,
        timing=TIMING,
    ),
    "presence": st.builds(
        Presence,
        station=NAMES,
        stage=NAMES,
        role=st.sampled_from(["capture", "inspector"]),
        ready=st.booleans(),
        credits=COUNTS,
    ),
    "evidence": st.builds(
        Evidence,
        station=NAMES,
        token=HEX32,
        reason=st.sampled_from(["reject", "fault", "sample"]),
        cameras=st.tuples(NAMES),
        frames=st.tuples(FRAMES),
        map=st.none() | FRAMES,
    ),
    "outcomes": st.builds(
        FinalOutcome,
        station=NAMES,
        token=st.just("") | HEX32,
        seq=SEQUENCES,
        panel_id=TEXTS,
        outcome=OUTCOMES,
        fault=FAULT,
        acknowledged=st.booleans(),
        score=FLOATS,
        limit=FLOATS,
        defects=SEVERAL_DEFECTS,
        recipe=TEXTS,
        calibration=TEXTS,
        engine=TEXTS,
        latency_ms=FLOATS,
    ),
    "health": st.builds(
        Health,
        stage=NAMES,
        pid=COUNTS,
        state=st.sampled_from(["starting", "waiting", "ready", "error", "finished"]),
        text=TEXTS,
        counters=st.dictionaries(NAMES, COUNTS | st.floats(allow_nan=False), max_size=4),
    ),
}
TOPIC_NAMES = list(TOPICS)
HERE = Presence(station="s", stage="inspector", role="inspector", ready=True)
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


def plain(message: Message) -> str:
    """The message as text: unlike the message, equal to itself where a number is nan."""
    return repr(message)


# --- the schema ---


def test_every_topic_is_tried():
    assert MESSAGES.keys() == TOPICS.keys()


@pytest.mark.parametrize("topic", TOPIC_NAMES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_message_arrives_as_it_was_sent(topic, data):
    message = data.draw(MESSAGES[topic])
    packed = encode(topic, "someone", 7, message)
    received = decode(packed, frozenset([topic]))
    assert (received.topic, received.source, received.sequence) == (topic, "someone", 7)
    assert plain(received.message) == plain(message)


def test_every_fault_has_its_own_number_and_a_text():
    assert FAULTS.keys() == set(Fault)
    assert len({text.number for text in FAULTS.values()}) == len(FAULTS)
    assert all(text.number > 0 and text.text.endswith(".") for text in FAULTS.values())


def test_the_largest_verdict_is_not_oversize():
    defect = Defect(x=9999, y=9999, width=9999, height=9999, area_px=10**8, peak=1.5, channels=("c" * 20,) * 8)
    largest = Verdict(
        station="s" * 32,
        token="0" * 32,
        inspector="i" * 32,
        outcome=Outcome.REJECT,
        fault=None,
        digest="0" * 32,
        recipe="0" * 64,
        calibration="0" * 64,
        engine="0" * 64,
        score=1.0,
        limit=1.0,
        defects=(defect,) * 64,
        mask=LowMask(height=512, width=512, bits=b"\xff" * 32_768),
        batch=8,
        timing=Timing(joined_ns=1 << 60, started_ns=1 << 60, network_ns=1 << 60, decided_ns=1 << 60),
    )
    packed = encode("verdicts", "inspector", 0, largest)
    assert decode(packed, frozenset(["verdicts"])).message == largest


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


@pytest.mark.parametrize("what", BROKEN)
def test_what_breaks_the_schema_is_refused_in_one_line(what):
    with pytest.raises(MessageError) as error:
        decode(bytes(BROKEN[what] or b""), frozenset(["captured"]))
    assert str(error.value) and "\n" not in str(error.value)


def test_every_topic_has_its_own_size_even_on_a_shared_socket():
    large = encode("captured", "capture_top", 0, CAPTURED.model_copy(update={"digest": "x" * 5000}))
    with pytest.raises(MessageError, match="oversize"):
        decode(large, frozenset(["captured", "verdicts"]))


@given(st.binary(max_size=200))
@example(b"\xc1")
@example(b"\xd6\xff\x00\x00\x00\x00")
@settings(max_examples=400, deadline=None)
def test_random_bytes_are_refused_and_raise_nothing_else(data):
    with pytest.raises(MessageError):
        decode(data, frozenset(TOPICS))


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_a_damaged_message_is_refused_or_still_one(place, damage):
    data = bytearray(envelope())
    place %= len(data)
    data[place : place + len(damage)] = damage
    with suppress(MessageError):
        assert isinstance(decode(bytes(data), frozenset(["captured"])).message, Captured)


# --- sockets ---


@pytest.fixture
def bus(tmp_path) -> Iterator[Callable[[str], Bus]]:
    """Stages by name; all closed at the end."""
    with ExitStack() as stack:
        yield lambda stage: stack.enter_context(Bus(stage))


@pytest.fixture
def endpoint(tmp_path) -> str:
    return f"ipc://{tmp_path}/s"


def until(condition: Callable[[], Any], timeout_s: float = 5.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.001)
    return found


def got(port: Port, number: int = 1) -> list[Received]:
    found: list[Received] = []
    until(lambda: found.extend(port.drain()) or len(found) >= number)
    return found


def raw_dealer(endpoint: str, name: str) -> zmq.Socket:
    """A peer that uses nothing of ours."""
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.IDENTITY, name.encode())
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    return socket


def test_router_and_dealer_talk_both_ways(bus, endpoint):
    router = bus("plc_bridge").router(endpoint, ["captured", "presence"])
    dealer = bus("capture_top").dealer(endpoint, ["triggers"])
    assert dealer.send("captured", CAPTURED)
    [received] = got(router)
    assert (received.source, received.message) == ("capture_top", CAPTURED)
    assert router.send("triggers", TRIGGER, to="capture_top")
    assert got(dealer)[0].message == TRIGGER


def test_a_peer_that_is_not_there_is_known_at_once(bus, endpoint):
    router = bus("plc_bridge").router(endpoint, ["captured"])
    assert router.send("triggers", TRIGGER, to="capture_top") is False
    push = bus("capture_top").push(f"{endpoint}2", "images")
    frames = Frames(shape=(1, 1, 1), dtype="uint8", digest="0" * 32)
    message = ImageSet(station="s", token="0" * 32, camera="top", frames=frames, exposed_ns=0, ready_ns=0)
    assert push.send("images", message) is False


def test_a_restarted_stage_takes_its_name_back(bus, endpoint):
    router = bus("plc_bridge").router(endpoint, ["captured"])
    for sequence in range(3):
        with Bus("capture_top") as again:
            assert again.dealer(endpoint, ["triggers"]).send("captured", CAPTURED)
            assert got(router)[0].sequence == 0, sequence
    assert router.lost["captured"] == 0


def test_a_stage_that_hangs_loses_its_name_to_the_one_that_was_started_for_it(bus, endpoint):
    router = bus("plc_bridge").router(endpoint, ["captured"])
    hanging = raw_dealer(endpoint, "capture_top")
    hanging.send(envelope())
    got(router)
    again = bus("capture_top").dealer(endpoint, ["triggers"])
    assert again.send("captured", CAPTURED)
    got(router)
    assert router.send("triggers", TRIGGER, to="capture_top")
    assert got(again)[0].message == TRIGGER
    hanging.close()


def test_a_full_queue_refuses_instead_of_waiting(bus, endpoint):
    """High-water mark 1 on both ends: after a few, the sender is told; what was taken arrives in order."""
    pull = bus("inspector").pull(endpoint, "images")
    push = bus("capture_top").push(endpoint, "images")
    frames = Frames(shape=(1, 1000, 1000), dtype="uint8", digest="0" * 32)
    message = ImageSet(station="s", token="0" * 32, camera="top", frames=frames, exposed_ns=0, ready_ns=0)
    pixels = (memoryview(bytearray(1_000_000)),)
    until(lambda: push.send("images", message, behind=pixels))
    begun = time.monotonic()
    sent = 1 + sum(bool(push.send("images", message, behind=pixels)) for _ in range(200))
    assert time.monotonic() - begun < 1.0
    assert 1 <= sent < 50
    received = got(pull, sent)
    assert [item.sequence for item in received] == list(range(sent))  # what was refused is no gap
    assert pull.lost["images"] == 0


def test_each_peer_has_a_count_of_its_own_so_that_nothing_seems_lost(bus, endpoint):
    router = bus("plc_bridge").router(endpoint, ["presence"])
    dealers = {name: bus(name).dealer(endpoint, ["triggers"]) for name in ("capture_a", "capture_b", "inspector")}
    for name, dealer in dealers.items():
        dealer.send("presence", HERE)
        until(lambda name=name: any(received.source == name for received in router.drain()))
    for _ in range(5):
        for name in dealers:
            assert router.send("triggers", TRIGGER, to=name)
    for dealer in dealers.values():
        assert [received.sequence for received in got(dealer, 5)] == [0, 1, 2, 3, 4]
        assert dealer.lost["triggers"] == 0


def test_gaps_are_counted(bus, endpoint):
    router = bus("plc_bridge").router(endpoint, ["captured"])
    peer = raw_dealer(endpoint, "capture_top")
    for sequence in (5, 6, 9, 10, 0, 1, 3):
        peer.send(envelope(sequence=sequence))
    got(router, 7)
    assert router.lost["captured"] == 2 + 1  # 7 and 8; then a new process that counts from 0; then 2
    peer.close()


def test_what_breaks_the_schema_is_dropped_counted_and_logged_once_a_source(bus, endpoint, caplog):
    router = bus("plc_bridge").router(endpoint, ["captured"])
    peer, other = raw_dealer(endpoint, "capture_top"), raw_dealer(endpoint, "capture_side")
    with caplog.at_level(logging.WARNING, "takt.bus"):
        for data in BROKEN.values():
            peer.send(bytes(data or b""))
        other.send(b"\xc1")
        peer.send(envelope())
        [received] = got(router)
        until(lambda: not router.drain() and router.dropped["capture_side"])
    assert received.message == CAPTURED
    assert router.dropped == {"capture_top": len(BROKEN), "capture_side": 1}
    assert [record.__dict__["peer"] for record in caplog.records] == ["capture_top", "capture_side"]
    peer.close()
    other.close()


def test_a_peer_that_says_it_is_another_is_dropped(bus, endpoint):
    router = bus("plc_bridge").router(endpoint, ["captured"])
    liar = raw_dealer(endpoint, "capture_side")
    liar.send(envelope(source="capture_top"))
    until(lambda: router.drain() or router.dropped["capture_side"])
    assert router.dropped == {"capture_side": 1}
    liar.close()


def test_an_empty_send_is_dropped(bus, endpoint):
    pull = bus("archiver").pull(endpoint, "evidence")
    push = zmq.Context.instance().socket(zmq.PUSH)
    push.setsockopt(zmq.LINGER, 0)
    push.connect(endpoint)
    push.send(b"")
    until(lambda: pull.drain() or pull.dropped[""])
    push.close()


def test_a_third_party_needs_only_zeromq_and_messagepack(bus, endpoint):
    """The one topic for others: a subscriber that knows nothing of ours but the page that describes it."""
    outcome = FinalOutcome(
        station="cell_1",
        token="0" * 32,
        seq=7,
        panel_id="GLASS-7",
        outcome=Outcome.REJECT,
        fault=Fault.LATE,
        acknowledged=True,
        score=math.nan,
        limit=0.5,
        defects=(Defect(x=1, y=2, width=3, height=4, area_px=12, peak=0.9),),
        recipe="r",
        calibration="c",
        engine="e",
        latency_ms=12.5,
    )
    publisher = bus("plc_bridge").pub(endpoint, "outcomes")
    context = zmq.Context()
    subscriber = context.socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"outcomes")
    subscriber.connect(endpoint)
    until(lambda: publisher.send("outcomes", outcome) and subscriber.poll(10))
    topic, data = subscriber.recv_multipart()
    said = msgpack.unpackb(data)
    assert topic == b"outcomes"
    assert (said["format"], said["topic"], said["source"]) == (1, "outcomes", "plc_bridge")
    assert (said["body"]["panel_id"], said["body"]["outcome"], said["body"]["fault"]) == ("GLASS-7", "REJECT", "LATE")
    assert said["body"]["defects"][0]["width"] == 3 and math.isnan(said["body"]["score"])
    subscriber.close(linger=0)
    context.term()


def test_a_subscriber_hears_several_publishers_and_counts_them_apart(bus, endpoint):
    ports = {name: bus(name).pub(f"{endpoint}-{name}", "health") for name in ("one", "two")}
    subscriber = bus("supervisor").sub([f"{endpoint}-{name}" for name in ports], "health")
    heard: set[str] = set()

    def both() -> bool:
        for name, port in ports.items():
            port.send("health", Health(stage=name, pid=1, state="ready"))
        heard.update(received.source for received in subscriber.drain())
        return heard == {"one", "two"}

    until(both)


def test_an_address_in_use_is_said_in_one_line(bus, port_of_another):
    with pytest.raises(StageError, match="cannot be bound") as error:
        bus("plc_bridge").pub(port_of_another, "outcomes")
    assert "\n" not in str(error.value)


@pytest.fixture
def port_of_another() -> Iterator[str]:
    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    yield f"tcp://127.0.0.1:{port}"
    socket.close(linger=0)
    context.term()


def test_poll_wakes_up_for_a_message_and_for_a_descriptor(bus, endpoint):
    here = bus("inspector")
    here.pull(endpoint, "evidence")
    wake = os.eventfd(1, os.EFD_NONBLOCK)
    here.watch(wake)
    begun = time.monotonic()
    here.poll(5000)
    assert time.monotonic() - begun < 2
    os.close(wake)
