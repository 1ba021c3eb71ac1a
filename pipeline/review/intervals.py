"""Shares with intervals, Pareto bars, control limits. Pure."""

from collections.abc import Mapping
from math import sqrt

from pipeline.review.figures import Bar, Share

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


def share(k: int, n: int) -> Share:
    """k of n with Wilson's score interval (Wilson, JASA 1927), which holds its promise at 0 and n too."""
    if n == 0:
        return Share(k=k, n=n, rate=None, lower95=None, upper95=None)
    rate, spread = k / n, Z95 * Z95 / n
    centre = (rate + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * sqrt(rate * (1 - rate) / n + spread / (4 * n))
    lower = 0.0 if k == 0 else max(centre - half, 0.0)
    upper = 1.0 if k == n else min(centre + half, 1.0)
    return Share(k=k, n=n, rate=rate, lower95=lower, upper95=upper)


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
