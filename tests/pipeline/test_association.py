"""Which frames belong to which trigger: the regular course, and one thing wrong at a time."""

import pytest
from association_camera import CHANNELS, MS, TAKT_MS, WRONG, Camera, good, wrong

from pipeline.association import (
    Paired,
    Refused,
    TriggerSeen,
    due_ns,
)
from pipeline.messages import Fault

# --- the regular course ---


def test_sets_in_order_are_paired_with_their_number_since_arming():
    camera = Camera(first_seq=41)
    camera.clean(0, 1, 2, 3)
    assert [result for result in camera.results if isinstance(result, Paired)] == [
        Paired(str(panel), panel) for panel in range(4)
    ]
    assert camera.said() == good(0, 1, 2, 3)
    assert camera.rearmed == 0


def test_a_set_is_paired_by_its_last_frame_and_not_before():
    camera = Camera()
    camera.announce(0)
    camera.frames(0, CHANNELS - 1)
    assert camera.results == []
    camera.frame(10)
    assert camera.results == [Paired("0", 0)]


def test_a_set_is_confirmed_when_nothing_followed_it():
    camera = Camera()
    camera.announce(0)
    camera.frames(0)
    assert due_ns(camera.state) == 20 * MS
    camera.tick(19)
    assert camera.said() == []
    camera.tick(20)
    assert camera.said() == good(0)
    assert due_ns(camera.state) is None


def test_a_surplus_frame_takes_a_set_back_before_it_is_confirmed():
    """One channel exposed twice fills the set without the last one."""
    camera = Camera()
    camera.announce(0)
    camera.frames(0, CHANNELS + 1)
    camera.tick(30)
    assert camera.said() == []
    camera.tick(116)
    assert camera.said() == wrong(0)


@pytest.mark.parametrize("before", range(1, CHANNELS + 1))
def test_a_trigger_may_be_announced_after_its_frames(before):
    camera = Camera()
    camera.frames(0, before)
    camera.tick(99)
    camera.announce(0)
    for channel in range(before, CHANNELS):
        camera.frame(5 * channel)
    camera.clean(1)
    assert camera.said() == good(0, 1)


def test_the_sequence_wraps_without_notice():
    camera = Camera(first_seq=0xFFFF_FFFE)
    camera.clean(0, 1, 2, 3)
    assert camera.said() == good(0, 1, 2, 3)


@pytest.mark.parametrize("at_ms", [-50, 0, 300])
def test_exposures_up_to_the_windows_ends_belong_to_it(at_ms):
    camera = Camera()
    camera.announce(1)
    for _ in range(CHANNELS):
        camera.frame(TAKT_MS + at_ms)
    camera.tick(TAKT_MS + at_ms + 10)
    assert camera.said() == good(1)


def test_long_idling_is_no_irregularity():
    camera = Camera()
    camera.clean(0)
    camera.tick(3_600_000)
    camera.announce(7300)
    camera.counter = CHANNELS
    assert camera.rearmed == 0


@pytest.mark.parametrize("takt_ms", [20, 60, 100, 200])
def test_a_fast_line_whose_windows_would_overlap_is_served_too(takt_ms):
    camera = Camera()
    for panel in range(5):  # windows are 350 ms long
        camera.tell(TriggerSeen(str(panel), panel, (panel * takt_ms + 3) * MS))
        for channel in range(CHANNELS):
            camera.frame(panel * takt_ms + 5 * channel)
    camera.tick(5 * takt_ms + 20)
    assert camera.said() == good(0, 1, 2, 3, 4)


def test_exposures_that_last_nearly_to_the_next_edge_are_no_irregularity():
    camera = Camera()
    for panel in range(4):
        camera.tell(TriggerSeen(str(panel), panel, (panel * 200 + 3) * MS))
        for channel in range(CHANNELS):
            camera.frame(panel * 200 + 75 * channel)
    camera.tick(800)
    assert camera.said() == good(0, 1, 2, 3)


# --- one thing wrong ---


@pytest.mark.parametrize("at_ms", [-51, 301])
def test_a_frame_outside_its_window_rejects_both_neighbours(at_ms):
    camera = Camera()
    camera.announce(1)
    camera.frame(TAKT_MS + at_ms)
    camera.clean(2, 3)
    assert camera.said() == [*wrong(1, 2), *good(3)]
    assert camera.rearmed == 2  # at once, and in the next pause


def test_an_early_frame_rejects_the_set_before_it_and_the_trigger_it_was_too_early_for():
    camera = Camera()
    camera.clean(0)
    camera.announce(1)
    camera.frame(TAKT_MS - 51)
    camera.clean(2, 3)
    assert camera.said() == [*good(0), *wrong(0, 1, 2), *good(3)]


@pytest.mark.parametrize("lost", range(CHANNELS))
def test_a_counted_frame_that_never_arrives_rejects_both_neighbours(lost):
    """The counter shows the gap, or, for the last frame, the window's end does."""
    camera = Camera()
    camera.clean(0)
    camera.announce(1)
    for channel in range(CHANNELS):
        if channel == lost:
            camera.counter += 1
        elif camera.rearmed == 0:
            camera.frame(TAKT_MS + 5 * channel)
    camera.tick(TAKT_MS + 401)
    camera.clean(2, 3)
    fault = Fault.INCOMPLETE if lost == CHANNELS - 1 else WRONG
    assert camera.said() == [*good(0), *wrong(1, fault=fault), *wrong(2), *good(3)]


@pytest.mark.parametrize("missed", range(CHANNELS))
def test_an_exposure_that_never_happened_makes_the_set_incomplete(missed):
    camera = Camera()
    camera.clean(0)
    camera.announce(1)
    camera.frames(1, CHANNELS - 1)
    camera.tick(TAKT_MS + 400)
    assert camera.said() == good(0)  # the window is still open
    camera.tick(TAKT_MS + 401)
    camera.clean(2, 3)
    assert camera.said() == [*good(0), *wrong(1, fault=Fault.INCOMPLETE), *wrong(2), *good(3)]


def test_an_edge_that_the_camera_missed_never_shifts_sets():
    camera = Camera()
    camera.clean(0)
    camera.announce(1)
    camera.announce(2)
    camera.frames(2)
    camera.clean(3, 4)
    assert camera.said() == [*good(0), *wrong(1, 2, 3), *good(4)]


def test_an_edge_that_the_camera_missed_is_noticed_even_if_the_next_trigger_is_announced_last():
    """A line faster than its exposure window: 2's frames lie inside the window of 1, and fill it."""
    camera = Camera()
    camera.tell(TriggerSeen("1", 1, 0))
    for channel in range(CHANNELS):
        camera.frame(200 + 5 * channel)
    camera.tell(TriggerSeen("2", 2, 200 * MS))
    assert camera.said() == [*wrong(1), *wrong(2)]
    assert camera.rearmed == 1


def test_a_set_that_goes_on_behind_the_next_edge_is_neither_ones():
    """One exposure of 1 never happened; the first of 2 took its place before 2 was announced."""
    camera = Camera()
    camera.tell(TriggerSeen("1", 1, 0))
    camera.frame(0)
    camera.frame(5)
    camera.frame(202)
    camera.tell(TriggerSeen("2", 2, 201 * MS))
    assert camera.said() == [*wrong(1), *wrong(2)]


def test_an_edge_that_the_plc_did_not_announce_rejects_the_sets_beside_it():
    camera = Camera()
    camera.clean(0)
    camera.frames(1, 1)
    camera.tick(TAKT_MS + 101)
    camera.clean(2, 3)
    assert camera.said() == [*good(0), *wrong(0, 2), *good(3)]
    assert camera.rearmed == 2  # at once, and in the next pause


def test_surplus_frames_after_a_set_reject_it_and_the_next():
    camera = Camera()
    camera.announce(0)
    camera.frames(0, CHANNELS + 1)
    camera.tick(116)
    camera.clean(1, 2)
    assert camera.said() == [*wrong(0, 1), *good(2)]


def test_surplus_frames_that_the_next_trigger_overtakes_reject_the_set_before_it_too():
    """The set may hold the wrong exposures: whatever was surplus may have been the right one."""
    camera = Camera()
    camera.announce(0)
    camera.frames(0, CHANNELS + 1)
    camera.announce(1)
    assert camera.said() == wrong(0, 1)
    camera.clean(2, 3)
    assert camera.said()[2:] == [*wrong(2), *good(3)]


def test_frames_before_the_first_trigger_are_nobodys():
    camera = Camera()
    camera.frames(0, 2)
    camera.tick(106)
    camera.clean(1, 2)
    assert camera.said() == [*wrong(1), *good(2)]


@pytest.mark.parametrize("problem", [Fault.RING_FULL, Fault.GEOMETRY, Fault.CAMERA])
@pytest.mark.parametrize("bad", range(CHANNELS))
def test_a_frame_without_usable_pixels_costs_its_set_and_no_other(problem, bad):
    camera = Camera()
    camera.clean(0)
    camera.announce(1)
    for channel in range(CHANNELS):
        camera.frame(TAKT_MS + 5 * channel, problem if channel == bad else None)
    camera.clean(2)
    assert camera.said() == [*good(0), *wrong(1, fault=problem), *good(2)]
    assert camera.rearmed == 0


def test_a_refused_set_that_is_there_is_named_so_that_its_memory_comes_back():
    camera = Camera()
    camera.frames(0, 1)
    camera.tick(101)
    camera.tick(111)
    camera.announce(1)
    camera.frames(1)
    assert camera.results == [Refused("1", WRONG, index=0, got=3)]


@pytest.mark.parametrize("skipped", [1, 2, 1000])
def test_a_jump_of_the_sequence_is_never_taken_for_the_next_set(skipped):
    camera = Camera()
    camera.clean(0)
    camera.announce(1 + skipped)
    camera.frames(1 + skipped)
    camera.clean(2 + skipped, 3 + skipped)
    assert camera.said() == [*good(0), *wrong(1 + skipped, 2 + skipped), *good(3 + skipped)]


def test_every_open_trigger_is_refused_with_the_one_that_went_wrong():
    camera = Camera()
    for panel in range(3):
        camera.tell(TriggerSeen(str(panel), panel, panel * 20 * MS))
    camera.tick(1000)
    assert camera.said() == [*wrong(0, fault=Fault.INCOMPLETE), *wrong(1, 2)]
    camera.clean(3, 4)
    assert camera.said()[3:] == [*wrong(3), *good(4)]


def test_a_trigger_is_answered_even_if_no_frame_ever_comes():
    camera = Camera()
    for panel in range(4):
        camera.announce(panel)
        camera.tick(panel * TAKT_MS + 401)
    assert [token for token, _ in camera.said()] == ["0", "1", "2", "3"]
    assert camera.state.windows == ()
