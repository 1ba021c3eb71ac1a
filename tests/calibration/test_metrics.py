"""Figures equal their definitions, stated here once more and slowly."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("sklearn", reason="needs the extra [teach]")

from calibration import metrics
from calibration.metrics import SIDE, Result

LEVELS = st.integers(0, 6).map(lambda level: level / 8)  # few, so that there are ties
MASKS = arrays(bool, (2, 5, 5))
MAPS = arrays(np.float64, (2, 5, 5), elements=LEVELS)


@given(arrays(bool, 12), arrays(np.float64, 12, elements=LEVELS))
def test_auroc_counts_pairs(labels: np.ndarray, scores: np.ndarray) -> None:
    pairs = [(b > g) + (b == g) / 2 for b in scores[labels] for g in scores[~labels]]
    expected = pytest.approx(np.mean(pairs)) if pairs else None
    assert metrics.auroc(labels, scores) == expected


@given(arrays(bool, 12), arrays(np.float64, 12, elements=LEVELS))
def test_average_precision_sums_over_thresholds(labels: np.ndarray, scores: np.ndarray) -> None:
    found, before, area = metrics.average_precision(labels, scores), 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        passed = scores >= threshold
        recall = (labels & passed).sum() / max(labels.sum(), 1)
        area += (recall - before) * (labels & passed).sum() / passed.sum()
        before = recall
    assert found == (pytest.approx(area) if labels.any() else None)


@given(arrays(bool, 10), arrays(np.float64, 10, elements=LEVELS))
def test_f1_max_tries_every_threshold(labels: np.ndarray, scores: np.ndarray) -> None:
    found = metrics.f1_max(labels, scores)
    if not labels.any():
        assert found is None
        return
    tried = [2 * (labels & (scores >= t)).sum() / (labels.sum() + (scores >= t).sum()) for t in scores]
    assert found == pytest.approx(max(tried))


def aupro_by_loop(masks: np.ndarray, maps: np.ndarray, up_to: float) -> float:
    import cv2

    regions = []
    for number, mask in enumerate(masks):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += [(number, labels == label) for label in range(1, count)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        marked = maps >= threshold
        overlap = np.mean([marked[number][region].mean() for number, region in regions])
        points.append(((marked & ~masks).sum() / (~masks).sum(), float(overlap)))
    x, y = np.array(points).T
    inside = x <= up_to
    x, y = np.append(x[inside], up_to), np.append(y[inside], np.interp(up_to, x, y))
    return float(np.trapezoid(y, x) / up_to)


@given(MASKS, MAPS, st.sampled_from([0.05, 0.3, 1.0]))
def test_aupro_matches_the_loop(masks: np.ndarray, maps: np.ndarray, up_to: float) -> None:
    found = metrics.aupro(masks, maps, up_to)
    if not masks.any() or masks.all():
        assert found is None
    else:
        assert found == pytest.approx(aupro_by_loop(masks, maps, up_to))


def result(defect: str, passed: bool, score: float, spot: float = 0.0) -> Result:
    mask, map = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), np.float32)
    mask[4:8, 4:8] = defect != "good"
    map[4:8, 4:8] = spot
    return Result(defect, passed, score, map, mask)


def test_a_perfect_detector_has_perfect_figures() -> None:
    results = [result("good", True, 0.1), result("good", True, 0.2), result("pit", False, 0.9, 1.0)]
    found = metrics.figures(results, pixel_limit=0.5)
    for name in (
        "image_auroc",
        "pixel_auroc",
        "pixel_ap",
        "aupro30",
        "aupro05",
        "f1_max",
        "segf1",
        "accuracy",
    ):
        assert found[name] == pytest.approx(1.0), name
    assert found["image_auroc_by_defect"] == {"pit": 1.0}
    assert (found["miss"]["k"], found["miss"]["n"], found["false_reject"]["n"]) == (0, 1, 2)
    assert found["panels"] == 3


def test_misses_and_false_rejects_are_counted_by_the_decision_not_the_rank() -> None:
    results = [result("good", False, 0.1), result("good", True, 0.2), result("pit", True, 0.9, 1.0)]
    found = metrics.figures(results, pixel_limit=2.0)
    assert found["false_reject"]["rate"] == 0.5 and found["miss"]["rate"] == 1.0
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["segf1"] == 0.0


def test_sets_without_masks_or_without_defects_give_none_not_a_number() -> None:
    unlabelled = [
        result("good", True, 0.1),
        Result("pit", False, 0.9, np.zeros((SIDE, SIDE), np.float32), None),
    ]
    found = metrics.figures(unlabelled, 0.5)
    assert found["image_auroc"] == 1.0 and found["pixel_ap"] is None and found["aupro30"] is None
    only_good = metrics.figures([result("good", True, 0.1)], 0.5)
    assert only_good["image_auroc"] is None and only_good["miss"]["rate"] is None


def test_each_kind_of_defect_has_figures_of_its_own() -> None:
    results = [result("good", True, score) for score in (0.1, 0.2, 0.3)]
    results += [result("pit", False, 0.9), result("pit", True, 0.25), result("haze", True, 0.15)]
    found = metrics.figures(results, 0.5)
    pit, haze = found["by_defect"]["pit"], found["by_defect"]["haze"]
    assert pit["image_auroc"] == pytest.approx(5 / 6) and haze["image_auroc"] == pytest.approx(1 / 3)
    assert pit["image_ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert (pit["panels"], pit["miss"]["k"], haze["miss"]["k"], found["miss"]["k"]) == (2, 1, 1, 2)
    assert found["image_auroc_mean"] == pytest.approx((5 / 6 + 1 / 3) / 2)
    assert pit["interval95"][0] <= pit["image_auroc"] <= pit["interval95"][1]


def test_damaged_sets_are_counted_apart_and_count_on_the_line() -> None:
    results = [result("good", True, 0.1), result("good", True, 0.2), result("pit", True, 0.9)]
    results[1] = replace(results[1], damage="TORN")
    results[2] = replace(results[2], damage="LAMP")
    found = metrics.figures(results, 0.5)
    assert found["false_reject"]["k"] == 0 and found["miss"]["k"] == 1
    assert found["on_the_line"]["false_reject"]["k"] == 1 and found["on_the_line"]["miss"]["k"] == 0
    assert (found["damaged"]["good"]["k"], found["damaged"]["defective"]["k"]) == (1, 1)
    assert found["damaged"]["by_cause"] == {"LAMP": 1, "TORN": 1}


def test_counts_have_intervals_on_both_sides() -> None:
    found = metrics.rate(3, 20)
    assert found["interval95"] == pytest.approx([0.0321, 0.3789], abs=1e-4)  # Clopper-Pearson, from tables
    assert found["upper95"] == pytest.approx(0.3437, abs=1e-4)
    assert metrics.rate(0, 0)["interval95"] is None


def test_masks_keep_small_defects_when_pooled() -> None:
    mask = np.zeros((512, 256), bool)
    mask[100:104, 50:52] = True
    assert metrics.pooled_mask(mask).sum() == 1
