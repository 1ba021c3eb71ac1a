"""What is wrong with a set is said in one line each, before hours are spent on it; a sound set is not talked about."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.doubts import doubts, refuse_constant
from calibration.panels import Panel, PanelSet, write_panel
from engines.errors import PanelError

NAMES = ("a", "b")


def frames(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (2, 12, 10), np.uint8)


@pytest.fixture
def panels(tmp_path: Path) -> PanelSet:
    mask = np.zeros((12, 10), bool)
    mask[2:4, 2:4] = True
    for number in range(4):
        write_panel(tmp_path / "train" / "good", f"p{number}", frames(number), NAMES)
        write_panel(tmp_path / "test" / "good", f"p{number}", frames(10 + number), NAMES)
        write_panel(tmp_path / "test" / "pit", f"p{number}", frames(20 + number), NAMES, mask)
    return PanelSet(tmp_path)


def test_a_sound_set_is_not_talked_about(panels: PanelSet) -> None:
    assert doubts(panels, "train") == doubts(panels, "test") == []
    shutil.rmtree(panels.path / "ground_truth")  # a set without any masks is a set of another sort
    assert doubts(panels, "test") == []


def test_pictures_that_come_twice_are_named(panels: PanelSet) -> None:
    good = panels.path / "train" / "good"
    shutil.copy(good / "p0" / "a.png", good / "p2" / "b.png")
    (line,) = doubts(panels, "train")
    assert "train/good/p0/a.png is the same picture as train/good/p2/b.png" in line
    assert doubts(panels, "test") == []


def test_a_test_panel_that_was_taught_is_named_when_tested(panels: PanelSet) -> None:
    shutil.copytree(panels.path / "train" / "good" / "p1", panels.path / "test" / "good" / "p9")
    assert doubts(panels, "train") == []
    lines = doubts(panels, "test")
    assert len(lines) == 2 and all("train/good/p1" in line and "test/good/p9" in line for line in lines)


def test_many_duplicates_are_counted_not_listed(panels: PanelSet) -> None:
    for number in range(4):
        shutil.copytree(panels.path / "train/good" / f"p{number}", panels.path / "train/good" / f"q{number}")
    lines = doubts(panels, "train")
    assert len(lines) == 6 and lines[-1].startswith("3 more")


def test_pictures_of_equal_size_are_no_duplicates(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "good"
    folder.mkdir(parents=True)
    for number in range(3):
        cv2.imencode(".bmp", frames(number)[0])[1].tofile(folder / f"{number}.bmp")
    assert doubts(PanelSet(tmp_path), "train") == []


def test_masks_without_a_panel_and_defects_without_a_mask_are_named(panels: PanelSet) -> None:
    truth = panels.path / "ground_truth" / "pit"
    (truth / "p1_mask.png").rename(truth / "p17_mask.png")
    (truth / "p2_mask.png").rename(truth / "p2.png")
    for_teach, (alone, without) = doubts(panels, "train"), doubts(panels, "test")
    assert for_teach == [alone]
    assert "no panel in test/pit or train/pit for p17_mask.png, p2.png" in alone
    assert without.startswith("test/pit: p1, p2 have no mask")


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_constant_channel_is_refused_by_name(value: int) -> None:
    panel, picture = Panel("p3", "good", Path("set/train/good/p3")), frames(0)
    refuse_constant(picture, panel, NAMES)
    picture[1] = value
    with pytest.raises(PanelError, match=rf"p3: every pixel of b is {value}: look for") as raised:
        refuse_constant(picture, panel, NAMES)
    assert "\n" not in str(raised.value)
