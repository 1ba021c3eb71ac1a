"""Shares with intervals, Pareto bars, control limits. Pure."""

from collections.abc import Mapping
from math import sqrt

from calibration.rates import interval
from pipeline.review.figures import Bar, Share


def share(k: int, n: int) -> Share:
    """k of n with its interval."""
    if n == 0:
        return Share(k=k, n=n, rate=None, lower95=None, upper95=None)
    lower, upper = interval(k, n)
    return Share(k=k, n=n, rate=k / n, lower95=lower, upper95=upper)


def control_limits(mean: float, n: int) -> tuple[float, float]:
    """3 sigma of a share of n whose mean is `mean` (p-chart)."""
    sigma = sqrt(mean * (1 - mean) / n)
    return max(mean - 3 * sigma, 0.0), min(mean + 3 * sigma, 1.0)


def pareto(counts: Mapping[str, int], texts: Mapping[str, str]) -> list[Bar]:
    """Largest first; equal ones by name."""
    total, so_far, bars = sum(counts.values()), 0, []
    for name, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        so_far += count
        bars.append(Bar(name=name, text=texts.get(name, name), count=count, cumulative=so_far / total))
    return bars
