"""A limit keeps what it promises, and promises no more than its panels support."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration.limits import (
    confidence,
    image_limit,
    panels_needed,
    promise_of,
    set_limits,
)
from engines.errors import PanelError
from engines.recipe import Promise

PROMISE = Promise(rate=0.1, confidence=0.9)


def test_the_promise_holds_in_nine_of_ten_draws() -> None:
    random = np.random.default_rng(5)
    kept = 0
    for _ in range(400):
        limit, promise = image_limit(random.uniform(size=60), PROMISE)
        assert promise == PROMISE
        kept += (1 - limit) <= PROMISE.rate
    assert kept / 400 >= 0.87


@given(st.integers(5, 200), st.floats(0.01, 0.3), st.floats(0.5, 0.99))
def test_the_limit_is_the_smallest_that_keeps_the_promise(count: int, rate: float, sure: float) -> None:
    limit, kept = image_limit(np.arange(count, dtype=float), Promise(rate=rate, confidence=sure))
    rank = int(limit) + 1
    assert confidence(count, rank, kept.rate) >= sure - 1e-9
    if kept.rate == rate:
        assert rank == 1 or confidence(count, rank - 1, rate) < sure
    else:
        assert rank == count and kept.rate > rate


def test_too_few_panels_promise_less_and_say_how_many_would_do() -> None:
    scores, maps = np.linspace(0.5, 1, 12), np.zeros((12, 4, 4), np.float32)
    limits, remark = set_limits(scores, maps, Promise(rate=0.02, confidence=0.9), 16)
    assert limits.promise.rate == pytest.approx(1 - 0.1 ** (1 / 12))
    assert remark and "17.5%" in remark and "114 panels" in remark
    assert panels_needed(Promise(rate=0.02, confidence=0.9)) == 114
    assert 1 <= limits.image < 1.001
    assert limits.low == pytest.approx(0.5**2 / 0.75)


def test_an_engine_that_answers_zeros_scores_below_the_lowest_plausible() -> None:
    limits, _ = set_limits(np.linspace(0.8, 1.4, 40), np.ones((40, 4, 4), np.float32), PROMISE, 16)
    assert 0 < limits.low < 0.8
    with pytest.raises(PanelError, match="scores are positive"):
        set_limits(np.linspace(0, 1, 40), np.ones((40, 4, 4), np.float32), PROMISE, 16)


def test_panels_that_are_all_alike_leave_room_for_the_scale_of_another_network() -> None:
    """A recipe's network scored its good panels 0.957 to 0.969 where those of its folds said 0.974 to 0.987."""
    scores = np.linspace(0.974, 0.987, 60)
    limits, _ = set_limits(scores, np.zeros((60, 4), np.float32), PROMISE, 1)
    assert 0.8 < limits.low < 0.957


def test_unusable_scores_are_refused() -> None:
    maps = np.zeros((9, 4, 4), np.float32)
    with pytest.raises(PanelError, match="only 4 good panels"):
        set_limits(np.ones(4), maps[:4], PROMISE, 16)
    with pytest.raises(PanelError, match="no finite number"):
        set_limits(np.full(9, np.nan), maps, PROMISE, 16)


def test_thousands_of_panels_have_limits_too() -> None:
    limit, kept = image_limit(np.arange(5000, dtype=float), Promise(rate=0.5, confidence=0.95))
    assert kept.rate == 0.5 and 2500 < limit < 2600


@given(arrays(np.float64, st.integers(5, 80), elements=st.floats(0, 1)), st.floats(0.5, 0.99))
def test_a_chosen_limit_promises_what_the_tolerance_bound_would(scores: np.ndarray, sure: float) -> None:
    limit = float(np.sort(scores)[len(scores) // 2])
    kept = promise_of(scores, limit, sure)
    count, above = len(scores), int((scores > limit).sum())
    assert above / count <= kept.rate < 1
    assert confidence(count, count - above, kept.rate) == pytest.approx(sure, abs=1e-6)
