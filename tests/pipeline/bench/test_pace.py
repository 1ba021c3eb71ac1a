"""The search for the shortest takt, on lines whose limit is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bench.pace import CLOSE, SLOWEST_MS, Trial, least_takt_ms, next_takt_ms, shortest_ms, spared_ms


def searched(limit_ms: float, start_ms: int, least_ms: int) -> list[Trial]:
    """The takts tried on a line that holds from `limit_ms` on."""
    trials: list[Trial] = []
    while (takt_ms := next_takt_ms(trials, start_ms, least_ms)) is not None:
        assert takt_ms not in [trial.takt_ms for trial in trials]
        trials.append(Trial(takt_ms, takt_ms >= limit_ms))
    return trials


@given(st.integers(20, 20_000), st.integers(20, 5_000), st.integers(10, 60))
def test_the_search_ends_near_the_limit_from_wherever_it_starts(limit_ms: int, start_ms: int, least_ms: int) -> None:
    trials = searched(limit_ms, start_ms, least_ms)
    found = shortest_ms(trials)
    assert found is not None
    limit = max(limit_ms, least_ms)
    assert limit <= found <= limit + max(2, 2 * CLOSE * limit)
    assert len(trials) <= 40


def test_a_line_that_holds_at_the_cameras_limit_needs_no_more_trials() -> None:
    assert shortest_ms(searched(1, 200, 48)) == 48


def test_a_line_that_never_holds_is_given_up_after_a_minutes_takt() -> None:
    trials = searched(float("inf"), 500, 48)
    assert shortest_ms(trials) is None
    assert trials[-1].takt_ms <= SLOWEST_MS


def test_a_trial_that_failed_by_chance_where_a_shorter_one_held_says_nothing() -> None:
    trials = [Trial(200, False), Trial(150, True), Trial(100, False)]
    assert next_takt_ms(trials, 200, 10) == 122


@pytest.mark.parametrize(("exposure_ms", "quiet_ms"), [(10, 10), (20, 5), (200, 10), (1, 1)])
def test_the_least_takt_leaves_room_for_the_exposures_at_three_quarters_of_it(exposure_ms: int, quiet_ms: int) -> None:
    takt_ms = least_takt_ms(exposure_ms, quiet_ms)
    assert takt_ms * 3 // 4 > exposure_ms + quiet_ms
    assert (takt_ms - 1) * 3 // 4 <= exposure_ms + quiet_ms


def test_what_the_long_run_did_not_confirm_is_tried_a_little_slower() -> None:
    assert spared_ms(100) == 105 and spared_ms(3) == 4
