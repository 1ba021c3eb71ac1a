"""Percentiles that enough panels stand behind, and what may be said of a ratio of two of them. Pure.

Neighbours in a run are alike: a program beside it slows many panels in a row. So draws take blocks of neighbours. A
machine also drifts more slowly than any block is long, and goes on doing so from one run to the next, which no draw
out of one run shows. So a run has a noise floor: by what its fifths scatter, a further run may be off too.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from calibration.bootstrap import interval

P99_FROM, P999_FROM = 2_000, 10_000  # panels; with fewer, a percentile is the chance of single ones
RESAMPLES, SEED, PARTS = 500, 0, 5
STUDENT_4 = 2.776  # 97.5 % of Student's distribution with PARTS - 1 degrees of freedom
QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
ENOUGH = {"median": 1, "p90": 20, "p99": P99_FROM, "p999": P999_FROM}

Spread = dict[str, float | None]
Floats = NDArray[np.float64]


def spread(ms: Sequence[float] | Floats) -> Spread:
    """Median, p90, p99, p999 and max; None where too few values stand behind one."""
    values = np.asarray(ms, float)
    found: Spread = {name: quantile(values, name) for name in QUANTILES}
    return found | {"max": round(float(values.max()), 4) if values.size else None}


def quantile(values: Floats, name: str) -> float | None:
    """One of `QUANTILES`; None of too few values."""
    if len(values) < ENOUGH[name]:
        return None
    return round(float(np.quantile(values, QUANTILES[name])), 4)


def draws(ms: Sequence[float] | Floats, name: str = "median", resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """A quantile of `resamples` draws [resamples]; each is put together of blocks of neighbours."""
    values = np.asarray(ms, float)
    block = max(1, int(np.sqrt(len(values))))
    starts = np.random.default_rng(seed).integers(0, len(values) - block + 1, (resamples, -(-len(values) // block)))
    chosen = (starts[..., None] + np.arange(block)).reshape(resamples, -1)[:, : len(values)]
    return np.quantile(values[chosen], QUANTILES[name], axis=1)


def ratio(before: Sequence[float], after: Sequence[float], name: str = "median") -> tuple[float, list[float]]:
    """How many times as long `after` takes as `before`, with the interval that holds it, 95 % sure."""
    whole = np.quantile(np.asarray(after, float), QUANTILES[name]) / np.quantile(before, QUANTILES[name])
    return float(whole), interval(draws(after, name, seed=SEED + 1) / draws(before, name))


def apart(times: float) -> float:
    """By what share the longer of two exceeds the shorter, whichever of them that is."""
    return max(times, 1 / times) - 1 if times > 0 else float("inf")


def noise_floor(passes: Sequence[Sequence[float] | Floats], name: str = "median") -> float:
    """By what share a further run of the same thing may differ, 95 % sure.

    The larger of what the passes, taken in turns, differ by among each other, and of what drift makes likely.
    """
    arrays = [np.asarray(each, float) for each in passes]
    limits = [apart(bound) for a, b in combinations(arrays, 2) for bound in ratio(list(a), list(b), name)[1]]
    least = min(map(len, arrays))
    in_turn = np.column_stack([each[:least] for each in arrays]).ravel()  # as they were taken
    return float(max([*limits, drift(in_turn, name)]))


def drift(ms: Floats, name: str = "median") -> float:
    """The noise floor of one run in the order in which it was taken.

    The levels of its parts are logarithms of their quantiles. Drift may keep up for as long as a run takes, so the next
    run is expected no nearer than one more part: two levels differ by Student's t times their deviation times root 2.
    """
    parts = [part for part in np.array_split(ms, PARTS) if part.size]
    levels = np.array([np.quantile(part, QUANTILES[name]) for part in parts])
    if len(levels) < PARTS or levels.min() <= 0:
        return float("inf")
    return float(np.expm1(STUDENT_4 * np.sqrt(2) * np.log(levels).std(ddof=1)))
