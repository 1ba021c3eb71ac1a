"""A capture's loop with real sockets and rings: what it says of every set, good or not, and that no slot is lost."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import pytest
import zmq
from station_parts import CHANNELS, ScriptedCamera, one, pixels, rings, settings, until

from pipeline.bus import Bus, Port, Received
from pipeline.capture import Capture
from pipeline.config import LineConfig
from pipeline.errors import CameraError
from pipeline.frames import Held, Reader, Ring, digest_of
from pipeline.grabber import Grabber
from pipeline.messages import Captured, Fault, ImageSet, Trigger

SECOND = 1_000_000_000


@dataclass
class Rig:
    """One capture between a bridge and an inspector that the test plays."""

    config: LineConfig
    stack: ExitStack
    camera: ScriptedCamera = field(default_factory=ScriptedCamera)
    reader: Reader = field(default_factory=Reader)
    number: Iterator[int] = field(default_factory=count)
    kept: list[tuple[ImageSet, np.ndarray]] = field(default_factory=list)  # of refused sets, given back

    def __post_init__(self) -> None:
        self.bus = self.stack.enter_context(Bus("plc_bridge"))
        self.control: Port = self.bus.router(self.config.socket("control"), ["captured", "presence"])
        self.images: Port | None = None
        self.ring = Ring(self.config.ring("top"))
        own = self.stack.enter_context(Bus("capture_top"))
        self.grabber = Grabber(self.camera, self.ring, len(CHANNELS))
        self.stack.callback(self.grabber.close)
        until(lambda: self.camera.armed)
        self.capture = Capture(self.config, self.config.cameras[0], "capture_top", own, self.ring, self.grabber)
        until(lambda: self._presence())

    def with_inspector(self) -> "Rig":
        self.images = self.bus.pull(self.config.socket("images-inspector"), "images", queue=8)
        assert self.capture.images["inspector"].socket.poll(5000, zmq.POLLOUT)
        return self

    def _presence(self) -> bool:
        self.capture.turn(time.monotonic_ns())
        return bool(self.control.drain())

    def trigger(self, *frames: Any, ago_ns: int = 0, inspector: str | None = "inspector") -> str:
        """The PLC triggers, the camera sees `frames`; the token."""
        if self.images:  # ZeroMQ tells a sender that there is room again within about a millisecond
            assert self.capture.images["inspector"].socket.poll(5000, zmq.POLLOUT)
        seq, edge_ns = next(self.number), time.monotonic_ns()
        token = f"{seq:032x}"
        trigger = Trigger(
            station="cell_1",
            token=token,
            seq=seq,
            panel_id="p",
            recipe_no=1,
            recipe="r",
            inspector=inspector,
            cameras=("top",),
            edge_ns=edge_ns - ago_ns,
            window_ms=1000,
        )
        self.camera.expose(*frames, at_ns=edge_ns)
        assert self.control.send("triggers", trigger, to="capture_top")
        return token

    def captured(self, at_ns: int = 0) -> Captured:
        """What the capture says next of a set; its clock goes ahead by `at_ns`."""

        def turn() -> None:
            self.capture.turn(time.monotonic_ns() + at_ns)

        while not isinstance(message := one(self.bus, self.control, turn).message, Captured):
            pass
        return message

    def shipped(self) -> tuple[ImageSet, Held]:
        """The next set to inspect."""
        assert self.images is not None
        while (found := self._held(one(self.bus, self.images)))[0].refused:
            self._keep(*found)
        return found

    def _held(self, received: Received) -> tuple[ImageSet, Held]:
        assert isinstance(received.message, ImageSet)
        held = self.reader.hold(received.message.frames, received.behind)
        assert held is not None
        return received.message, held

    def _keep(self, image_set: ImageSet, held: Held) -> None:
        assert image_set.refused and image_set.frames.digest == digest_of(held.pixels.data.cast("B"))
        self.kept.append((image_set, held.pixels.copy()))
        held.release()

    def evidence(self, token: str, fault: Fault, *frames: np.ndarray) -> None:
        """What came of a refused set has come, and nothing else of it."""

        def come() -> list[tuple[ImageSet, np.ndarray]]:
            self.capture.turn(time.monotonic_ns())
            for received in self.images.drain() if self.images else ():
                self._keep(*self._held(received))
            return [kept for kept in self.kept if kept[0].token == token]

        [(image_set, array)] = until(come)
        assert image_set.refused is fault
        np.testing.assert_array_equal(array, np.stack(frames))

    def good(self, seed: int) -> Held:
        """A panel at which nothing is wrong, all the way to the inspector."""
        frames = [pixels(seed + channel) for channel in range(len(CHANNELS))]
        token = self.trigger(*frames)
        said = self.captured()
        assert (said.token, said.fault) == (token, None)
        image_set, held = self.shipped()
        assert image_set.token == token and held.intact()
        assert said.digest == image_set.frames.digest == digest_of(held.pixels.data.cast("B"))
        np.testing.assert_array_equal(held.pixels, np.stack(frames))
        return held

    def until_armed(self) -> None:
        """Until the camera was armed anew, in a pause, and the capture takes triggers again."""

        def armed() -> bool:
            self.capture.turn(time.monotonic_ns())
            done = self.grabber._epoch == self.grabber._wanted
            return done and self.camera.armed > 1 and not self.capture.state.seeking

        until(armed)

    def wait_for_slots(self, free: int) -> None:
        """All but one: the grabber always holds the one that the next set will go to."""

        def idle() -> bool:
            self.capture.turn(time.monotonic_ns())
            return self.ring.free() == free and not getattr(self.capture.carrier, "pending", ())

        until(idle)


@pytest.fixture(params=["ring", "frames"])
def rig(tmp_path, request) -> Iterator[Rig]:
    config = settings(tmp_path, carrier=request.param)
    with rings(config), ExitStack() as stack:
        yield Rig(config, stack)


def test_good_sets_reach_the_inspector_and_the_bridge_hears_their_digest(rig):
    rig.with_inspector()
    for seed in range(6):
        rig.good(10 * seed).release()
    assert rig.capture.counters()["paired"] == 6 and rig.capture.rearmed == 0
    rig.wait_for_slots(2)


@pytest.mark.parametrize("carrier", ["ring"])
def test_frame_ids_count_since_arming(tmp_path, carrier):
    config = settings(tmp_path, carrier=carrier)
    with rings(config), ExitStack() as stack:
        rig = Rig(config, stack).with_inspector()
        for number in range(3):
            rig.trigger(pixels(1), pixels(2))
            assert rig.captured().frame_ids == (2 * number, 2 * number + 1)


def test_without_an_inspector_the_set_is_an_overrun_and_its_slot_is_free_again(rig):
    for _ in range(5):
        token = rig.trigger(pixels(1), pixels(2))
        said = rig.captured()
        assert (said.token, said.fault, said.digest) == (token, Fault.OVERRUN, "")
    rig.wait_for_slots(2)


def test_a_camera_error_costs_one_set_only(rig):
    rig.with_inspector()
    rig.good(1).release()
    for lost in range(len(CHANNELS)):
        frames: list[Any] = [pixels(5), pixels(6)]
        frames[lost] = CameraError("no light")
        token = rig.trigger(*frames)
        said = rig.captured()
        assert (said.token, said.fault, said.digest) == (token, Fault.CAMERA, "")
        if lost:
            rig.evidence(token, Fault.CAMERA, frames[0])
        rig.good(20 + lost).release()
    assert rig.capture.counters()["camera_failures"] == 2 and rig.capture.rearmed == 0
    rig.wait_for_slots(2)


@pytest.mark.parametrize(
    "frames",
    [
        (pixels(1, (200, 200)), pixels(2, (200, 200))),
        (pixels(1), pixels(2, (30, 41))),
        (pixels(1), pixels(2, (40, 30))),
        (pixels(1), pixels(2, dtype="uint16")),
        (pixels(1, (100, 100)), pixels(2, (100, 100))),
    ],
    ids=["larger than the slot", "wider", "turned", "deeper", "the second has no room"],
)
def test_frames_that_do_not_fit_are_a_geometry_fault_and_cost_one_set(rig, frames):
    rig.with_inspector()
    token = rig.trigger(*frames)
    said = rig.captured()
    assert (said.token, said.fault) == (token, Fault.GEOMETRY)
    if frames[0].nbytes <= 10_000:
        rig.evidence(token, Fault.GEOMETRY, frames[0])
    rig.good(7).release()
    rig.wait_for_slots(2)


def test_sixteen_bits_arrive_as_sixteen_bits(rig):
    rig.with_inspector()
    frames = [pixels(seed, dtype="uint16") for seed in (1, 2)]
    rig.trigger(*frames)
    assert rig.captured().fault is None
    image_set, held = rig.shipped()
    assert (image_set.frames.dtype, image_set.frames.shape) == ("uint16", (2, 30, 40))
    np.testing.assert_array_equal(held.pixels, np.stack(frames))


def test_a_full_ring_is_a_named_reject_that_overwrites_nothing(tmp_path):
    config = settings(tmp_path)
    with rings(config), ExitStack() as stack:
        rig = Rig(config, stack).with_inspector()
        held = [rig.good(10 * seed) for seed in range(3)]
        token = rig.trigger(pixels(91), pixels(92))
        said = rig.captured()
        assert (said.token, said.fault, said.digest) == (token, Fault.RING_FULL, "")
        for seed, one_held in enumerate(held):
            assert one_held.intact()
            np.testing.assert_array_equal(one_held.pixels[0], pixels(10 * seed))
            one_held.release()
        rig.wait_for_slots(2)  # the grabber looks for one at every grab
        rig.good(50).release()
        rig.wait_for_slots(2)


def test_a_full_ring_of_a_line_that_sends_pixels_empties_itself(tmp_path):
    """Nothing is sent while it is full, so that sending cannot be what gives slots back."""
    config = settings(tmp_path, carrier="frames", slot_mb=0.5, slots=2)
    with rings(config), ExitStack() as stack:
        rig = Rig(config, stack).with_inspector()
        frames = [pixels(seed, (400, 400)) for seed in (1, 2)]
        waiting = 0
        for _ in range(8):
            rig.trigger(*frames)
            waiting += rig.captured().fault is None
        for _ in range(waiting):
            rig.shipped()
        rig.wait_for_slots(1)
        rig.good(3)


def test_after_an_irregularity_the_camera_arms_anew_and_no_slot_stays_behind(rig):
    rig.with_inspector()
    rig.good(1).release()
    rig.trigger(pixels(1))  # one frame too few
    until(lambda: rig.capture.turn(time.monotonic_ns()) or [window.got for window in rig.capture.state.windows] == [1])
    said = rig.captured(at_ns=SECOND)
    assert said.fault is Fault.INCOMPLETE
    rig.evidence(said.token, Fault.INCOMPLETE, pixels(1))
    rig.until_armed()
    token = rig.trigger(pixels(3), pixels(4))
    said = rig.captured()
    assert (said.token, said.fault) == (token, Fault.ASSOCIATION)  # the neighbour
    rig.evidence(token, Fault.ASSOCIATION, pixels(3), pixels(4))
    rig.good(5).release()
    rig.wait_for_slots(2)


def test_a_refused_set_whose_trigger_came_last_gives_its_slot_back(rig):
    rig.with_inspector()
    rig.camera.expose(pixels(1))  # nobody's
    until(lambda: rig.capture.turn(time.monotonic_ns()) or rig.capture.state.frames)
    until(lambda: rig.capture.turn(time.monotonic_ns() + SECOND) or rig.camera.armed >= 2)
    rig.until_armed()
    rig.camera.expose(pixels(2), pixels(3))
    until(lambda: rig.capture.turn(time.monotonic_ns()) or rig.capture.filled)
    token = rig.trigger()
    said = rig.captured()
    assert (said.token, said.fault) == (token, Fault.ASSOCIATION)
    assert rig.capture.filled == {}
    rig.evidence(token, Fault.ASSOCIATION, pixels(2), pixels(3))
    rig.wait_for_slots(2)


def test_frames_of_before_the_arming_are_void_even_if_they_came_in_one_turn(rig):
    """Two sets lie ready when the first frame turns out to be outside its window: all of it is nobody's."""
    rig.with_inspector()
    rig.camera.expose(*(pixels(seed) for seed in range(4)))
    until(lambda: len(rig.grabber._out) == 4 + 2)
    token = rig.trigger(ago_ns=10 * SECOND)
    assert rig.capture.control.socket.poll(5000)
    rig.capture.turn(time.monotonic_ns())
    assert rig.capture.rearmed in (1, 2)  # at once, and again in the next pause, which a slow machine has reached
    assert rig.capture.filled == {} and rig.capture.state.frames == ()
    assert rig.captured().token == token
    rig.until_armed()
    rig.wait_for_slots(2)
    assert rig.trigger(pixels(5), pixels(6)) == rig.captured().token
    rig.good(7).release()


def test_a_panel_that_nobody_inspects_costs_no_slot_and_no_neighbour(rig):
    rig.with_inspector()
    rig.good(1).release()
    token = rig.trigger(pixels(3), pixels(4), inspector=None)
    said = rig.captured()
    assert (said.token, said.fault, bool(said.digest)) == (token, None, True)
    rig.wait_for_slots(2)
    rig.good(5).release()
    assert rig.capture.rearmed == 0
