"""Single guards of the association that nothing else shows: each of these fails when one of them is forgotten."""

import pytest
from association_camera import CHANNELS, MS, TAKT_MS, Camera, good, wrong

from pipeline.association import Refused, TriggerSeen, due_ns
from pipeline.messages import Fault


def announce(camera: Camera, panel: int, edge_ms: int) -> None:
    camera.tell(TriggerSeen(str(panel), panel, edge_ms * MS))


# --- windows ---


def test_a_window_ends_where_it_ends_however_late_the_next_one_begins():
    camera = Camera()
    camera.announce(0)
    camera.announce(1)  # 500 ms later, and nobody looked at the clock between
    camera.frame(400)
    assert camera.said() == [*wrong(0), *wrong(1)]


def test_no_exposure_before_the_end_of_the_last_set_is_the_next_ones():
    """A takt shorter than early_ns allows for: windows do not overlap even if the camera's clock goes back."""
    camera = Camera()
    announce(camera, 0, 0)
    for at_ms in (0, 30, 60):
        camera.frame(at_ms)
    announce(camera, 1, 100)
    camera.frame(55)
    assert ("1", Fault.ASSOCIATION) in camera.said()


def test_an_exposure_on_the_windows_edge_is_not_early():
    """A gap is seen in it, which concerns the panel that is open and not the confirmed one before it."""
    camera = Camera()
    camera.clean(0)
    camera.announce(1)
    camera.counter += 1
    camera.frame(TAKT_MS - 50)
    assert camera.said() == [*good(0), *wrong(1)]


# --- sets that go on near the next edge ---


@pytest.mark.parametrize(("edge_ms", "said"), [(350, wrong(0, 1)), (351, [])])
def test_a_set_that_ends_within_early_ns_of_the_next_edge_is_neither_ones(edge_ms, said):
    camera = Camera()
    announce(camera, 0, 0)
    for _ in range(CHANNELS):
        camera.frame(300)
    announce(camera, 1, edge_ms)
    assert camera.said() == said


# --- confirmed or not ---


def test_a_set_that_is_not_confirmed_goes_with_the_irregularity_after_it():
    camera = Camera()
    camera.announce(0)
    camera.frames(0)
    camera.announce(1)
    camera.counter += 1
    camera.frame(TAKT_MS)
    assert camera.said() == wrong(0, 1)


def test_a_refused_set_is_not_confirmed_by_what_follows():
    camera = Camera()
    camera.announce(0)
    for channel in range(CHANNELS):
        camera.frame(5 * channel, Fault.CAMERA if channel == 0 else None)
    camera.announce(1)
    camera.frames(1)
    assert camera.said() == wrong(0, fault=Fault.CAMERA)
    assert [result.index for result in camera.results if isinstance(result, Refused)] == [0]


# --- waiting for the pause ---


def irregular() -> Camera:
    """A frame outside its window at 305 ms, after which the camera was armed once."""
    camera = Camera()
    camera.announce(0)
    camera.frame(305)
    assert camera.rearmed == 1
    return camera


def test_the_camera_is_armed_in_a_pause_and_not_before():
    camera = irregular()
    camera.frame(309)
    assert due_ns(camera.state) == 319 * MS
    camera.tick(318)
    assert camera.rearmed == 1
    camera.tick(319)
    assert camera.rearmed == 2
    assert due_ns(camera.state) is None


def test_frames_that_come_before_the_pause_are_thrown_away():
    camera = irregular()
    for at_ms in (307, 309, 311):
        camera.frame(at_ms)
    assert camera.state.frames == ()


# --- what is given up ---


def test_a_set_that_stays_incomplete_keeps_the_name_of_what_was_wrong_with_it():
    camera = Camera()
    camera.announce(0)
    camera.frame(0, Fault.RING_FULL)
    camera.tick(401)
    assert camera.said() == wrong(0, fault=Fault.RING_FULL)


def test_frames_wait_for_their_trigger_until_settle_ns_after_their_exposure():
    camera = Camera()
    camera.frames(0)
    camera.tick(100)
    assert camera.rearmed == 0
    camera.tick(101)
    assert camera.rearmed == 1
