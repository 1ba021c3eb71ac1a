"""Percentiles that enough panels stand behind, and what is said of ratios."""

from collections.abc import Callable

import numpy as np
import passports
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.bench.compare import SAME, SLOWER, changes
from pipeline.bench.spread import P99_FROM, P999_FROM, draws, drift, noise_floor, ratio, spread

RUNS, PAIRS = 400, 20
Drift = Callable[[np.random.Generator, int], np.ndarray]
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


def steady(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.zeros(count)


def wandering(rng: np.random.Generator, count: int) -> np.ndarray:
    """A machine that never comes back by itself: some 5 % in the time of a run."""
    return np.cumsum(rng.standard_normal(count)) * 0.05 / np.sqrt(RUNS)


def swaying(rng: np.random.Generator, count: int) -> np.ndarray:
    """Slow for about as long as a run takes, and quick again."""
    keep = np.exp(-1 / RUNS)
    found, level = np.empty(count), rng.standard_normal()
    for at in range(count):
        found[at] = level = keep * level + np.sqrt(1 - keep**2) * rng.standard_normal()
    return 0.05 * found


def disturbed(rng: np.random.Generator, count: int) -> np.ndarray:
    """Another program, now and then, for a part of a run."""
    ends = np.cumsum(rng.exponential(RUNS / 4, 200)).astype(int)
    return 0.15 * (np.searchsorted(ends, np.arange(count)) % 2)


@pytest.mark.parametrize("machine", [steady, wandering, swaying, disturbed])
def test_one_thing_measured_twice_is_no_difference_however_the_machine_drifts(machine: Drift) -> None:
    agreed = [agrees(machine, seed) for seed in range(PAIRS)]
    assert sum(agreed) >= 0.85 * PAIRS


def agrees(machine: Drift, seed: int) -> bool:
    """Whether two runs of one engine, one after the other, are told as such by their passports."""
    rng = np.random.default_rng(seed)
    ms = 20 * np.exp(rng.gamma(2, 0.02, 2 * RUNS) + machine(rng, 2 * RUNS))
    both = [
        passports.engine_passport([passports.row(1, lambda n, own=own: own[n::2].tolist(), {})]) for own in halves(ms)
    ]
    return {change.verdict for change in changes(*both)} == {SAME}


def halves(ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ms[:RUNS], ms[RUNS:]


def test_a_difference_beyond_the_drift_of_a_quiet_machine_is_told() -> None:
    rng = np.random.default_rng(4)
    runs = [scale * np.exp(rng.gamma(2, 0.02, RUNS)) for scale in (20.0, 21.0)]
    both = [passports.engine_passport([passports.row(1, lambda n, own=own: own[n::2].tolist(), {})]) for own in runs]
    assert [change.verdict for change in changes(*both)] == [SLOWER]


@given(TIMES, st.floats(0.5, 2))
@settings(max_examples=20, deadline=None)
def test_the_unit_changes_no_noise_floor(ms: np.ndarray, scale: float) -> None:
    assert drift(scale * ms) == pytest.approx(drift(ms), rel=1e-6, abs=1e-9)
