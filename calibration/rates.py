"""What a count says of the rate behind it: THE interval of every share that takt shows. Pure."""

from math import exp, lgamma, log

NIL = 1e-17  # a term below this share of the sum no longer changes it


def interval(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Two-sided Clopper-Pearson interval of a rate (Biometrika 1934); 0 to 1 without trials."""
    half = (1 + level) / 2
    return (1 - upper_bound(count - hits, count, half) if hits else 0.0), upper_bound(hits, count, half)


def upper_bound(hits: int, count: int, level: float = 0.95) -> float:
    """One-sided Clopper-Pearson bound: with `level` confidence the true rate is not above it; 1 without trials."""
    if count == 0 or hits >= count:
        return 1.0
    low, high = hits / count, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_cdf(hits, count, middle) > 1 - level else (low, middle)
    return high


def binomial_cdf(hits: int, count: int, rate: float) -> float:
    """Probability of at most `hits` among `count` when each happens with `rate`.

    The tail away from the mean is summed, from its largest term on: of a million trials some thousand terms count.
    """
    if hits >= count or rate <= 0:
        return 1.0
    if rate >= 1:
        return 0.0
    if hits < count * rate:
        return min(1.0, _tail(hits, count, rate, 1 - rate))
    return max(0.0, 1 - _tail(count - hits - 1, count, 1 - rate, rate))


def _tail(hits: int, count: int, rate: float, rest: float) -> float:
    """Probability of at most `hits`, which lie below the mean: every term is smaller than the one before."""
    term = total = exp(_log_term(hits, count, rate, rest))
    for k in range(hits, 0, -1):
        term *= k / (count - k + 1) * (rest / rate)
        total += term
        if term < NIL * total:
            break
    return total


def _log_term(k: int, count: int, rate: float, rest: float) -> float:
    """Logarithm of the probability of exactly `k`: the number itself is too large for thousands of panels."""
    ways = lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1)
    return ways + k * log(rate) + (count - k) * log(rest)
