"""Golden panels lie near the limit, and not so near that the last digit of an engine would change their verdict."""

from pathlib import Path

import numpy as np
import pytest
from line import toy_line

from calibration import golden
from engines import recipe as recipes
from engines.detector import open_detector
from engines.recipe import Golden

LIMIT = 0.5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recipe whose score is the brightest cell's mean."""
    pytest.importorskip("onnx", reason="needs the extra [teach]")
    toy_line.write_recipe(tmp_path / "toy")
    return tmp_path / "toy"


def chosen(folder: Path, brightness: list[float]) -> list[Golden]:
    size = toy_line.INPUT_PX
    levels = np.round(np.array(brightness) * 255).astype(np.uint8)
    panels = np.broadcast_to(levels[:, None, None, None], (len(levels), len(toy_line.CHANNELS), size, size)).copy()
    with open_detector(recipes.load(folder)) as detector:
        return list(golden.choose(detector, panels, LIMIT, np.random.default_rng(0)))


def test_they_are_the_nearest_that_keep_their_distance(folder):
    spread = list(np.linspace(0.42, 0.499, 40))
    found = chosen(folder, spread)
    good = sorted(one.score for one in found if not one.defective)
    bad = [one.score for one in found if one.defective]
    assert len(good) == len(bad) == golden.EACH
    apart = [score for score in spread if LIMIT - score > golden.APART * LIMIT + 1 / 255]
    assert good == pytest.approx(sorted(apart)[-golden.EACH :], abs=2 / 255)
    assert min(bad) >= LIMIT * (1 + golden.APART)


def test_of_too_few_that_do_the_farthest_are_taken(folder):
    crowded = [0.30, 0.31] + [0.49] * 10
    good = sorted(one.score for one in chosen(folder, crowded) if not one.defective)
    assert good[:2] == pytest.approx([0.30, 0.31], abs=1 / 255) and len(good) == golden.EACH
