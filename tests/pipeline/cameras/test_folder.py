"""The replay of a panel set: every panel once, in order, whatever lies on the disk."""

import shutil
import time
from itertools import pairwise

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from calibration.panels import PanelSet, write_panel
from pipeline.cameras.folder import Settings, open_camera, panels_of
from pipeline.errors import CameraError, PanelError
from pipeline.simulation import watermark
from pipeline.simulation.wire import pulse

from .conftest import CHANNELS

ROOM = 200 * 200 * 3
PATIENCE_MS = 2000


def grab(camera):
    """The next frame [H, W] and what the camera says of it."""
    room = np.zeros(ROOM, np.uint8)
    exposure = camera.grab(room.data, PATIENCE_MS)
    assert exposure is not None, "no frame in time"
    height, width = exposure.shape
    return np.frombuffer(room, exposure.dtype, height * width).reshape(height, width), exposure


def trigger(wire, panel, in_ms=0):
    assert pulse([wire], panel, time.monotonic_ns() + in_ms * 1_000_000) == 1


@pytest.fixture
def loose(tmp_path):
    """Folders of panels without a set: grey pictures of differing sizes and depths, one broken."""
    folder = tmp_path / "loose"
    for number, (size, dtype) in enumerate([((50, 60), np.uint8), ((70, 40), np.uint16), ((50, 60), np.uint8)]):
        frames = np.full((1, *size), 40 * (number + 1), dtype)
        write_panel(folder, f"p{number * 5}", frames)
    (folder / "p7.png").write_bytes(b"no picture")
    return folder


def test_panels_come_in_natural_order_and_channels_in_channel_order(wire, shown):
    settings = Settings(set=shown, wire=wire, exposure_ms=0.5)
    panels = list(PanelSet(shown).panels("test"))
    assert panels_of(settings) == [f"{panel.defect}/{panel.name}" for panel in panels]
    with open_camera(settings, CHANNELS) as camera:
        camera.arm()
        for index, panel in enumerate(panels):
            assert not camera.exhausted()
            trigger(wire, index)
            frames = [grab(camera)[0] for _ in CHANNELS]
            np.testing.assert_array_equal(frames, PanelSet(shown).read(panel))
        assert camera.exhausted()
        trigger(wire, len(panels))
        assert camera.grab(np.zeros(ROOM, np.uint8).data, 30) is None
        assert camera.exhausted()


def test_a_loop_begins_again(wire, shown):
    with open_camera(Settings(set=shown, defects=("dent",), wire=wire, loop=True), CHANNELS) as camera:
        camera.arm()
        seen = []
        for index in range(5):
            trigger(wire, index)
            frames = [grab(camera)[0] for _ in CHANNELS]
            seen.append(frames[0])
        np.testing.assert_array_equal(seen[4], seen[0])
        assert not camera.exhausted()


def test_one_camera_may_take_some_of_the_channels(wire, shown):
    mine = (CHANNELS[2], CHANNELS[0])
    with open_camera(Settings(set=shown, wire=wire), mine) as camera:
        camera.arm()
        trigger(wire, 0)
        marks = [watermark.read(grab(camera)[0]) for _ in mine]
    assert [mark and mark.channel for mark in marks] == [2, 0]


def test_sizes_and_depths_may_differ_and_a_broken_panel_costs_only_itself(wire, loose):
    settings = Settings(folders=(loose,), wire=wire)
    assert panels_of(settings) == ["loose/p0", "loose/p5", "loose/p7", "loose/p10"]
    with open_camera(settings, ("grey",)) as camera:
        camera.arm()
        trigger(wire, 0)
        assert grab(camera)[0].shape == (50, 60)
        trigger(wire, 1)
        deep, exposure = grab(camera)
        assert exposure.dtype == "uint16" and deep.shape == (70, 40) and (deep == 80).all()
        trigger(wire, 2)
        with pytest.raises(CameraError, match=r"p7\.png") as said:
            grab(camera)
        assert "\n" not in str(said.value)
        trigger(wire, 3)
        frame, exposure = grab(camera)
        assert (frame == 120).all() and exposure.counter == 3
        assert camera.exhausted()


def test_a_missing_channel_is_one_error_and_the_next_panel_is_whole(wire, shown, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(shown, copy)
    (copy / "test" / "dent" / "0000" / f"{CHANNELS[1]}.png").unlink()
    with open_camera(Settings(set=copy, wire=wire, exposure_ms=0.5), CHANNELS) as camera:
        camera.arm()
        trigger(wire, 1)
        with pytest.raises(CameraError, match=f"channel {CHANNELS[1]} is missing"):
            grab(camera)
        trigger(wire, 2, in_ms=5)  # the broken panel's other exposures go on
        counters = [grab(camera)[1].counter for _ in CHANNELS]
    assert counters == [3, 4, 5]


def test_a_colour_picture_is_three_channels(wire, tmp_path):
    picture = np.zeros((40, 50, 3), np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = 10, 20, 30  # blue, green, red in OpenCV's order
    (tmp_path / "test" / "good").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "test" / "good" / "a.png"), picture)
    with open_camera(Settings(set=tmp_path, wire=wire), ("red", "green", "blue")) as camera:
        camera.arm()
        trigger(wire, 0)
        assert [int(grab(camera)[0].max()) for _ in range(3)] == [30, 20, 10]


def test_a_pulse_without_a_panel_shows_a_black_field(wire, shown):
    with open_camera(Settings(set=shown, wire=wire), CHANNELS) as camera:
        camera.arm()
        trigger(wire, -1)
        frames = [grab(camera)[0] for _ in CHANNELS]
    assert [frame.shape for frame in frames] == [(80, 112)] * 3 and not np.any(frames)


def test_the_wire_says_which_panel_even_after_a_lost_pulse(wire, shown):
    with open_camera(Settings(set=shown, wire=wire), CHANNELS) as camera:
        camera.arm()
        for index in (3, 0):
            trigger(wire, index)
            marks = [watermark.read(grab(camera)[0]) for _ in CHANNELS]
            assert {mark and mark.panel for mark in marks} == {2 + [0, 1, 3, 2, 4][index]}


def test_without_a_wire_it_paces_itself_and_ends(shown):
    settings = Settings(set=shown, pace_ms=25.0, exposure_ms=1.0)
    with open_camera(settings, CHANNELS) as camera:
        camera.arm()
        stamps = []
        while not camera.exhausted():
            stamps.append(grab(camera)[1].exposed_ns)
    assert len(stamps) == 5 * len(CHANNELS)
    starts = stamps[:: len(CHANNELS)]
    assert [b - a for a, b in pairwise(starts)] == [25_000_000] * 4


def test_a_pacing_replay_ends_even_when_its_last_panel_is_thrown_away(shown):
    with open_camera(Settings(set=shown, split="train", pace_ms=10.0, exposure_ms=1.0), CHANNELS) as camera:
        camera.arm()
        while grab(camera)[1].counter < len(CHANNELS):
            assert not camera.exhausted()
        camera.arm()
        assert camera.exhausted()


def test_it_reads_faster_than_the_line_asks(wire, shown):
    """With panels read ahead, a grab that follows its exposure does not wait for the disk."""
    with open_camera(Settings(set=shown, wire=wire, exposure_ms=0.1), CHANNELS) as camera:
        camera.arm()
        trigger(wire, 0)
        for _ in CHANNELS:
            grab(camera)
        deadline = time.monotonic() + 10
        reader = camera._reader
        while not all(reading.done() for reading in reader._readings.values()):
            assert time.monotonic() < deadline
        assert len(reader._readings) == 4


@pytest.mark.parametrize(
    ("settings", "line"),
    [({"set": "nowhere"}, "no such panel set"), ({"folders": ["nowhere"]}, "no such folder")],
)
def test_a_missing_set_is_said_in_one_line(settings, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PanelError, match=line):
        panels_of(Settings.model_validate(settings))


def test_an_empty_split_is_said_in_one_line(tmp_path):
    with pytest.raises(CameraError, match="no panels"), open_camera(Settings(set=tmp_path), ("grey",)):
        pass


def test_a_pace_faster_than_its_exposures_is_refused(shown):
    settings = Settings(set=shown, pace_ms=5.0, exposure_ms=2.0)
    with pytest.raises(CameraError, match="make it longer"), open_camera(settings, CHANNELS):
        pass


def test_either_a_set_or_folders():
    for settings in ({}, {"set": "a", "folders": ["b"]}):
        with pytest.raises(ValidationError, match="either a panel set"):
            Settings.model_validate(settings)
