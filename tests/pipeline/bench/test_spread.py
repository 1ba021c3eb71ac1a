"""Percentiles that enough panels stand behind, and what is said of ratios."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.bench.spread import P99_FROM, P999_FROM, draws, noise_floor, ratio, spread

TIMES = arrays.arrays(float, st.integers(20, 200), elements=st.floats(0.1, 1e4))


@pytest.mark.parametrize(
    ("panels", "told"),
    [
        (0, set()),
        (1, {"median", "max"}),
        (P99_FROM - 1, {"median", "p90", "max"}),
        (P99_FROM, {"median", "p90", "p99", "max"}),
        (P999_FROM - 1, {"median", "p90", "p99", "max"}),
        (P999_FROM, {"median", "p90", "p99", "p999", "max"}),
    ],
)
def test_a_percentile_is_told_only_where_enough_panels_stand_behind_it(panels: int, told: set[str]) -> None:
    found = spread(list(range(1, panels + 1)))
    assert {name for name, value in found.items() if value is not None} == told


def test_percentiles_are_those_of_numpy() -> None:
    ms = np.random.default_rng(0).gamma(2, 10, P999_FROM)
    found = spread(ms)
    assert found["p99"] == pytest.approx(np.quantile(ms, 0.99), abs=1e-3)
    assert found["p999"] == pytest.approx(np.quantile(ms, 0.999), abs=1e-3)
    assert found["max"] == pytest.approx(ms.max(), abs=1e-3)


@given(TIMES)
@settings(max_examples=20, deadline=None)
def test_draws_lie_among_what_was_measured(ms: np.ndarray) -> None:
    found = draws(ms, resamples=20)
    assert found.shape == (20,)
    assert ms.min() <= found.min() and found.max() <= ms.max()


@given(TIMES, st.floats(0.2, 5))
@settings(max_examples=20, deadline=None)
def test_a_ratio_is_inside_its_interval_up_to_what_blocks_change(ms: np.ndarray, times: float) -> None:
    whole, (low, high) = ratio(list(ms), list(times * ms))
    assert whole == pytest.approx(times)
    assert low <= high


def test_blocks_of_neighbours_widen_the_interval_of_a_run_that_was_slow_for_a_while() -> None:
    rng = np.random.default_rng(1)
    steady = rng.normal(100, 1, 1000)
    slow_for_a_while = np.where(np.arange(1000) // 100 % 2, steady, steady + 20)
    shuffled = rng.permutation(slow_for_a_while)
    assert np.ptp(draws(slow_for_a_while, "p90")) > np.ptp(draws(shuffled, "p90"))


def test_the_noise_floor_covers_what_the_same_thing_differed_by() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(100, 2, 500), rng.normal(104, 2, 500)
    assert noise_floor([first, second]) >= 0.035
    assert noise_floor([first, rng.normal(100, 2, 500)]) < 0.02
    drifting = np.linspace(100, 120, 500)
    assert noise_floor([drifting]) > 0.1
