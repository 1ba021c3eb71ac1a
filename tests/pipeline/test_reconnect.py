"""A message larger than a socket takes ends its connection for good in ZeroMQ; ours comes back by itself."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import zmq
from station_parts import until
from wire_parts import CAPTURED, TRIGGER

from pipeline.bus import LARGEST_HEARD, Bus, Port, encode
from pipeline.messages import Health
from pipeline.reconnect import PATIENCE_NS


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["ipc", "tcp"])
def bridge(request, stack, tmp_path) -> tuple[zmq.Socket, str]:
    """A ROUTER that uses nothing of ours and sends what it likes, and where it is."""
    socket = stack.enter_context(zmq.Context()).socket(zmq.ROUTER)
    socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    socket.setsockopt(zmq.LINGER, 0)
    stack.callback(socket.close)
    if request.param == "ipc":
        socket.bind(f"ipc://{tmp_path}/s")
        return socket, f"ipc://{tmp_path}/s"
    return socket, f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"


def heard(bus: Bus, port: Port, bridge: zmq.Socket) -> bool:
    """The bridge hears the stage, and the stage its answer."""
    bus.poll(5)
    port.send("captured", CAPTURED)
    while bridge.poll(0):
        name = bridge.recv_multipart()[0]
        bridge.send_multipart([name, encode("triggers", "plc_bridge", 0, TRIGGER)])
    return any(received.message == TRIGGER for received in port.drain())


def test_a_stage_that_gets_too_large_a_message_is_there_again_and_says_so_once(stack, bridge, caplog):
    socket, endpoint = bridge
    bus = stack.enter_context(Bus("capture_top"))
    port = bus.dealer(endpoint, ["triggers"])
    until(lambda: heard(bus, port, socket))
    with caplog.at_level(logging.WARNING, "takt.bus"):
        for times in (1, 2):
            socket.send_multipart([b"capture_top", bytes(LARGEST_HEARD + 1)])
            until(lambda times=times: bus.poll(5) or port.dropped[endpoint] == times, 20)
            until(lambda: heard(bus, port, socket))
    assert [record.__dict__["peer"] for record in caplog.records] == [endpoint]
    assert bus.counted()["messages_dropped"] == 2


def test_a_bridge_that_was_away_is_no_broken_connection(stack, bridge):
    """ZeroMQ connects again by itself there; what waits to be sent stays."""
    socket, endpoint = bridge
    bus = stack.enter_context(Bus("capture_top"))
    port = bus.dealer(endpoint, ["triggers"])
    until(lambda: heard(bus, port, socket))
    socket.close()
    again = stack.enter_context(zmq.Context()).socket(zmq.ROUTER)
    again.setsockopt(zmq.ROUTER_HANDOVER, 1)
    again.setsockopt(zmq.LINGER, 0)
    stack.callback(again.close)
    long_enough_ns = time.monotonic_ns() + 3 * PATIENCE_NS
    until(lambda: bus.poll(20) or time.monotonic_ns() > long_enough_ns)
    assert port.send("captured", CAPTURED)
    again.bind(endpoint)
    until(lambda: bus.poll(5) or again.poll(0))
    assert again.recv_multipart()[0] == b"capture_top"
    until(lambda: heard(bus, port, again))
    assert port.dropped == {}


def test_of_several_publishers_the_other_is_heard_all_the_time(stack, tmp_path):
    endpoints = [f"ipc://{tmp_path}/{name}" for name in ("good", "bad")]
    good = stack.enter_context(Bus("good")).pub(endpoints[0], "health")
    bad = stack.enter_context(zmq.Context()).socket(zmq.PUB)
    stack.callback(bad.close, 0)
    bad.bind(endpoints[1])
    bus = stack.enter_context(Bus("supervisor"))
    port = bus.sub(endpoints, "health")

    def said(by: str) -> bool:
        good.send("health", Health(stage="good", pid=1, state="ready"))
        bad.send_multipart([b"health", encode("health", "bad", 0, Health(stage="bad", pid=1, state="ready"))])
        bus.poll(5)
        return by in {received.source for received in port.drain()}

    until(lambda: said("bad"))
    bad.send_multipart([b"health", bytes(LARGEST_HEARD + 1)])
    until(lambda: said("good") and port.dropped[endpoints[1]], 20)
    until(lambda: said("bad"))
    assert list(port.dropped) == [endpoints[1]]
