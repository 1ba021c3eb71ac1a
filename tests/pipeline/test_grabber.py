"""The camera's thread alone: how it ends, and what it gives out after the camera was armed anew."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from station_parts import CHANNELS, ScriptedCamera, pixels, rings, settings, until

from pipeline.config import LineConfig
from pipeline.errors import CameraError
from pipeline.frames import Ring
from pipeline.grabber import MOST_FAILURES, FilledSet, Grabber


@contextmanager
def grabbing(config: LineConfig, camera: ScriptedCamera) -> Iterator[Grabber]:
    """A grabber alone, its camera armed."""
    grabber = Grabber(camera, Ring(config.ring("top")), len(CHANNELS))
    try:
        until(lambda: camera.armed)
        yield grabber
    finally:
        grabber.close()


@pytest.mark.parametrize("when", ["arm", "grab"])
def test_a_camera_that_dies_ends_its_capture(tmp_path, when):
    class Dying(ScriptedCamera):
        def arm(self) -> None:
            super().arm()
            if when == "arm":
                raise CameraError("unplugged: plug it in")

    config, camera = settings(tmp_path), Dying()
    with rings(config), grabbing(config, camera) as grabber:
        camera.expose(OSError("unplugged"))
        with pytest.raises((CameraError, OSError), match="unplugged"):
            until(grabber.take)


def test_a_camera_that_fails_without_end_ends_its_capture(tmp_path):
    config, camera = settings(tmp_path), ScriptedCamera()
    with rings(config), grabbing(config, camera) as grabber:
        failures = [CameraError("no answer")] * MOST_FAILURES
        camera.expose(*failures, pixels(1), pixels(2), *failures)  # one good set in between: it is still there
        until(lambda: grabber.take() is None or grabber.failures == 2 * MOST_FAILURES)
        grabber.take()
        camera.expose(CameraError("no answer"))
        with pytest.raises(CameraError, match=f"{MOST_FAILURES} image sets lost one after the other: no answer"):
            until(lambda: grabber.take() and False)


def test_what_was_grabbed_before_a_rearm_is_not_given_out(tmp_path):
    config, camera = settings(tmp_path), ScriptedCamera()
    ring_name = config.ring("top")
    with rings(config), grabbing(config, camera) as grabber:
        camera.expose(pixels(1), pixels(2), pixels(3))
        until(lambda: len(grabber._out) == 4)  # a full set, its two frames, and one more
        grabber.rearm()
        assert grabber.take() == []
        until(lambda: camera.armed == 2)
        until(lambda: Ring(ring_name).free() == 2)


@pytest.mark.parametrize(("keep", "given"), [(1, [1]), (0, []), (None, [])])
def test_of_the_set_under_way_at_a_rearm_the_frames_that_came_are_given_where_they_are_asked_for(tmp_path, keep, given):
    config, camera = settings(tmp_path), ScriptedCamera()
    with rings(config), grabbing(config, camera) as grabber:
        camera.expose(pixels(1), pixels(2), pixels(3))
        until(lambda: len(grabber._out) == 4)
        grabber.take()
        grabber.rearm(keep)
        until(lambda: camera.armed == 2)
        rest = [item for item in grabber.take() if isinstance(item, FilledSet)]
        assert [(item.index, item.shape[0], item.rest) for item in rest] == [(index, 1, True) for index in given]
