"""A capture's loop with real sockets and rings: what it says of every set, good or not, and that no slot is lost."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from capture_rig import LATER_NS, SECOND, Rig
from station_parts import CHANNELS, pixels, rings, settings, until

from pipeline.errors import CameraError
from pipeline.messages import Fault


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
    rig.passes(1)
    for lost in range(len(CHANNELS)):
        frames: list[Any] = [pixels(5), pixels(6)]
        frames[lost] = CameraError("no light")
        token = rig.trigger(*frames)
        said = rig.captured()
        assert (said.token, said.fault, said.digest) == (token, Fault.CAMERA, "")
        if lost:
            rig.evidence(token, Fault.CAMERA, frames[0])
        rig.passes(20 + lost)
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
    rig.passes(7)


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
        rig.passes(50)


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
    rig.passes(1)
    token = rig.one_frame_too_few()
    said = rig.captured(at_ns=LATER_NS)
    assert (said.token, said.fault) == (token, Fault.INCOMPLETE)
    rig.evidence(token, Fault.INCOMPLETE, pixels(1))
    rig.until_armed()
    token = rig.trigger(pixels(3), pixels(4))
    said = rig.captured()
    assert (said.token, said.fault) == (token, Fault.ASSOCIATION)  # the neighbour
    rig.evidence(token, Fault.ASSOCIATION, pixels(3), pixels(4))
    rig.passes(5)


def test_what_came_of_a_set_is_evidence_though_the_camera_is_to_arm_again_before_it_has_armed(rig):
    """The pause in which it arms for good has come before a grab that is under way returns."""
    rig.with_inspector()
    token = rig.one_frame_too_few()
    with rig.camera.stuck():
        assert rig.captured(at_ns=LATER_NS).fault is Fault.INCOMPLETE
        for _ in range(3):
            rig.capture.turn(time.monotonic_ns() + LATER_NS)
    rig.evidence(token, Fault.INCOMPLETE, pixels(1))
    rig.until_armed()


def test_what_came_of_a_set_is_evidence_though_its_last_frame_came_while_the_camera_was_to_arm(rig):
    rig.with_inspector()
    token = rig.one_frame_too_few()
    with rig.camera.stuck():
        rig.camera.expose(pixels(2))
        assert rig.captured(at_ns=LATER_NS).fault is Fault.INCOMPLETE
    rig.evidence(token, Fault.INCOMPLETE, pixels(1))
    rig.until_armed()


def test_what_came_of_a_set_is_evidence_though_a_gap_and_frames_behind_it_came_in_one_turn(rig):
    rig.with_inspector()
    token = rig.one_frame_too_few()
    rig.camera.skip(2)
    rig.camera.expose(*(pixels(seed) for seed in (2, 3, 4)))
    until(lambda: len(rig.grabber._out) == 3 + 1)
    said = rig.captured()
    assert (said.token, said.fault) == (token, Fault.ASSOCIATION)
    rig.evidence(token, Fault.ASSOCIATION, pixels(1))
    rig.until_armed()


def test_a_refused_set_whose_trigger_came_last_gives_its_slot_back(rig):
    rig.with_inspector()
    rig.camera.expose(pixels(1))  # nobody's
    until(lambda: rig.capture.turn(time.monotonic_ns()) or rig.capture.state.frames)
    until(lambda: rig.capture.turn(time.monotonic_ns() + LATER_NS) or rig.camera.armed >= 2)
    rig.until_armed()
    exposed_ns = time.monotonic_ns()
    rig.camera.expose(pixels(2), pixels(3), at_ns=exposed_ns)
    until(lambda: rig.capture.turn(time.monotonic_ns()) or rig.capture.filled)
    token = rig.trigger(ago_ns=time.monotonic_ns() - exposed_ns)
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
