"""The bridge's half of a swap: when a recipe takes over, and when it never does."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from line import toy_line

from engines import recipe as recipes
from pipeline import wishes
from pipeline.config import LineConfig, load
from pipeline.messages import Loaded, Presence, Refusal, Wanted
from pipeline.open_panels import Expected, State, Switched
from pipeline.opening import terms_of
from pipeline.swaps import Swaps, judged, loaded_as
from pipeline.wishes import Place, Wish

EXPECTED = Expected("b", "flat", "engine-b", low=0.1, limit=0.5)
OURS = loaded_as(EXPECTED)


def present(*loaded: Loaded, stage: str = "inspector", refused: str = "") -> Presence:
    refusals = (Refusal(recipe=refused, why="no"),) if refused else ()
    return Presence(station="s", stage=stage, role="inspector", ready=True, loaded=loaded, refused=refusals)


@pytest.mark.parametrize(
    ("there", "state"),
    [
        ({}, "waiting"),
        ({"inspector": present()}, "loading"),
        ({"inspector": present(OURS)}, "running"),
        ({"inspector": present(OURS), "inspector_standby": present()}, "waiting"),
        ({"inspector": present(OURS), "inspector_standby": present(OURS)}, "running"),
        ({"inspector": present(OURS), "inspector_standby": present(refused="b")}, "refused"),
        ({"inspector": present(refused="a")}, "loading"),
        ({"inspector": present(OURS.model_copy(update={"engine": "engine-a"}))}, "refused"),
        ({"inspector": present(OURS.model_copy(update={"calibration": "bent"}))}, "refused"),
        ({"inspector": present(OURS.model_copy(update={"recipe": "a"}))}, "loading"),
    ],
)
def test_a_recipe_takes_over_once_everybody_holds_it_by_the_expected_engine(
    there: dict[str, Presence], state: str
) -> None:
    assert judged(EXPECTED, there)[0] == state


class Port:
    """What was said to the inspectors."""

    def __init__(self) -> None:
        self.said: list[Wanted] = []

    def send(self, topic: str, message: Any, *, to: str) -> bool:
        assert (topic, to) == ("recipes", "inspector")
        self.said.append(message)
        return True


@dataclass
class Bridge:
    """A bridge's turns without its sockets."""

    config: LineConfig
    state: State
    swaps: Swaps
    port: Port = field(default_factory=Port)
    there: dict[str, Presence] = field(default_factory=dict)
    now_ns: int = 0

    def turn(self) -> list[Switched]:
        self.now_ns += 1_000_000_000
        switched = list(self.swaps.turn(self.now_ns, self.there))
        for each in switched:
            terms = self.state.terms
            self.state = State(replace(terms, recipes={**terms.recipes, each.number: each.expected}))
        self.swaps.tell(self.port, self.state, self.now_ns)  # type: ignore[arg-type]
        return switched

    def until(self, condition: Callable[[], bool]) -> list[Switched]:
        switched: list[Switched] = []
        end_s = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end_s, self.row
            switched += self.turn()
            time.sleep(0.005)
        return switched

    def ask(self, recipe: Path, id: str) -> str:
        place = Place(path=recipe, recipe=recipes.load(recipe).hash)
        wishes.put(self.config, 1, Wish(id=id, place=place, before=None, entry=self.config.recipe_paths()[1]))
        return place.recipe

    def holds(self, *expected: Expected) -> None:
        self.there = {"inspector": present(*map(loaded_as, expected))}

    @property
    def row(self) -> wishes.Row:
        table = wishes.standing(self.config)
        assert table
        return table.rows["1"]

    def wanted(self) -> list[str]:
        return [one.recipe for one in self.port.said[-1].recipes]


def opened(config: LineConfig) -> Bridge:
    state = State(terms_of(config))
    bridge = Bridge(config, state, Swaps(config))
    bridge.swaps.open(state)
    bridge.holds(*state.terms.recipes.values())
    return bridge


@pytest.fixture
def bridge(line_file: Callable[..., Path]) -> Iterator[Bridge]:
    config = load(line_file())
    config.run_dir.mkdir()
    try:
        yield opened(config)
    finally:
        wishes.standing_file(config).unlink(missing_ok=True)
        config.run_dir.rmdir()


@pytest.fixture
def second(recipe: Path, tmp_path: Path) -> Path:
    limits = recipes.load(recipe).manifest.limits.model_copy(update={"image": 0.3})
    toy_line.write_recipe(tmp_path / "second", limits=limits)
    return tmp_path / "second"


def arrives(bridge: Bridge, recipe: Path) -> list[Switched]:
    """The inspector comes to hold it."""
    old = bridge.state.terms.recipes[1]
    new = recipes.load(recipe)
    limits = new.manifest.limits
    bridge.holds(old, Expected(new.hash, old.calibration, old.engine, limits.low, limits.image))
    return bridge.until(lambda: bridge.row.place.recipe == new.hash)


def test_it_is_asked_for_held_and_takes_over(bridge: Bridge, second: Path) -> None:
    bridge.turn()
    old = bridge.row.place.recipe
    assert bridge.wanted() == [old]
    new = bridge.ask(second, "w1")
    assert bridge.until(lambda: bridge.row.reason == "inspector is opening it") == []
    assert [one.coming for one in bridge.port.said[-1].recipes] == [False, True]
    assert bridge.wanted() == [old, new] and (bridge.row.wish, bridge.row.place.recipe) == ("w1", old)
    [switched] = arrives(bridge, second)
    assert (switched.number, switched.expected.recipe, switched.expected.limit) == (1, new, 0.3)
    assert (bridge.row.state, bridge.row.place.path) == ("running", second)
    assert bridge.wanted() == [new, old], "the former is kept, the way back is short"
    assert [(one.used, one.coming) for one in bridge.port.said[-1].recipes] == [(True, False), (False, False)]


def test_who_refuses_it_keeps_what_is_in_use(bridge: Bridge, second: Path) -> None:
    bridge.turn()
    old = bridge.row.place.recipe
    new = bridge.ask(second, "w1")
    bridge.there["inspector"] = present(*bridge.there["inspector"].loaded, refused=new)
    assert bridge.until(lambda: bridge.row.state == "refused") == []
    assert (bridge.row.place.recipe, bridge.row.reason) == (old, "inspector: no")
    assert bridge.wanted() == [old]
    bridge.swaps = Swaps(bridge.config)
    bridge.swaps.open(bridge.state)
    bridge.turn()
    assert (bridge.row.state, bridge.wanted()) == ("refused", [old]), "a bridge started again does not try it again"


def test_what_the_bridge_cannot_verify_is_refused_whatever_the_inspector_holds(bridge: Bridge, second: Path) -> None:
    bridge.turn()
    bridge.ask(second, "w1")
    (second / "network.onnx").write_bytes(b"other")
    bridge.until(lambda: bridge.row.state == "refused")
    assert "was changed" in bridge.row.reason


def test_a_recipe_over_which_inspectors_fall_is_refused_at_the_second_fall(bridge: Bridge, second: Path) -> None:
    bridge.turn()
    bridge.ask(second, "w1")
    bridge.until(lambda: bridge.row.reason == "inspector is opening it")
    for stage, state in (("capture_top", "loading"), ("inspector", "loading"), ("inspector", "refused")):
        bridge.swaps.fell(stage)
        bridge.turn()
        assert bridge.row.state == state


def test_a_wish_that_is_overtaken_never_takes_over(bridge: Bridge, second: Path, recipe: Path) -> None:
    bridge.turn()
    old = bridge.row.place.recipe
    bridge.ask(second, "w1")
    bridge.until(lambda: bridge.row.reason == "inspector is opening it")
    bridge.ask(recipe, "w2")
    bridge.until(lambda: bridge.row.wish == "w2")
    assert (bridge.row.state, bridge.wanted()) == ("running", [old])
    new = recipes.load(second)
    bridge.there["inspector"] = present(*bridge.there["inspector"].loaded, OURS.model_copy(update={"recipe": new.hash}))
    assert bridge.turn() == bridge.turn() == []


def test_a_bridge_that_is_started_again_in_the_middle_goes_on(bridge: Bridge, second: Path) -> None:
    bridge.turn()
    bridge.ask(second, "w1")
    bridge.until(lambda: bridge.row.reason == "inspector is opening it")
    again = opened(bridge.config)
    assert again.state.terms.recipes == bridge.state.terms.recipes
    assert len(arrives(again, second)) == 1
    after = opened(bridge.config)
    assert after.state.terms.recipes[1].recipe == recipes.load(second).hash
    after.turn()
    assert after.turn() == [] and after.row.state == "running"


def test_a_recipe_that_a_panel_in_flight_names_is_held(bridge: Bridge, second: Path, recipe: Path) -> None:
    from handshake_parts import Desk

    bridge.turn()
    first = bridge.state.terms.recipes[1]
    desk = Desk()
    desk.switch(first)
    desk.trigger(1)
    bridge.ask(second, "w1")
    arrives(bridge, second)
    bridge.swaps.rows[1] = bridge.swaps.rows[1].model_copy(update={"former": None})
    assert [one.recipe for one in bridge.swaps.wanted(bridge.state).recipes] == [recipes.load(second).hash]
    flying = State(bridge.state.terms, panels=desk.state.panels)
    assert first.recipe in [one.recipe for one in bridge.swaps.wanted(flying).recipes]
