"""A sick engine must not look like a line of good panels: each of these runtimes is planted, none passes a panel."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import recipe as recipes
from engines.detector import MAP, SCORE, Detector, open_detector
from engines.errors import EngineError
from engines.recipe import Recipe

DEMO = Path(__file__).parents[2] / "pipeline" / "demo" / "recipe"
Outputs = Mapping[str, NDArray]
Sickness = Callable[[Outputs, Outputs | None], Outputs]


def zeros(now: Outputs, before: Outputs | None) -> Outputs:
    return {name: np.zeros_like(each) for name, each in now.items()}


def good_looking(now: Outputs, before: Outputs | None) -> Outputs:
    return {name: np.full_like(each, 0.02 if name == MAP else 1.0) for name, each in now.items()}


def previous(now: Outputs, before: Outputs | None) -> Outputs:
    return now if before is None or before[SCORE].shape != now[SCORE].shape else before


def shifted(now: Outputs, before: Outputs | None) -> Outputs:
    return {name: np.roll(each, 1, axis=0) for name, each in now.items()}


def half_map(now: Outputs, before: Outputs | None) -> Outputs:
    halved = now[MAP].copy()
    halved[:, halved.shape[1] // 2 :] = halved.min()
    return {MAP: halved, SCORE: now[SCORE]}


def infinite(now: Outputs, before: Outputs | None) -> Outputs:
    return {MAP: now[MAP], SCORE: np.full_like(now[SCORE], np.inf)}


def nothing_written(now: Outputs, before: Outputs | None) -> Outputs:
    return {name: np.full_like(each, np.nan) for name, each in now.items()}


class Sick:
    """A network that is well until `sickness` is set."""

    def __init__(self, network: object) -> None:
        self._network, self._before = network, None
        self.sickness: Sickness | None = None

    def run(self, tensors: Mapping[str, NDArray]) -> Outputs:
        now = {name: each.copy() for name, each in self._network.run(tensors).items()}  # type: ignore[attr-defined]
        said = now if self.sickness is None else self.sickness(now, self._before)
        self._before = said
        return said


@pytest.fixture(scope="module")
def demo() -> Recipe:
    return recipes.load(DEMO)


@pytest.fixture
def opened(demo: Recipe) -> Iterator[tuple[Detector, Sick]]:
    with open_detector(demo, threads=1, max_batch=4) as detector:
        sick = Sick(detector._network)
        detector._network = sick  # type: ignore[assignment]
        yield detector, sick


def good_panels(demo: Recipe, count: int) -> list[NDArray]:
    return [golden.frames for golden in demo.golden if not golden.defective][:count]


@pytest.mark.parametrize("panels", [1, 2, 4])
def test_a_well_engine_passes_good_panels_at_every_row(opened, demo, panels):
    detector, _ = opened
    for _ in range(panels + 1):
        found = detector.inspect(good_panels(demo, panels))
        expected = [golden.score for golden in demo.golden if not golden.defective][:panels]
        assert [one.score for one in found] == pytest.approx(expected, rel=1e-4)
        assert all(one.passed for one in found)


@pytest.mark.parametrize("panels", [1, 2, 4])
@pytest.mark.parametrize(
    "sickness",
    [zeros, good_looking, previous, shifted, half_map, infinite, nothing_written],
    ids=lambda one: one.__name__,
)
def test_a_sick_engine_passes_nothing(opened, demo, sickness, panels):
    detector, sick = opened
    detector.inspect(good_panels(demo, panels))
    sick.sickness = sickness
    for _ in range(panels + 1):  # the golden defect at every row
        try:
            found = detector.inspect(good_panels(demo, panels))
        except EngineError as error:
            assert "golden defect" in str(error)
        else:
            assert not any(one.passed for one in found)


@pytest.mark.parametrize("sickness", [zeros, good_looking, previous, shifted, half_map, infinite, nothing_written])
def test_an_idle_engine_that_fell_sick_is_noticed_and_one_that_recovered_too(opened, demo, sickness):
    detector, sick = opened
    detector.prove()
    sick.sickness = sickness
    for _ in range(3):
        with pytest.raises(EngineError, match="golden defect"):
            detector.prove()
    with pytest.raises(EngineError, match="has not proven itself"):
        detector.inspect(good_panels(demo, 1))
    sick.sickness = None
    detector.prove()
    assert all(one.passed for one in detector.inspect(good_panels(demo, 2)))


def test_the_golden_defect_costs_no_second_call(opened, demo):
    detector, _ = opened
    before = detector.network_calls
    detector.inspect(good_panels(demo, 4))
    assert detector.network_calls == before + 1
