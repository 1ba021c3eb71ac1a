"""Defective panels among the good ones are named, and clean sets are left in peace."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.suspects import FEWEST, suspects


def named(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


def test_three_of_sixty_are_named_the_worst_first() -> None:
    scores = np.random.default_rng(0).normal(1.0, 0.1, 60)
    scores[[5, 17, 44]] = 2.6, 2.0, 3.1
    found = suspects(named(60), scores)
    assert found.names == ("p44", "p5", "p17") and found.scores == (3.1, 2.6, 2.0)
    said = found.said()
    assert said and "\n" not in said
    assert all(name in said for name in found.names) and "teach again" in said


@pytest.mark.parametrize("draw", ["normal", "gumbel", "gamma"])
def test_clean_sets_are_seldom_suspected(draw: str) -> None:
    """Fewer than one set of 60 in ten, also where good scores are skewed to the right as maxima are."""
    rng = np.random.default_rng(0)
    warned = 0
    for _ in range(500):
        extra = {"normal": rng.normal, "gumbel": rng.gumbel, "gamma": lambda size: rng.gamma(4.0, size=size)}[draw]
        warned += bool(suspects(named(60), 10 + extra(size=60)).names)
    assert warned / 500 < 0.1


@given(st.integers(0, 2**32), st.integers(FEWEST, 80), st.floats(0.01, 100))
def test_neither_scale_nor_order_matters(seed: int, count: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(5, 1, count - 1), [100]])
    shuffled = rng.permutation(count)
    plain = suspects(named(count), scores)
    other = suspects([f"p{number}" for number in shuffled], scores[shuffled] * scale)
    assert plain.names == other.names and plain.names[0] == f"p{count - 1}"


@given(st.integers(20, 80), st.data())
def test_up_to_a_fifth_cannot_hide_each_other(count: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(1, count // 5))
    scores = np.random.default_rng(count).normal(1.0, 0.1, count)
    scores[:bad] = 4.0
    assert set(suspects(named(count), scores).names) == set(named(bad))


def test_a_low_score_is_no_suspicion_and_few_panels_tell_nothing() -> None:
    scores = np.random.default_rng(0).normal(1.0, 0.05, 40)
    scores[3] = -5
    assert suspects(named(40), scores).said() is None
    assert suspects(named(FEWEST - 1), [1.0] * (FEWEST - 2) + [50.0]).names == ()
    assert suspects(named(40), np.ones(40)).names == ()


def test_what_is_not_finite_is_suspect() -> None:
    scores = np.ones(20)
    scores[[4, 9]] = np.nan, np.inf
    assert set(suspects(named(20), scores).names) == {"p4", "p9"}


def test_many_suspects_are_counted_not_listed() -> None:
    scores = np.concatenate([np.random.default_rng(0).normal(1, 0.1, 100), np.full(15, 9.0)])
    said = suspects(named(115), scores).said()
    assert said and said.count("(9)") == 10 and "and 5 more" in said
