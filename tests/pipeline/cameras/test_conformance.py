"""What every camera kind promises. The suite lists the folder: a new kind needs a rig in conftest.py."""

import threading
import time

import numpy as np
import pytest

from engines import plugins
from pipeline.cameras import open_camera, settings_of
from pipeline.errors import CameraError, UsageError
from pipeline.simulation import watermark
from pipeline.simulation.wire import pulse

from .conftest import CHANNELS, RIGS, SIZE

KINDS = plugins.kinds("pipeline.cameras")
SHAPE = (SIZE["height"], SIZE["width"])
PATIENCE_MS = 2000


@pytest.fixture(params=KINDS)
def rig(request, wire, shown):
    assert request.param in RIGS, f"camera kind {request.param!r} has no rig: add one to conftest.py"
    return RIGS[request.param](wire, shown)


def opened(rig, channels=CHANNELS, **changes):
    """The rig's camera, opened as a capture opens it."""
    settings = settings_of(rig.kind, {**rig.settings, **changes}, under=lambda path: path, wire=None)
    return open_camera(rig.kind, settings, channels)


@pytest.fixture
def camera(rig):
    with opened(rig) as camera:
        camera.arm()
        yield camera


@pytest.fixture
def pixels():
    return np.zeros(SHAPE, np.uint8)


def grabbed(camera, pixels, count):
    exposures = []
    for _ in range(count):
        exposure = camera.grab(pixels.data.cast("B"), PATIENCE_MS)
        assert exposure is not None, f"frame {len(exposures)} did not come"
        exposures.append((exposure, watermark.read(pixels)))
    return exposures


def test_one_trigger_gives_one_frame_a_channel_in_order(rig, camera, pixels):
    rig.trigger(0)
    marks = [mark for _, mark in grabbed(camera, pixels, len(CHANNELS))]
    assert [mark.channel for mark in marks] == [0, 1, 2]
    assert camera.grab(pixels.data.cast("B"), 0) is None


def test_frames_are_counted_from_0_after_arming(rig, camera, pixels):
    rig.trigger(0)
    assert [exposure.counter for exposure, _ in grabbed(camera, pixels, 3)] == [0, 1, 2]
    rig.trigger(1)
    assert [exposure.counter for exposure, _ in grabbed(camera, pixels, 3)] == [3, 4, 5]
    camera.arm()
    rig.trigger(2)
    assert [exposure.counter for exposure, _ in grabbed(camera, pixels, 3)] == [0, 1, 2]


def test_arming_throws_away_what_was_exposed(rig, camera, pixels):
    rig.trigger(0)
    first = grabbed(camera, pixels, 1)[0][1]
    camera.arm()
    assert camera.grab(pixels.data.cast("B"), 5) is None
    rig.trigger(1)
    (exposure, mark), *_ = grabbed(camera, pixels, 1)
    assert exposure.counter == 0 and mark.panel != first.panel


def test_a_trigger_before_arming_is_not_answered_after_it(rig, camera, pixels):
    rig.trigger(0)
    camera.arm()
    assert camera.grab(pixels.data.cast("B"), 20) is None


def test_exposures_are_stamped_with_their_start_and_described(rig, camera, pixels):
    before = time.monotonic_ns()
    rig.trigger(0)
    exposures = [exposure for exposure, _ in grabbed(camera, pixels, 3)]
    stamps = [exposure.exposed_ns for exposure in exposures]
    assert before <= stamps[0] and stamps == sorted(set(stamps)) and stamps[-1] < time.monotonic_ns()
    assert {(exposure.shape, exposure.dtype) for exposure in exposures} == {(SHAPE, "uint8")}


def test_a_grab_without_a_frame_ends_in_time(camera, pixels):
    for timeout_ms in (0, 30):
        start = time.monotonic()
        assert camera.grab(pixels.data.cast("B"), timeout_ms) is None
        assert timeout_ms / 1000 - 0.002 <= time.monotonic() - start < timeout_ms / 1000 + 0.5


def test_a_frame_larger_than_its_room_is_described_and_not_written(rig, camera):
    room = np.full(SHAPE[0] * SHAPE[1] - 1, 77, np.uint8)
    rig.trigger(0)
    exposure = camera.grab(room.data, PATIENCE_MS)
    assert exposure is not None and exposure.shape == SHAPE
    assert (room == 77).all()


def test_pixels_go_to_the_start_of_the_room_and_no_further(rig, camera):
    room = np.full(SHAPE[0] * SHAPE[1] + 500, 77, np.uint8)
    rig.trigger(0)
    assert camera.grab(room.data, PATIENCE_MS) is not None
    assert (room[-500:] == 77).all()
    assert watermark.read(room[:-500].reshape(SHAPE)) is not None


def test_the_same_panel_gives_the_same_pixels(rig, camera, pixels):
    seen = []
    for _ in range(2):
        camera.arm()
        rig.trigger(1)
        grabbed(camera, pixels, 1)
        seen.append(pixels.copy())
    np.testing.assert_array_equal(*seen)


def test_leaving_closes_threads_and_wires(rig, pixels):
    before = set(threading.enumerate())
    with opened(rig) as camera:
        camera.arm()
        assert rig.trigger(0) == len(rig.wires)
        grabbed(camera, pixels, 1)
    assert set(threading.enumerate()) == before
    assert not any(path.exists() for path in rig.wires)
    assert pulse(list(rig.wires), 0, 0) == 0


def test_it_opens_again_after_closing(rig, pixels):
    for _ in range(2):
        with opened(rig) as camera:
            camera.arm()
            rig.trigger(0)
            assert grabbed(camera, pixels, 1)[0][0].counter == 0


def test_it_is_not_exhausted_before_its_first_panel(camera):
    assert not camera.exhausted()


def test_an_unknown_channel_is_refused_in_one_line(rig):
    with (
        pytest.raises((CameraError, UsageError), match=r"no .*channel") as said,
        opened(rig, ("infrared",)),
    ):
        pass
    assert "\n" not in str(said.value)


def test_an_unknown_setting_is_refused(rig):
    with pytest.raises(UsageError, match="gain"), opened(rig, gain=3):
        pass


def test_a_wire_that_cannot_be_connected_is_a_camera_error(rig, tmp_path):
    nowhere = str(tmp_path / "nowhere" / "w")
    with pytest.raises(CameraError, match="cannot be connected"), opened(rig, wire=nowhere):
        pass
