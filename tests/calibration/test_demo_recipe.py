"""The recipe that ships tells simulated good panels from defective ones, and is small."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import engines
import pipeline
from engines import recipe as recipes
from engines.detector import open_detector
from engines.recipe import Recipe
from pipeline.simulation import defects, panel, watermark
from pipeline.simulation.panel import CHANNELS, Look

DEMO = Path(pipeline.__file__).parent / "demo" / "recipe"
SEED = 4_000_000  # none of these panels taught or measured the recipe


@pytest.fixture(scope="module")
def demo() -> Recipe:
    return recipes.load(DEMO)


def frames(number: int, kind: str | None = None) -> np.ndarray:
    drawn = panel.render(SEED + number, Look(), CHANNELS, defects.draw(kind, number) if kind else None)
    return watermark.stamp_set(drawn.frames, number)


def test_it_is_small_and_the_teacher_that_ships_taught_it(demo: Recipe) -> None:
    size = sum(file.stat().st_size for file in demo.path.rglob("*"))
    assert size < 6_500_000
    shipped = (Path(engines.__file__).parent / "backbones" / "takt.safetensors").read_bytes()
    assert demo.manifest.training.teacher_sha256 == hashlib.sha256(shipped).hexdigest()
    assert tuple(channel.name for channel in demo.manifest.channels) == CHANNELS


def test_golden_panels_answer_as_when_it_was_taught(demo: Recipe) -> None:
    with open_detector(demo, threads=1) as detector:
        found = detector.inspect([each.frames for each in demo.golden])
    for finding, golden in zip(found, demo.golden, strict=True):
        assert finding.score == pytest.approx(golden.score, abs=0.02)
        assert finding.passed is not golden.defective


def test_good_panels_pass(demo: Recipe) -> None:
    with open_detector(demo, threads=1) as detector:
        found = detector.inspect([frames(number) for number in range(32)])
    assert sum(finding.passed for finding in found) >= 31


@pytest.mark.parametrize("kind", ["scratch", "dust", "dent", "stain", "bubble"])
def test_defective_panels_do_not(demo: Recipe, kind: str) -> None:
    with open_detector(demo, threads=1) as detector:
        found = detector.inspect([frames(number, kind) for number in range(6)])
    assert not any(finding.passed for finding in found)
    assert all(finding.problem is None and finding.defects for finding in found)
