"""The relay between the bridge and its stages: nobody notices it, until it is told to do harm."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from pipeline.bench.forgery import Forger
from pipeline.bench.proxy import Relay
from pipeline.bus import Bus, Port
from pipeline.messages import Presence, Trigger

PATIENCE_S = 20.0


class Line:
    """A bridge, a relay and stages that come and go."""

    def __init__(self, folder: Path, context: zmq.Context) -> None:
        self.front, self.back = f"ipc://{folder}/front", f"ipc://{folder}/back"
        self.relay = Relay(context, self.front, self.back, Forger(0.0, 0, 60))
        self.hub = Bus("plc_bridge")
        self.bridge = self.hub.router(self.back, ["presence"])

    def stage(self, name: str) -> tuple[Bus, Port]:
        bus = Bus(name)
        return bus, bus.dealer(self.front, ["triggers"])

    def until(self, condition: Callable[[], object]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s
            self.relay.poller.poll(10)
            self.relay.turn()

    def heard(self, port: Port, count: int) -> list:
        found: list = []
        self.until(lambda: found.extend(port.drain()) or len(found) >= count)
        return found


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr("pipeline.bench.proxy.IDLE_MS", 5)
    context = zmq.Context()
    line = Line(tmp_path, context)
    yield line
    line.hub.__exit__(None, None, None)
    context.destroy(linger=0)


def here(name: str, credits: int = 0) -> Presence:
    return Presence(station="s", stage=name, role="capture", ready=True, credits=credits, loaded=())


def trigger(seq: int) -> Trigger:
    names = {"station": "s", "panel_id": f"P{seq}", "recipe": "r", "inspector": "inspector", "cameras": ("top",)}
    return Trigger(token=f"{seq:032x}", seq=seq, recipe_no=1, edge_ns=0, window_ms=60, **names)


def test_without_a_rate_it_is_as_if_it_were_not_there(line: Line) -> None:
    with line.stage("capture_top")[0] as one, line.stage("inspector")[0] as two:
        ports = {"capture_top": one._ports[0], "inspector": two._ports[0]}
        for number in range(20):
            for name, port in ports.items():
                assert port.send("presence", here(name, number))
        heard = line.heard(line.bridge, 40)
        for name, port in ports.items():
            assert [r.message for r in heard if r.source == name] == [here(name, n) for n in range(20)]
            for seq in range(20):
                assert line.bridge.send("triggers", trigger(seq), to=name)
            assert [r.message for r in line.heard(port, 20)] == [trigger(seq) for seq in range(20)]
    assert not (line.bridge.dropped or line.bridge.lost or line.relay.forger.counts)


def test_a_black_hole_swallows_both_directions_and_no_other_stage(line: Line) -> None:
    with line.stage("capture_top")[0] as one, line.stage("inspector")[0] as two:
        for bus, name in ((one, "capture_top"), (two, "inspector")):
            bus._ports[0].send("presence", here(name))
        line.heard(line.bridge, 2)
        line.relay.hole("capture_top", 3600)
        one._ports[0].send("presence", here("capture_top"))
        line.bridge.send("triggers", trigger(1), to="capture_top")
        two._ports[0].send("presence", here("inspector"))
        assert [r.source for r in line.heard(line.bridge, 1)] == ["inspector"]
        line.until(lambda: line.relay.swallowed == 2)
        line.relay.hole("capture_top", 0)
        one._ports[0].send("presence", here("capture_top"))
        assert [r.source for r in line.heard(line.bridge, 1)] == ["capture_top"]


def test_the_bridge_learns_that_a_stage_is_gone_and_that_it_is_back(line: Line) -> None:
    bus, port = line.stage("inspector")
    with bus:
        port.send("presence", here("inspector"))
        line.heard(line.bridge, 1)
    line.until(lambda: not line.bridge.send("triggers", trigger(1), to="inspector"))
    bus, port = line.stage("inspector")
    with bus:
        port.send("presence", here("inspector"))
        line.heard(line.bridge, 1)
        assert line.bridge.send("triggers", trigger(2), to="inspector")
        assert [r.message for r in line.heard(port, 1)] == [trigger(2)]
