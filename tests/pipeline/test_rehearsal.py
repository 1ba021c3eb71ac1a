"""What a recipe must show before it may take over."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.decide import Problem
from engines.detector import GeometryError
from engines.errors import EngineError
from engines.recipe import Golden
from pipeline.rehearsal import Seen, rehearse, try_on

SET = np.full((2, 96, 96), 44, np.uint8)


def stand_in(**changes: Any) -> Any:
    """A detector that finds what it is told to."""
    found = SimpleNamespace(score=0.2, problem=None)
    known: Mapping[str, Any] = {
        "warm": lambda: None,
        "prove": lambda: None,
        "proves_itself": True,
        "check": lambda panel: None,
        "integrity": lambda panel: None,
        "inspect": lambda panels: [found],
        "inspect_golden": lambda panels: [(found, None)],
        "reference": lambda golden: golden.score,
        "manifest": SimpleNamespace(product="toy"),
    }
    return SimpleNamespace(**known | changes)


def golden(score: float) -> Any:
    one = Golden("bad_1", defective=True, frames=SET, score=score, map=np.zeros((2, 2), np.float32))
    return SimpleNamespace(golden=(one,), manifest=SimpleNamespace(limits=SimpleNamespace(image=0.5, zones=None)))


def raising(error: Exception) -> Callable[..., None]:
    def fails(*given: Any) -> None:
        raise error

    return fails


def finding(score: float, problem: Problem | None = None) -> dict[str, Any]:
    found = SimpleNamespace(score=score, problem=problem)
    return {"inspect": lambda panels: [found], "inspect_golden": lambda panels: [(found, None)]}


@contextmanager
def refused(says: str) -> Iterator[None]:
    with pytest.raises((EngineError, GeometryError), match=says):
        yield


def test_a_recipe_that_can_do_what_it_must_takes_over() -> None:
    rehearse(stand_in(), golden(0.2))
    rehearse(stand_in(proves_itself=False, prove=raising(EngineError("never"))), golden(0.2))
    rehearse(stand_in(**finding(0.9)), golden(0.9))
    assert try_on(stand_in(), Seen(SET, "toy"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"warm": raising(EngineError("cold"))}, "cold"),
        ({"prove": raising(EngineError("blind"))}, "blind"),
        (finding(0.9), "golden panel bad_1 scores 0.9, its reference is 0.2"),
        (finding(float("nan")), "golden panel bad_1 scores nan"),
    ],
)
def test_one_that_cannot_is_refused(changes: dict[str, Any], says: str) -> None:
    with refused(says):
        rehearse(stand_in(**changes), golden(0.2))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"check": raising(GeometryError("too small"))}, "too small"),
        (finding(0.2, Problem.NOT_FINITE), "no usable answer to the newest set"),
    ],
)
def test_a_set_of_its_own_product_must_be_inspected_and_of_another_one_none(changes: dict[str, Any], says: str) -> None:
    with refused(says):
        try_on(stand_in(**changes), Seen(SET, "toy"))
    assert try_on(stand_in(**changes), Seen(SET, "another")) == ("check" not in changes)


def test_an_engine_that_fails_on_a_set_of_another_product_is_refused_all_the_same() -> None:
    with refused("golden defect"):
        try_on(stand_in(inspect=raising(EngineError("the golden defect scores 0"))), Seen(SET, "another"))


def test_a_panel_of_another_product_before_the_cameras_is_no_reason_to_refuse_it() -> None:
    assert try_on(stand_in(**finding(0.4, Problem.IMPLAUSIBLE)), Seen(SET, "toy"))
