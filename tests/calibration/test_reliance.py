"""A limit that rests on one good panel is told, with what it lets pass; one that does not is left in peace."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.limits import FEWEST
from calibration.reliance import Reliance, reliance
from calibration.scores import Scores
from calibration.suspects import suspects
from engines.recipe import Promise

PROMISE = Promise(rate=0.01, confidence=0.95)


def scored(values: NDArray[np.float64]) -> Scores:
    names = tuple(f"p{number}" for number in range(len(values)))
    maps = np.broadcast_to(values[:, None, None], (len(values), 2, 2)).astype(np.float32)
    return Scores(names, values, maps, np.zeros((len(values), 0)))


def of(values: NDArray[np.float64], drawn: NDArray[np.float64], promise: Promise = PROMISE) -> Reliance:
    found = reliance(scored(values), drawn.tolist(), None, (), promise)
    assert found
    return found


def usual(count: int = 20, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).gamma(4.0, size=count) / 10 + 0.7


DEFECTS = np.linspace(1.0, 4.0, 66)
CELLS = "1.50 1.49 1.46 1.33 1.31 1.28 1.12 1.01 0.99 0.95 0.94 0.89 0.89 0.85 0.81 0.77 0.69 0.68 0.60"


def lone() -> NDArray[np.float64]:
    """Solar cells of several makes as a network scored them: p7 is the only one of its make, and good."""
    return np.insert(np.array(CELLS.split(), float), 7, 3.11)


def test_a_panel_unlike_the_others_that_is_not_suspect_is_told_with_what_passes_for_its_sake() -> None:
    good = lone()
    found = of(good, DEFECTS)
    assert suspects(scored(good).names, good).names == ()
    assert found.panel == "p7" and found.rejected < found.rejected_without
    said = found.said()
    assert said and "\n" not in said
    assert f"rests on p7 ({good[7]:.3g}) alone: {found.rejected} of 66" in said and "takt limits --without p7" in said
    assert found.said(suspects=["p7"]) is None
    assert found.figures() == {
        "drawn": 66,
        "rejected": found.rejected,
        "without_highest": {"panel": "p7", "limit": found.limit_without, "rejected": found.rejected_without},
    }


def test_limits_of_panels_that_are_alike_are_left_in_peace() -> None:
    told = sum(of(usual(20, seed), DEFECTS).said() is not None for seed in range(200))
    assert told / 200 < 0.05


@pytest.mark.parametrize("odd", [[3], [3, 5], [3, 5, 7]])
def test_of_many_panels_none_sets_the_limit_alone(odd: list[int]) -> None:
    """Here the second highest score keeps the promise; the highest is not blamed for it."""
    good = usual(94)
    good[odd] = 9.0 - np.arange(len(odd))
    found = of(good, DEFECTS, Promise(rate=0.05, confidence=0.95))
    assert found.panel == "p3" and not found.alone and found.said() is None


@given(st.integers(FEWEST + 1, 40), st.integers(0, 2**32), st.floats(0.1, 10))
def test_without_a_panel_no_fewer_defects_are_rejected_whatever_the_scale(count: int, seed: int, scale: float) -> None:
    good = usual(count, seed)
    found, scaled = of(good, DEFECTS), of(good * scale, DEFECTS * scale)
    assert found.rejected_without >= found.rejected
    assert found.panel == scaled.panel and found.limit_without * scale == pytest.approx(scaled.limit_without)


def test_five_panels_are_too_few_to_leave_one_out() -> None:
    assert reliance(scored(usual(FEWEST)), DEFECTS.tolist(), None, (), PROMISE) is None
