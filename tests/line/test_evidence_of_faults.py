"""A panel whose set stays incomplete is a fault, and the frames that came are evidence."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import toy_line
from test_evidence_last import _reachable, _shipped, _trigger, _until, rings

from pipeline.bus import Bus, Port
from pipeline.config import LineConfig, load
from pipeline.frames import Reader, Ring
from pipeline.inspector import Inspector, open_detectors
from pipeline.messages import Evidence, Fault, ImageSet, Trigger, Verdict


@dataclass
class Rig:
    """An inspector of a line with two cameras, between a bridge, a capture and an archiver that the test plays."""

    config: LineConfig
    ring: Ring
    inspector: Inspector
    control: Port
    images: Port
    archive: Port

    def trigger(self, seq: int, window_ms: int = 60_000) -> Trigger:
        cameras = tuple(camera.name for camera in self.config.cameras)
        known = _trigger(self.config, seq, next(iter(self.inspector.detectors)))
        trigger = known.model_copy(update={"cameras": cameras, "window_ms": window_ms})
        assert self.control.send("triggers", trigger, to="inspector")
        return trigger

    def set_of(self, trigger: Trigger, camera: str = "top", refused: Fault | None = None) -> ImageSet:
        shipped = _shipped(self.config, self.ring, trigger)
        image_set = shipped.model_copy(update={"camera": camera, "refused": refused})
        assert self.images.send("images", image_set)
        return image_set

    def turn(self, ahead_ms: int = 0) -> None:
        self.inspector.turn(time.monotonic_ns() + ahead_ms * 1_000_000)

    def evidence(self, ahead_ms: int = 0) -> Evidence:
        found: list[Evidence] = []

        def look() -> list[Evidence]:
            self.turn(ahead_ms)
            found.extend(got.message for got in self.archive.drain() if isinstance(got.message, Evidence))
            return found

        _until(look, "evidence")
        return found[0]


@pytest.fixture
def rig(line_file: Callable[..., Path]) -> Iterator[Rig]:
    cameras = [toy_line.camera("top", toy_line.CHANNELS), toy_line.camera("side", toy_line.CHANNELS)]
    config = load(line_file(station="toy", cameras=cameras))
    with ExitStack() as stack:
        ring = stack.enter_context(rings(config))
        outside = stack.enter_context(Bus("plc_bridge"))
        control = outside.router(config.socket("control"), ["verdicts", "presence"])
        archive = outside.pull(config.socket("evidence"), "evidence")
        detectors = stack.enter_context(open_detectors(config))
        inspector = Inspector(config, "inspector", stack.enter_context(Bus("inspector")), detectors)
        images = stack.enter_context(Bus("capture_top")).push(config.socket("images-inspector"), "images", keep=8)
        _until(lambda: _reachable(inspector, control), "the inspector")
        yield Rig(config, ring, inspector, control, images, archive)


def test_the_set_of_one_camera_is_evidence_when_the_other_camera_gives_none(rig: Rig) -> None:
    trigger = rig.trigger(1)
    free = rig.ring.free()
    sent = rig.set_of(trigger)
    _until(lambda: rig.turn() or (rig.inspector.joins and rig.inspector.joins[trigger.token].sets), "the set")
    evidence = rig.evidence(ahead_ms=trigger.window_ms + 1)
    assert (evidence.token, evidence.reason, evidence.cameras) == (trigger.token, "fault", ("top",))
    held = Reader().hold(evidence.frames[0], ())
    assert held is not None and evidence.frames[0].digest == sent.frames.digest
    assert np.all(held.pixels == 90)
    assert rig.ring.free() == free and rig.inspector.joins == {} and rig.inspector.panels == 0


def test_a_set_whose_lease_ran_out_is_no_evidence_but_a_note(rig: Rig) -> None:
    """Its slot belongs to another panel by then."""
    trigger = rig.trigger(1)
    sent = rig.set_of(trigger)
    _until(lambda: rig.turn() or (rig.inspector.joins and rig.inspector.joins[trigger.token].sets), "the set")
    rig.ring.drop(sent.frames.slot or 0)
    while rig.ring.acquire(time.monotonic_ns()) is not None:
        pass
    evidence = rig.evidence(ahead_ms=trigger.window_ms + 1)
    assert (evidence.frames, evidence.dropped) == ((), "gone from the camera's ring before it was copied")


@pytest.mark.parametrize("refused", [("side",), ("top", "side")])
def test_what_a_camera_refused_is_evidence_at_once_and_never_inspected(rig: Rig, refused: tuple[str, ...]) -> None:
    trigger = rig.trigger(1)
    free = rig.ring.free()
    for camera in trigger.cameras:
        rig.set_of(trigger, camera, Fault.INCOMPLETE if camera in refused else None)
    evidence = rig.evidence()
    assert (evidence.token, evidence.reason, set(evidence.cameras)) == (trigger.token, "fault", set(trigger.cameras))
    assert rig.ring.free() == free and rig.inspector.joins == {} and rig.inspector.panels == 0
    assert not any(isinstance(received.message, Verdict) for received in rig.control.drain())
