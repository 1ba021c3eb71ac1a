"""Figures of a detector over labelled panels, definitions fixed here and nowhere else.

Pixel figures pool all panels at 128 x 128: maps resized linearly, masks by area, a cell being defective above a
quarter. Scores are never clamped or rescaled before ranking. `f1_max` is image level and picks its threshold on
the test labels: an upper bound. `segf1` is pixel level at the recipe's own pixel limit. A score that is no finite
number ranks above all others, as on the line, where it is a reject.

`results` has a row a panel; of a panel with a mask it holds what `calibration.paired` needs of its pixels.

Counts have Clopper-Pearson intervals, AUROC and pixel figures bootstrap intervals (`calibration.bootstrap`). Panels
whose image set the integrity checks name damaged are counted apart: `false_reject` and `miss` tell of the score alone,
`on_the_line` of both.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration import bootstrap, paired
from calibration.panels import GOOD
from calibration.rates import interval, upper_bound

SIDE = 128
MASK_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Result:
    """One inspected panel. `map` and `mask` are [128, 128], see `pooled_map` and `pooled_mask`; mask None: unknown.

    `damage` is the cause for which the integrity checks would reject its image set.
    """

    defect: str
    passed: bool
    score: float
    map: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    name: str = ""
    damage: str | None = None


def pooled_map(map: NDArray[np.float32]) -> NDArray[np.float32]:
    """A map [h, w] at the size of the pixel figures."""
    return np.asarray(cv2.resize(map, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.float32)


def pooled_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask [H, W] at the size of the pixel figures."""
    share = cv2.resize(mask.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(share) > MASK_SHARE


def figures(results: Sequence[Result], pixel_limit: float) -> dict[str, Any]:
    """Every figure by its name in the command's JSON; None where the panels do not allow it."""
    images = _image_figures(results, bootstrap.ranked([one.score for one in results]))
    pixels = _pixel_figures(results, pixel_limit)
    images["intervals95"] |= pixels.pop("pixel_intervals95")
    told = iter(pixels.pop("pixel_sums"))
    rows = [_row(one) | ({"pixels": next(told)} if one.mask is not None else {}) for one in results]
    return {"panels": len(results), **images, **pixels, **_counts(results), "results": rows}


def rate(hits: int, count: int) -> dict[str, Any]:
    """A count with its Clopper-Pearson bounds: one-sided 95 %, and the two-sided 95 % interval."""
    if not count:
        return {"k": hits, "n": count, "rate": None, "upper95": None, "interval95": None}
    bounds = {"upper95": upper_bound(hits, count), "interval95": list(interval(hits, count))}
    return {"k": hits, "n": count, "rate": hits / count, **bounds}


def _row(one: Result) -> dict[str, Any]:
    score = one.score if np.isfinite(one.score) else None
    return {"panel": one.name, "defect": one.defect, "score": score, "passed": one.passed, "damage": one.damage}


def auroc(labels: NDArray[np.bool_], scores: NDArray[np.floating]) -> float | None:
    """Probability that a defective one scores above a good one, ties half; None without both."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores)) if labels.any() and not labels.all() else None


def average_precision(labels: NDArray[np.bool_], scores: NDArray[np.floating]) -> float | None:
    """Sum of precision over the steps of recall; None without a defective one."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores)) if labels.any() else None


def f1_max(labels: NDArray[np.bool_], scores: NDArray[np.floating]) -> float | None:
    """Largest F1 over all thresholds; None without a defective one."""
    from sklearn.metrics import precision_recall_curve

    if not labels.any():
        return None
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


def aupro(masks: NDArray[np.bool_], maps: NDArray[np.floating], up_to: float) -> float | None:
    """Area under per-region overlap against false-positive rate up to `up_to`, divided by it (Bergmann et al. 2021).

    Regions are 8-connected over [n, h, w]; the false-positive rate is over all defect-free pixels of the set.
    Pixels of one score are passed together; the last point is interpolated.
    """
    weights, regions = region_weights(masks)
    if regions == 0 or masks.all():
        return None
    order = np.argsort(-maps, axis=None, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(maps.ravel()[order])), order.size - 1)
    overlap = np.cumsum(weights.ravel()[order])[ends] / regions
    false = np.cumsum(~masks.ravel()[order])[ends] / (~masks).sum()
    return _area(np.insert(false, 0, 0.0), np.insert(overlap, 0, 0.0), up_to)


def _area(x: NDArray[np.float64], y: NDArray[np.float64], up_to: float) -> float:
    inside = x <= up_to
    x_cut, y_cut = np.append(x[inside], up_to), np.append(y[inside], np.interp(up_to, x, y))
    return float(np.trapezoid(y_cut, x_cut) / up_to)


def region_weights(masks: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """1 / area at every pixel of a region, 0 elsewhere; and how many regions there are."""
    weights, regions = np.zeros(masks.shape), 0
    for mask, weight in zip(masks, weights, strict=True):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        area = np.concatenate([[np.inf], stats[1:, cv2.CC_STAT_AREA]])
        weight[:] = 1 / area[labels]
        regions += count - 1
    return weights, regions


def _image_figures(results: Sequence[Result], scores: NDArray[np.float64]) -> dict[str, Any]:
    """AUROC and AP of images, with bootstrap intervals; `by_defect` tells of each kind against the good panels."""
    kinds = [one.defect for one in results]
    bad = np.array([kind != GOOD for kind in kinds], bool)
    drawn = bootstrap.image_figures(kinds, scores, bootstrap.weights(kinds))
    spread = {name: bootstrap.interval(values) for name, values in drawn.items()}
    by_kind = {kind: _of_kind(results, scores, kind, spread) for kind in sorted(set(kinds) - {GOOD})}
    known = [each["image_auroc"] for each in by_kind.values() if each["image_auroc"] is not None]
    return {
        "image_auroc": auroc(bad, scores),
        "image_auroc_by_defect": {kind: each["image_auroc"] for kind, each in by_kind.items()},
        "image_auroc_mean": float(np.mean(known)) if known else None,
        "f1_max": f1_max(bad, scores),
        "by_defect": by_kind,
        "intervals95": {name: each for name, each in spread.items() if "." not in name},
        "bootstrap": {"resamples": bootstrap.RESAMPLES, "seed": bootstrap.SEED, "strata": "kinds of defect, and good"},
    }


def _of_kind(
    results: Sequence[Result], scores: NDArray[np.float64], kind: str, spread: dict[str, list[float]]
) -> dict[str, Any]:
    chosen = np.array([one.defect in (GOOD, kind) for one in results])
    bad = np.array([one.defect == kind for one in results])[chosen]
    of_kind = [one for one in results if one.defect == kind]
    return {
        "panels": len(of_kind),
        "image_auroc": auroc(bad, scores[chosen]),
        "interval95": spread.get(f"image_auroc_by_defect.{kind}"),
        "image_ap": average_precision(bad, scores[chosen]),
        "miss": rate(sum(one.passed for one in of_kind), len(of_kind)),
    }


def _counts(results: Sequence[Result]) -> dict[str, Any]:
    """Decisions by the score alone, what the integrity checks named, and what comes of both."""
    right = sum(one.passed == (one.defect == GOOD) for one in results)
    kinds = sorted({one.defect for one in results} - {GOOD})
    by_kind = {kind: [one for one in results if one.defect == kind] for kind in kinds}
    return {
        "accuracy": right / len(results) if results else None,
        "accuracy_interval95": list(interval(right, len(results))) if results else None,
        **_decided(results, [one.passed for one in results]),
        "miss_by_defect": {kind: rate(sum(one.passed for one in all), len(all)) for kind, all in by_kind.items()},
        "on_the_line": _decided(results, [one.passed and one.damage is None for one in results]),
        "damaged": _damaged(results),
    }


def _decided(results: Sequence[Result], passed: Sequence[bool]) -> dict[str, Any]:
    good = [each for each, one in zip(passed, results, strict=True) if one.defect == GOOD]
    bad = [each for each, one in zip(passed, results, strict=True) if one.defect != GOOD]
    return {"false_reject": rate(len(good) - sum(good), len(good)), "miss": rate(sum(bad), len(bad))}


def _damaged(results: Sequence[Result]) -> dict[str, Any]:
    good = [one.damage is not None for one in results if one.defect == GOOD]
    bad = [one.damage is not None for one in results if one.defect != GOOD]
    causes = Counter(one.damage for one in results if one.damage is not None)
    return {
        "good": rate(sum(good), len(good)),
        "defective": rate(sum(bad), len(bad)),
        "by_cause": dict(sorted(causes.items())),
    }


def _pixel_figures(results: Sequence[Result], pixel_limit: float) -> dict[str, Any]:
    labelled = [(one.map, one.mask, one.defect) for one in results if one.mask is not None]
    maps = np.stack([each[0] for each in labelled]) if labelled else np.zeros((0, SIDE, SIDE), np.float32)
    masks = np.stack([each[1] for each in labelled]) if labelled else np.zeros((0, SIDE, SIDE), bool)
    kinds = [each[2] for each in labelled]
    by_kind = {}
    for kind in sorted(set(kinds) - {GOOD}):
        chosen = np.isin(kinds, [GOOD, kind])
        by_kind[kind] = average_precision(masks[chosen].ravel(), maps[chosen].ravel())
    areas, _ = region_weights(masks)
    drawn = bootstrap.pixel_figures(masks, maps, areas, pixel_limit, bootstrap.weights(kinds))
    return {
        "pixel_auroc": auroc(masks.ravel(), maps.ravel()),
        "pixel_ap": average_precision(masks.ravel(), maps.ravel()),
        "pixel_ap_by_defect": by_kind,
        "aupro30": aupro(masks, maps, 0.30),
        "aupro05": aupro(masks, maps, 0.05),
        "segf1": _f1(masks, maps > pixel_limit),
        "pixel_sums": paired.texts(masks, maps, areas),
        "pixel_intervals95": {name: bootstrap.interval(values) for name, values in drawn.items()},
    }


def _f1(masks: NDArray[np.bool_], marked: NDArray[np.bool_]) -> float | None:
    if not masks.any():
        return None
    return float(2 * (masks & marked).sum() / (masks.sum() + marked.sum()))
