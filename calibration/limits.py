"""Limits from good panels that training never saw, and what those few panels can promise."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.rates import binomial_cdf, upper_bound
from calibration.specimens import counted, highest_of
from engines.errors import PanelError
from engines.recipe import Limits, Promise, ScoreStatistics

PIXEL_QUANTILE = 0.999
FEWEST = 5
LOW_AT_MOST = 0.9  # of the lowest score
ROOM = 1e-3  # standard deviations: engines of one network differ in the last digits


def set_limits(
    scores: NDArray[np.float64],
    maps: NDArray[np.float32],
    promise: Promise,
    area_px: int,
    specimens: Sequence[str] = (),
) -> tuple[Limits, str | None]:
    """Limits from unseen good panels' `scores` [n] and `maps` [n, ...]; a remark if the wish is not kept.

    What is promised is promised of specimens, with the highest score of each: image sets of one thing are no trials of
    their own. It holds for its image sets all the more. Without `specimens` [n] each panel is one.

    `low` lies as far below the lowest score, as a ratio, as that lies below the median, and a tenth at least (our
    rule: nothing real scores there, and an engine that answers zeros does). Scores of panels that are all alike differ
    by less than the scales of a fold's network and the recipe's.
    The pixel limit is the 99.9 % quantile of all cells. `area_px` is the panel area of one map cell.

    Raises:
        PanelError: too few panels, or scores that are not finite.
    """
    highest = highest_of(scores, specimens)
    what = counted(len(highest) < len(scores))
    if len(highest) < FEWEST:
        raise PanelError(f"only {len(highest)} {what} held out; {FEWEST} are the least for a limit: add panels")
    if not (np.isfinite(scores).all() and np.isfinite(maps).all()):
        raise PanelError("a good panel scores no finite number; look for damaged pictures")
    limit, kept = image_limit(highest, promise)
    remark = None
    if kept != promise:
        remark = (
            f"{len(highest)} {what} promise no less than {kept.rate:.1%} false rejects with {kept.confidence:.0%}"
            f" confidence, not {promise.rate:.1%}; that takes {panels_needed(promise)} panels"
        )
    median, lowest = float(np.median(scores)), float(scores.min())
    if lowest <= 0:
        raise PanelError(f"a good panel scores {lowest:.3g}; scores are positive: look for a constant picture")
    limits = Limits(
        image=limit + ROOM * float(scores.std(ddof=1)),
        pixel=float(np.quantile(maps, PIXEL_QUANTILE)),
        low=lowest * min(lowest / median, LOW_AT_MOST),
        min_area_px=max(1, area_px),
        cell_px=area_px,
        promise=kept,
        statistics=_statistics(scores),
    )
    return limits, remark


def image_limit(scores: NDArray[np.float64], promise: Promise) -> tuple[float, Promise]:
    """The smallest order statistic that keeps the promise, with it; the largest score and what it keeps, if none.

    A one-sided distribution-free tolerance bound (Wilks 1941): the share of good panels above the m-th smallest
    of n scores is Beta(n - m + 1, m) distributed, whatever the scores' own distribution.
    """
    ranked = np.sort(np.asarray(scores, float))
    count = len(ranked)
    rank = bisect_left(range(1, count + 1), promise.confidence, key=lambda m: confidence(count, m, promise.rate)) + 1
    if rank <= count:
        return float(ranked[rank - 1]), promise
    rate = 1 - (1 - promise.confidence) ** (1 / count)
    return float(ranked[-1]), Promise(rate=rate, confidence=promise.confidence)


def promise_of(scores: NDArray[np.float64], limit: float, sure: float) -> Promise:
    """What a limit that somebody chose keeps, with confidence `sure`: `image_limit` read the other way."""
    return Promise(rate=upper_bound(panels_above(scores, limit), len(scores), sure), confidence=sure)


def panels_above(scores: NDArray[np.float64], limit: float) -> int:
    """How many of `scores` a limit rejects."""
    return int((np.asarray(scores) > limit).sum())


def confidence(count: int, rank: int, rate: float) -> float:
    """Probability that at most `rate` of good panels lie above the `rank`-th smallest of `count` scores."""
    return 1 - binomial_cdf(count - rank, count, rate)


def panels_needed(promise: Promise) -> int:
    """Held-out panels with which the largest score keeps `promise`."""
    return int(np.ceil(np.log(1 - promise.confidence) / np.log(1 - promise.rate)))


def _statistics(scores: NDArray[np.float64]) -> ScoreStatistics:
    return ScoreStatistics(
        panels=len(scores),
        mean=float(scores.mean()),
        std=float(scores.std(ddof=1)),
        minimum=float(scores.min()),
        median=float(np.median(scores)),
        maximum=float(scores.max()),
    )
