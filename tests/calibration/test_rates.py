"""Intervals of counted rates: Clopper and Pearson's, for a handful of panels and for a quarter's."""

from math import comb

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from calibration.rates import binomial_cdf, interval, upper_bound

COUNTED = st.integers(1, 5000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count)))


@given(st.integers(1, 60), st.data())
def test_bounds_are_clopper_and_pearsons(count: int, data: st.DataObject) -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs the extra [teach]")
    hits = data.draw(st.integers(0, count))
    expected = 1.0 if hits == count else stats.beta.ppf(0.95, hits + 1, count - hits)
    assert upper_bound(hits, count) == pytest.approx(expected, abs=1e-6)
    low, high = interval(hits, count)
    assert low == pytest.approx(stats.beta.ppf(0.025, hits, count - hits + 1) if hits else 0, abs=1e-6)
    assert high == pytest.approx(1.0 if hits == count else stats.beta.ppf(0.975, hits + 1, count - hits), abs=1e-6)


@given(st.integers(1, 90).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))), st.floats(0, 1))
@example((0, 1), 0.0)
@example((0, 1), 1.0)
@example((1, 2), 5e-324)
@example((1, 2), 1 - 1e-16)
def test_the_summed_tail_is_the_sum_of_every_term(counted: tuple[int, int], rate: float) -> None:
    hits, count = counted
    expected = sum(comb(count, k) * rate**k * (1 - rate) ** (count - k) for k in range(hits + 1))
    assert binomial_cdf(hits, count, rate) == pytest.approx(expected, abs=1e-9)


@given(COUNTED)
def test_an_interval_holds_its_rate_and_is_the_complements_mirror(counted: tuple[int, int]) -> None:
    hits, count = counted
    (low, high), other = interval(hits, count), interval(count - hits, count)
    assert 0 <= low <= hits / count <= high <= 1
    assert (low, high) == pytest.approx((1 - other[1], 1 - other[0]), abs=1e-8)


@pytest.mark.parametrize("rate", [0.003, 0.07, 0.5])
def test_an_interval_covers_the_truth_at_least_as_often_as_it_says(rate: float) -> None:
    """Over all outcomes of 60 panels: the chance that the interval holds the true rate."""
    held = [k for k in range(61) if interval(k, 60)[0] <= rate <= interval(k, 60)[1]]
    assert sum(comb(60, k) * rate**k * (1 - rate) ** (60 - k) for k in held) >= 0.95


def test_a_quarters_panels_have_an_interval_too() -> None:
    """A million panels: about the normal distribution's 1.96 standard deviations."""
    low, high = interval(100_000, 1_000_000)
    assert (low, high) == pytest.approx((0.1 - 1.96 * 0.0003, 0.1 + 1.96 * 0.0003), abs=2e-6)


def test_without_trials_nothing_is_known() -> None:
    assert interval(0, 0) == (0.0, 1.0)
