"""Typed messages over real sockets: what is dropped, counted, refused; nothing is ever raised."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import msgpack
import pytest
import zmq
from wire_parts import BROKEN, CAPTURED, HERE, TRIGGER, envelope

from pipeline.bus import Bus, Port, Received
from pipeline.errors import StageError
from pipeline.messages import (
    Defect,
    Fault,
    FinalOutcome,
    Frames,
    Health,
    ImageSet,
    Outcome,
)

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
