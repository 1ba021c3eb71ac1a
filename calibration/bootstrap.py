"""Intervals of figures by drawing panels anew, 2,000 times, each kind of defect (and the good ones) among themselves.

Every figure here is a ratio of sums over panels. So what a panel adds is counted once, in steps of the score, and a
draw only weighs panels: all draws are a few matrix products. Pixel figures take at most `STEPS` steps of the map, close
enough for an interval; the figures themselves, in `calibration.metrics`, are exact.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.panels import GOOD

RESAMPLES, SEED = 2000, 0
CHUNK = 250
LEVELS = np.concatenate([np.linspace(0, 1, 401), 1 - np.geomspace(1e-6, 1, 400)])
LIMITS = {"aupro30": 0.30, "aupro05": 0.05}

Floats = NDArray[np.float64]


def ranked(values: Sequence[float | None]) -> NDArray[np.float64]:
    """Scores [n], those that are no finite number above all others."""
    scores = np.array(values, float)
    finite = np.isfinite(scores)
    return np.where(finite, scores, scores[finite].max(initial=0.0) + 1)


def weights(kinds: Sequence[str], resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """How often each panel is drawn, [resamples, panels]; each kind keeps its number."""
    rng, names = np.random.default_rng(seed), np.array(kinds)
    drawn = np.zeros((resamples, len(names)))
    for kind in sorted(set(kinds)):
        members = np.flatnonzero(names == kind)
        drawn[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), resamples)
    return drawn


def image_figures(kinds: Sequence[str], scores: NDArray[np.floating], drawn: Floats) -> dict[str, Floats]:
    """Image AUROC of every draw, [draws] each: pooled, by defect ("image_auroc_by_defect.KIND") and the mean of those.

    Empty without both good and defective panels.
    """
    names = np.array(kinds)
    good = names == GOOD
    defects = sorted(set(kinds) - {GOOD})
    if not defects or not good.any():
        return {}
    by_kind = {kind: _image_auroc(names == kind, good, scores, drawn) for kind in defects}
    return {
        "image_auroc": _image_auroc(~good, good, scores, drawn),
        "image_auroc_mean": np.mean(list(by_kind.values()), axis=0),
        **{f"image_auroc_by_defect.{kind}": values for kind, values in by_kind.items()},
    }


def pixel_figures(
    masks: NDArray[np.bool_], maps: NDArray[np.float32], areas: Floats, pixel_limit: float, drawn: Floats
) -> dict[str, Floats]:
    """Pixel figures of every draw, [draws] each, from masks, maps and `areas` [n, h, w]; empty without defects.

    `areas` is 1 / (pixels of the region) inside a defective region, else 0.
    """
    if not masks.any() or masks.all():
        return {}
    found = pixel_draws(pixel_sums(masks, maps, areas), drawn)
    marked = maps > pixel_limit
    both, true, seen = (drawn @ each.sum(axis=(1, 2)) for each in (masks & marked, masks, marked))
    return found | {"segf1": 2 * both / np.maximum(true + seen, 1)}


def pixel_sums(
    masks: NDArray[np.bool_], maps: NDArray[np.float32], areas: Floats, levels: Floats = LEVELS
) -> list[Floats]:
    """By panel and step of the map, highest first: defective pixels, good ones, shares of regions; [n, steps] each.

    `levels`: which quantiles of the defective pixels' values, and of the good ones', part the steps.
    """
    flat = maps.reshape(len(maps), -1)
    steps = _steps(flat, masks.reshape(len(masks), -1), levels)
    return [_by_step(flat, each.reshape(len(maps), -1), steps) for each in (masks, ~masks, areas)]


def pixel_draws(sums: Sequence[Floats], drawn: Floats) -> dict[str, Floats]:
    """Pixel figures of every draw, [draws] each, from what `pixel_sums` says of the panels."""
    parts = [_pixels(*(part @ each for each in sums)) for part in _chunks(drawn)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(values: Floats) -> list[float]:
    """The middle 95 % of the draws."""
    return [float(each) for each in np.quantile(values, (0.025, 0.975))]


def _image_auroc(
    bad: NDArray[np.bool_], good: NDArray[np.bool_], scores: NDArray[np.floating], drawn: Floats
) -> Floats:
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    sums = (np.add.reduceat((drawn * each)[:, order], starts, axis=1) for each in (bad, good))
    return _auroc(*sums)


def _pixels(true: Floats, false: Floats, overlap: Floats) -> dict[str, Floats]:
    """Figures of draws from their sums by step, [draws, steps] in."""
    regions = overlap.sum(axis=1, keepdims=True)
    x, y = (np.cumsum(each, axis=1) for each in (false / false.sum(axis=1, keepdims=True), overlap / regions))
    area = {name: _area_up_to(x, y, up_to) for name, up_to in LIMITS.items()}
    return {"pixel_auroc": _auroc(true, false), "pixel_ap": _average_precision(true, false), **area}


def _auroc(bad: Floats, good: Floats) -> Floats:
    """From sums by step, highest first, [draws, steps]; ties half."""
    below = good.sum(axis=1, keepdims=True) - np.cumsum(good, axis=1) + good / 2
    return (bad * below).sum(axis=1) / (bad.sum(axis=1) * good.sum(axis=1))


def _average_precision(bad: Floats, good: Floats) -> Floats:
    found, wrong = np.cumsum(bad, axis=1), np.cumsum(good, axis=1)
    return (bad * found / np.maximum(found + wrong, 1e-12)).sum(axis=1) / found[:, -1]


def _area_up_to(x: Floats, y: Floats, up_to: float) -> Floats:
    """Area below the curve [draws, steps] from 0 to `up_to`, divided by it; the last piece interpolated."""
    x, y = (np.pad(each, ((0, 0), (1, 0))) for each in (x, y))
    whole, piece = np.diff(x, axis=1), np.diff(np.minimum(x, up_to), axis=1)
    share = np.divide(piece, whole, out=np.zeros_like(piece), where=whole > 0)
    return (piece * (y[:, :-1] + np.diff(y, axis=1) * share / 2)).sum(axis=1) / up_to


def _steps(maps: NDArray[np.floating], masks: NDArray[np.bool_], levels: Floats) -> Floats:
    """Edges between steps, ascending: dense where defective pixels lie, and where the highest good ones do."""
    edges = [np.quantile(maps[chosen], levels) for chosen in (masks, ~masks)]
    return np.unique(np.concatenate(edges)).astype(float)


def _by_step(maps: NDArray[np.floating], values: NDArray, steps: Floats) -> Floats:
    """Sums of `values` [n, pixels] by panel and step of the map, highest first, [n, steps + 1]."""
    count = len(steps) + 1
    places = count - 1 - np.searchsorted(steps, maps, side="right")
    places += count * np.arange(len(maps))[:, None]
    sums = np.bincount(places.ravel(), values.ravel(), minlength=count * len(maps))
    return sums.astype(float).reshape(len(maps), count)


def _chunks(drawn: Floats) -> Iterator[Floats]:
    for start in range(0, len(drawn), CHUNK):
        yield drawn[start : start + CHUNK]
