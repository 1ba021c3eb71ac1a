"""A capture whose bridge sends garbage: what is no trigger is dropped and counted, and the next panel is shipped."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from capture_rig import Rig
from station_parts import pixels, rings, settings, until
from wire_fuzz import sent

from pipeline.bus import encode
from pipeline.messages import Trigger

MESSAGES = 600
AHEAD_NS = 5_000_000_000


@pytest.fixture
def rig(tmp_path) -> Iterator[Rig]:
    config = settings(tmp_path)
    with rings(config), ExitStack() as stack:
        yield Rig(config, stack).with_inspector()


def trigger(**changes) -> Trigger:
    said = Trigger(
        station="cell_1",
        token="ab" * 16,
        seq=5,
        panel_id="p",
        recipe_no=1,
        recipe="r",
        inspector="inspector",
        cameras=("top",),
        edge_ns=time.monotonic_ns(),
        window_ms=1000,
    )
    return said.model_copy(update=changes)


def turned(rig: Rig, ahead_ns: int = 0) -> int:
    """Messages dropped so far, after one more turn."""
    rig.bus.poll(1)
    rig.capture.turn(time.monotonic_ns() + ahead_ns)
    rig.control.drain()
    return rig.capture.control.dropped.total()


def armed(rig: Rig) -> bool:
    """The grabber's thread has done what it was asked: a frame exposed before that is lost."""
    return not rig.grabber.arming


def good_again(rig: Rig) -> bool:
    """Present panels until one is shipped; the first may be refused as a neighbour of what was announced falsely."""
    for seed in range(10):
        until(lambda: turned(rig, AHEAD_NS) and not rig.capture.state.seeking and armed(rig))
        token = rig.trigger(pixels(seed), pixels(seed + 50))
        while (said := rig.captured(AHEAD_NS if rig.capture.state.seeking else 0)).token != token:
            pass
        if said.fault is None:
            return True
    return False


def test_garbage_is_dropped_and_the_next_panels_are_shipped(rig: Rig) -> None:
    def send(parts: list[bytes]) -> None:
        rig.control.socket.send_multipart([b"capture_top", *parts])
        turned(rig)

    sent(send, [encode("triggers", "plc_bridge", 0, trigger())], 3, MESSAGES)
    until(lambda: turned(rig) >= MESSAGES // 3)
    assert good_again(rig)


@pytest.mark.parametrize(
    "changes", [{"inspector": "inspector_9"}, {"cameras": ("side",)}, {"station": "cell_2"}, {"inspector": "../x"}]
)
def test_a_trigger_of_others_is_dropped(rig: Rig, changes: dict) -> None:
    assert rig.control.send("triggers", trigger(**changes), to="capture_top")
    until(lambda: turned(rig) == 1)
    assert rig.capture.triggers == {} and rig.capture.state.windows == ()


def test_a_trigger_that_comes_twice_is_one(rig: Rig) -> None:
    again = trigger()
    for _ in range(2):
        assert rig.control.send("triggers", again, to="capture_top")
    until(lambda: turned(rig) == 1)
    assert len(rig.capture.state.windows) == 1
