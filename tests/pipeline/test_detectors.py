"""What an inspector holds open: as much as the bridge wants, opened and proven beside what is in use."""

import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from line import toy_line

from engines import recipe as recipes
from engines.errors import EngineError
from engines.recipe import Tiles
from engines.zones import TopMean
from pipeline import detectors as module
from pipeline.config import load
from pipeline.detectors import Detectors, open_detectors
from pipeline.messages import RecipeAt, Wanted
from pipeline.rehearsal import Seen, try_on

SET = np.full((2, toy_line.FRAME_PX, toy_line.FRAME_PX), 44, np.uint8)


@pytest.fixture
def held(line_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Detectors]:
    monkeypatch.setattr(module, "SEEN_S", 0.05)
    with open_detectors(load(line_file())) as detectors:
        yield detectors


def others(recipe: Path, folder: Path, count: int) -> list[RecipeAt]:
    """The line's own recipe, and so many others."""
    limits = recipes.load(recipe).manifest.limits
    found = [RecipeAt(recipe=recipes.load(recipe).hash, path=str(recipe), used=True)]
    for number in range(count):
        place = folder / str(number)
        name = toy_line.write_recipe(place, limits=limits.model_copy(update={"image": 0.3 + number / 100}))
        found.append(RecipeAt(recipe=name, path=str(place), used=False))
    return found


def want(held: Detectors, *places: RecipeAt) -> None:
    held.want(Wanted(station="toy", recipes=places))


def until(held: Detectors, condition: Callable[[], object], in_flight: frozenset[str] = frozenset()) -> float:
    """The longest turn until then."""
    end_s, longest = time.monotonic() + 20, 0.0
    while not condition():
        began_s = time.monotonic()
        assert began_s < end_s, (list(held), held.refused)
        held.turn(in_flight)
        longest = max(longest, time.monotonic() - began_s)
        time.sleep(0.001)
    return longest


def test_what_the_bridge_wants_is_opened_beside_what_is_there(held: Detectors, recipe: Path, tmp_path: Path) -> None:
    own, first, second = others(recipe, tmp_path, 2)
    before = held[own.recipe]
    assert [one.recipe for one in held.loaded()] == [own.recipe]
    want(held, own, first, second)
    until(held, lambda: len(held) == 3)
    assert set(held) == {own.recipe, first.recipe, second.recipe} and held[own.recipe] is before
    assert held[first.recipe].batch_s > 0, "it is warm"
    assert {one.engine for one in held.loaded()} == {before.engine_hash}


def test_what_nobody_wants_is_closed_once_no_panel_names_it(held: Detectors, recipe: Path, tmp_path: Path) -> None:
    own, first = others(recipe, tmp_path, 1)
    held[own.recipe].inspect([SET])
    want(held, first)
    until(held, lambda: first.recipe in held, frozenset({own.recipe}))
    held.turn(frozenset({own.recipe}))
    assert own.recipe in held, "a panel in flight names it"
    calls = held.calls
    held.turn(frozenset())
    assert list(held) == [first.recipe]
    assert held.calls == calls, "a counter never goes back"


def test_a_damaged_message_takes_nothing_away(held: Detectors, recipe: Path, tmp_path: Path) -> None:
    own, first = others(recipe, tmp_path, 1)
    want(held, own, first)
    until(held, lambda: len(held) == 2)
    before = held[own.recipe]
    want(held, own.model_copy(update={"recipe": own.recipe[:-1] + "?"}), first)
    until(held, lambda: held.refused)
    held.turn(frozenset())
    assert held[own.recipe] is before and own.recipe not in names(held)
    want(held, own, first)
    until(held, lambda: own.recipe in names(held))
    assert held[own.recipe] is before and not held.refused


def test_only_what_panels_may_name_has_to_prove_itself_while_the_line_is_idle(
    held: Detectors, recipe: Path, tmp_path: Path
) -> None:
    own, first = others(recipe, tmp_path, 1)
    assert held.used() == [held[own.recipe]]
    want(held, own, first)
    until(held, lambda: first.recipe in held)
    assert held.used() == [held[own.recipe]]
    want(held, first.model_copy(update={"used": True}), own.model_copy(update={"used": False}))
    assert held.used() == [held[first.recipe]]


def coming(place: RecipeAt) -> RecipeAt:
    return place.model_copy(update={"coming": True})


def kept(held: Detectors, recipe: Path, folder: Path) -> tuple[RecipeAt, RecipeAt]:
    """The line's own recipe, in use, and another one that was before it."""
    own, former = others(recipe, folder, 1)
    want(held, own, former)
    until(held, lambda: former.recipe in held)
    want(held, own, former)
    return own, former


def names(held: Detectors) -> list[str]:
    return [one.recipe for one in held.loaded()]


def proving(held: Detectors, place: RecipeAt, prove: Callable[[], None]) -> None:
    """From now on the detector of `place` proves itself by `prove`."""
    vars(held[place.recipe]).update(prove=prove, _sentinel=object())


def blind() -> None:
    raise EngineError("does not see it")


def test_a_kept_recipe_takes_over_only_once_it_has_proven_itself_anew(
    held: Detectors, recipe: Path, tmp_path: Path
) -> None:
    own, former = kept(held, recipe, tmp_path)
    proofs: list[bool] = []
    proving(held, former, lambda: proofs.append(former.recipe in names(held)))
    held.turn(frozenset())
    assert names(held) == [own.recipe] and not proofs
    want(held, own, coming(former))
    assert names(held) == [own.recipe], "its proof of then is none of now"
    held.turn(frozenset({former.recipe}))
    assert not held._busy, "a panel in flight names it: the loop may run it"
    until(held, lambda: former.recipe in names(held))
    assert proofs == [False]
    want(held, former.model_copy(update={"used": True}), own.model_copy(update={"used": False}))
    assert names(held) == [former.recipe]
    want(held, own, former)
    assert names(held) == []
    until(held, lambda: names(held) == [own.recipe])


def test_a_kept_recipe_that_fell_sick_is_opened_anew_before_it_takes_over(
    held: Detectors, recipe: Path, tmp_path: Path
) -> None:
    own, former = kept(held, recipe, tmp_path)
    sick = held[former.recipe]
    proving(held, former, blind)
    want(held, own, coming(former))
    until(held, lambda: former.recipe in names(held))
    assert held[former.recipe] is not sick and not held.refused


def test_an_inspector_whose_only_recipe_fell_sick_takes_no_panel_until_it_is_opened_anew(
    held: Detectors, recipe: Path, tmp_path: Path
) -> None:
    [own] = others(recipe, tmp_path, 0)
    want(held, own.model_copy(update={"used": False}))
    proving(held, own, blind)
    want(held, own)
    until(held, lambda: not held)
    assert (held.max_batch, held.batch_s, held.loaded()) == (0, 0.0, ())
    until(held, lambda: own.recipe in names(held))
    assert held.max_batch > 0 and held.batch_s > 0


def test_kept_recipes_prove_themselves_now_and_then_while_the_line_is_idle(
    held: Detectors, recipe: Path, tmp_path: Path
) -> None:
    own, first, second = others(recipe, tmp_path, 2)
    want(held, own, first, second)
    until(held, lambda: len(held) == 3)
    want(held, own, first, second)
    proofs: list[str] = []
    for one in (own, first, second):
        proving(held, one, lambda name=one.recipe: proofs.append(name))
    for number in range(4):
        held.ask_kept(number * module.KEPT_NS + module.KEPT_NS)
        held.ask_kept(number * module.KEPT_NS + module.KEPT_NS)
        until(held, lambda: not held._busy)
        held.ask_kept(number * module.KEPT_NS + module.KEPT_NS + 1)
    assert proofs == sorted([first.recipe, second.recipe]) * 2
    sick = held[first.recipe]
    proving(held, first, blind)
    proving(held, second, blind)
    held.ask_kept(5 * module.KEPT_NS)
    until(held, lambda: not held._busy and len(held) == 3)
    assert held[first.recipe] is not sick and not held.refused, "it was opened anew"


def test_before_the_bridge_has_spoken_nothing_is_closed(held: Detectors) -> None:
    held.turn(frozenset())
    assert len(held) == 1


def test_a_loop_is_not_held_up_by_a_recipe_that_takes_its_time(
    held: Detectors, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, first = others(recipe, tmp_path, 1)
    begun: list[float] = []

    def slowly(*given: Any) -> None:
        begun.append(time.monotonic())
        time.sleep(1.0)

    monkeypatch.setattr(module, "rehearse", slowly)
    want(held, own, first)
    assert until(held, lambda: first.recipe in held) < 0.5
    assert begun and time.monotonic() - begun[0] >= 1.0


def test_it_is_tried_on_a_copy_of_the_newest_set(
    held: Detectors, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEEN_S", 20.0)
    tried: list[Any] = []
    monkeypatch.setattr(module, "try_on", lambda detector, seen: tried.append(seen) or True)
    own, first = others(recipe, tmp_path, 1)
    held.offer(SET, "toy")
    want(held, own, first)
    pixels = SET.copy()
    held.turn(frozenset())
    held.offer(pixels, "toy")
    pixels[:] = 0  # its slot goes back
    held.offer(pixels, "toy")
    until(held, lambda: first.recipe in held)
    [seen] = tried
    np.testing.assert_array_equal(seen.pixels, SET)
    assert not held.hungry


def test_sets_of_another_product_that_do_not_fit_are_passed_over_until_one_fits(
    held: Detectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe in tiles takes panels of one size; the line shows those of two products in turn."""
    monkeypatch.setattr(module, "SEEN_S", 20.0)
    tried: list[tuple[int, bool]] = []

    def watched(detector: Any, seen: Seen) -> bool:
        tried.append((seen.pixels.shape[1], fits := try_on(detector, seen)))
        return fits

    monkeypatch.setattr(module, "try_on", watched)
    geometry = Tiles(height=32, width=32, halo=0, grid=4, panel=(96, 96))
    name = toy_line.write_recipe(tmp_path / "tiled", geometry=geometry, score=(TopMean(cells=1, weight=1.0),))
    want(held, RecipeAt(recipe=name, path=str(tmp_path / "tiled"), used=False, coming=True))
    sets = cycle([SET[:, :64], SET[:, :72], SET])

    def shown() -> bool:
        if held.hungry and held._seen.empty():
            held.offer(next(sets), "another")
        return name in held

    until(held, shown)
    assert tried == [(64, False), (72, False), (96, True)] and not held.refused


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda place: (place / "network.onnx").write_bytes(b"x"), "was changed"),
        (lambda place: (place / "manifest.json").unlink(), "is no recipe"),
    ],
)
def test_what_cannot_be_opened_is_refused_with_the_reason(
    held: Detectors, recipe: Path, tmp_path: Path, harm: Callable[[Path], None], why: str
) -> None:
    own, first = others(recipe, tmp_path, 1)
    harm(Path(first.path))
    want(held, own, first)
    until(held, lambda: held.refused)
    [refusal] = held.refusals()
    assert refusal.recipe == first.recipe and why in refusal.why and list(held) == [own.recipe]
    want(held, own)
    assert held.refusals() == (), "asked for again, it is tried again"


def test_an_unforeseen_failure_is_a_refusal_too(
    held: Detectors, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, first = others(recipe, tmp_path, 1)
    closed: list[str] = []
    entered = module._entered

    def watched(*given: Any) -> module.Held:
        found = entered(*given)
        found.stack.callback(closed.append, found.detector.recipe_hash)
        return found

    def fails(*given: Any) -> None:
        raise MemoryError("too large")

    monkeypatch.setattr(module, "_entered", watched)
    monkeypatch.setattr(module, "rehearse", fails)
    want(held, own, first)
    until(held, lambda: held.refused)
    assert held.refused == {first.recipe: "MemoryError: too large"}
    assert closed == [first.recipe]


def test_another_recipe_than_was_asked_for_is_refused(held: Detectors, recipe: Path, tmp_path: Path) -> None:
    own, first, second = others(recipe, tmp_path, 2)
    want(held, own, RecipeAt(recipe=first.recipe, path=second.path, used=False))
    until(held, lambda: held.refused)
    assert "was asked for" in held.refused[first.recipe]


def test_sets_are_remembered_for_the_station_and_places_for_each_recipe(
    held: Detectors, recipe: Path, tmp_path: Path
) -> None:
    own, first = others(recipe, tmp_path, 1)
    want(held, own, first)
    until(held, lambda: len(held) == 2)
    ours, theirs = held.history(own.recipe), held.history(first.recipe)
    assert ours.sets is theirs.sets and ours.places is not theirs.places
