"""Intervals from draws of panels: each draw's figure is the figure of the panels drawn."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("sklearn", reason="needs the extra [teach]")

from calibration import bootstrap, metrics
from calibration.metrics import SIDE, Result

LEVELS = st.integers(0, 6).map(lambda level: level / 8)  # few, so that there are ties
KINDS = ("good", "good", "good", "good", "pit", "pit", "pit", "crack", "crack")


@given(arrays(np.float64, len(KINDS), elements=LEVELS), st.integers(0, 1000))
def test_a_draw_scores_what_the_drawn_panels_score(scores: np.ndarray, seed: int) -> None:
    drawn = bootstrap.weights(KINDS, 4, seed)
    found = bootstrap.image_figures(KINDS, scores, drawn)
    for number, times in enumerate(drawn.astype(int)):
        kinds, copies = np.repeat(KINDS, times), np.repeat(scores, times)
        assert found["image_auroc"][number] == pytest.approx(metrics.auroc(kinds != "good", copies))
        for kind in ("pit", "crack"):
            among = np.isin(kinds, ["good", kind])
            expected = pytest.approx(metrics.auroc(kinds[among] == kind, copies[among]))
            assert found[f"image_auroc_by_defect.{kind}"][number] == expected


def test_every_kind_keeps_its_number() -> None:
    drawn = bootstrap.weights(KINDS, 50)
    assert (drawn[:, :4].sum(axis=1) == 4).all() and (drawn[:, 7:].sum(axis=1) == 2).all()
    assert len(np.unique(drawn, axis=0)) > 40


def pictures(seed: int, count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Masks and maps [n, 24, 24]; the maps see the defects somewhat."""
    random = np.random.default_rng(seed)
    masks = np.zeros((count, 24, 24), bool)
    for mask in masks[::2]:
        row, column = random.integers(2, 18, 2)
        mask[row : row + 4, column : column + 3] = True
    return masks, (random.normal(0, 1, masks.shape) + 1.5 * masks).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_a_draws_pixel_figures_are_those_of_the_drawn_panels(seed: int) -> None:
    masks, maps = pictures(seed)
    areas, _ = metrics.region_weights(masks)
    drawn = bootstrap.weights(["pit", "good"] * 6, 3, seed)
    found = bootstrap.pixel_figures(masks, maps, areas, 1.0, drawn)
    for number, times in enumerate(drawn.astype(int)):
        truth, seen = np.repeat(masks, times, axis=0), np.repeat(maps, times, axis=0)
        expected = {
            "pixel_auroc": metrics.auroc(truth.ravel(), seen.ravel()),
            "pixel_ap": metrics.average_precision(truth.ravel(), seen.ravel()),
            "aupro30": metrics.aupro(truth, seen, 0.30),
            "aupro05": metrics.aupro(truth, seen, 0.05),
        }
        for name, value in expected.items():
            assert found[name][number] == pytest.approx(value, abs=0.01), name
        marked = seen > 1.0
        f1 = 2 * (truth & marked).sum() / (truth.sum() + marked.sum())
        assert found["segf1"][number] == pytest.approx(f1)


def test_a_score_that_is_no_number_ranks_above_all() -> None:
    np.testing.assert_array_equal(bootstrap.ranked([0.5, float("nan"), 2.0, None, float("inf")]), [0.5, 3, 2, 3, 3])
    spot = np.zeros((SIDE, SIDE), np.float32)
    results = [Result("good", True, 0.1, spot, None), Result("pit", False, float("nan"), spot, None)]
    found = metrics.figures(results, 0.5)
    assert found["image_auroc"] == 1.0 and found["results"][1]["score"] is None


def test_intervals_of_a_small_set_take_little_time() -> None:
    random = np.random.default_rng(0)
    results = []
    for number in range(45):
        mask = np.zeros((SIDE, SIDE), bool)
        mask[20:30, 20:30] = number >= 20
        map = (random.normal(0, 1, mask.shape) + mask).astype(np.float32)
        results.append(Result("pit" if number >= 20 else "good", True, float(map.max()), map, mask, str(number)))
    began = time.process_time()
    found = metrics.figures(results, 2.0)
    assert time.process_time() - began < 12
    low, high = found["intervals95"]["pixel_ap"]
    assert low < found["pixel_ap"] < high
    low, high = found["intervals95"]["image_auroc"]
    assert low < found["image_auroc"] < high
