"""Panels of a set for deriving and judging an engine."""

from pathlib import Path

import numpy as np
import pytest

from calibration.derivation import calibrating, judging
from calibration.panels import PanelSet, write_panel
from engines.recipe import Channel, Limits, Manifest, Promise, Resize, ScoreStatistics, Training


@pytest.fixture
def manifest() -> Manifest:
    statistics = ScoreStatistics(panels=2, mean=0.2, std=0.1, minimum=0.1, median=0.2, maximum=0.3)
    promise = Promise(rate=0.1, confidence=0.9)
    return Manifest(
        product="toy",
        channels=(Channel(name="b", light="b"), Channel(name="a", light="a")),
        geometry=Resize(height=32, width=32),
        dtype="uint8",
        method="toy",
        settings={},
        training=Training(panels=2, held_out=2, seed=0, teacher="none"),
        limits=Limits(image=0.5, pixel=0.5, low=0.0, min_area_px=1, promise=promise, statistics=statistics),
        files={},
    )


@pytest.fixture
def panels(tmp_path: Path) -> PanelSet:
    """Channel a is 10 and more, b 100 and more, by panel."""
    for number in range(5):
        for place in ("train/good", "test/good", "test/dent"):
            frames = np.stack([np.full((8, 8), level + number, np.uint8) for level in (10, 100)])
            frames[:, 0, 0] = 0
            write_panel(tmp_path / place, f"p{number}", frames, ("a", "b"))
    return PanelSet(tmp_path)


def test_panels_to_calibrate_with_are_spread_over_the_set(panels: PanelSet, manifest: Manifest) -> None:
    found = list(calibrating(panels, manifest, most=3))
    assert [frames[:, 4, 4].tolist() for frames in found] == [[100, 10], [102, 12], [104, 14]]
    assert len(list(calibrating(panels, manifest))) == 5


def test_panels_to_judge_by_are_named_and_labelled(panels: PanelSet, manifest: Manifest) -> None:
    found = list(judging(panels, manifest))
    assert {(one.name, one.defective) for one in found} >= {("good/p0", False), ("dent/p4", True)}
    assert len(found) == 10 and all(one.frames[0, 4, 4] >= 100 for one in found)
