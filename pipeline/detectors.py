"""The recipes that an inspector holds open; another one is opened, warmed and proven beside them in a thread.

The loop never waits for that thread: it hands over what is to be opened or closed, and looks at each turn whether
something has become ready. Opening and running a session leave Python's lock to the loop.
"""

import queue
from collections.abc import Iterator, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.detector import Detector
from engines.integrity import History
from engines.recipe import Recipe
from pipeline import wishes
from pipeline.candidates import candidate, loaded
from pipeline.config import LineConfig
from pipeline.engine_room import opened
from pipeline.errors import EngineError, TaktError
from pipeline.log import logger
from pipeline.messages import Loaded, RecipeAt, Refusal, Wanted
from pipeline.rehearsal import rehearse
from pipeline.wishes import Place

LOG = logger("detectors")
SEEN_S = 2.0  # a line that stands still for so long shows no set to try a recipe on
MOST_SAID = 400


@dataclass
class Held:
    """An open detector, what closes it, and the places of its newest sets."""

    detector: Detector
    stack: ExitStack
    history: History


@dataclass
class Detectors(Mapping[str, Detector]):
    """Detectors by the hash of their recipe. Every method is the loop's; `_open` runs in the thread."""

    config: LineConfig
    held: dict[str, Held] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # recipe -> why
    hungry: bool = False  # a set of the line would be welcome, to try a recipe on
    _closed_calls: int = 0
    _shared: History = field(default_factory=History)
    _wanted: tuple[RecipeAt, ...] | None = None  # None: nothing was said yet
    _opening: tuple[str, "Future[Held]"] | None = None
    _seen: "queue.Queue[NDArray]" = field(default_factory=lambda: queue.Queue(maxsize=1))
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "recipes"))

    def __getitem__(self, recipe: str) -> Detector:
        return self.held[recipe].detector

    def __iter__(self) -> Iterator[str]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)

    @property
    def calls(self) -> int:
        """Runs of the network, those of closed detectors included."""
        return self._closed_calls + sum(detector.network_calls for detector in self.values())

    def used(self) -> list[Detector]:
        """Those that panels may name: what is to take over, or was used before, makes no line unready."""
        wanted = {one.recipe for one in self._wanted or () if one.used}
        return [detector for recipe, detector in self.items() if self._wanted is None or recipe in wanted]

    def history(self, recipe: str) -> History:
        """Of the station's sets, which are one row of all recipes; how they lay is told against each recipe's own."""
        return self.held[recipe].history

    def loaded(self) -> tuple[Loaded, ...]:
        """For the bridge: what the verdicts of each would name."""
        return tuple(
            Loaded(recipe=one.recipe_hash, calibration=one.calibration_hash, engine=one.engine_hash)
            for one in self.values()
        )

    def refusals(self) -> tuple[Refusal, ...]:
        return tuple(Refusal(recipe=recipe, why=why[:MOST_SAID]) for recipe, why in self.refused.items())

    def begin(self) -> None:
        """Open what is in use, before the first turn."""
        for row in wishes.in_use(self.config).values():
            recipe = loaded(row.place)
            if recipe.hash not in self.held:
                self._hold(_entered(self.config, recipe))
                self[recipe.hash].warm()

    def want(self, wanted: Wanted) -> None:
        """The bridge has said which recipes to hold."""
        self._wanted = wanted.recipes
        named = {one.recipe for one in wanted.recipes}
        self.refused = {recipe: why for recipe, why in self.refused.items() if recipe in named}

    def offer(self, pixels: NDArray) -> None:
        """A raw set of the line that fits; copied, since its slot goes back."""
        if self.hungry:
            self.hungry = False
            self._seen.put_nowait(pixels.copy())

    def turn(self, in_flight: Set[str]) -> None:
        """Take over what is ready, give up what nobody wants, begin what is missing."""
        if self._opening and self._opening[1].done():
            self._take(*self._opening)
        if self._wanted is None:
            return
        named = [one.recipe for one in self._wanted]
        for recipe in [recipe for recipe in self.held if recipe not in named and recipe not in in_flight]:
            self._give_up(recipe)
        missing = [one for one in self._wanted if one.recipe not in self.held and one.recipe not in self.refused]
        if missing and self._opening is None:
            self._begin(missing[0])

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._opening and not self._opening[1].cancelled() and self._opening[1].exception() is None:
            self._opening[1].result().stack.close()
        for held in self.held.values():
            held.stack.close()

    def _begin(self, place: RecipeAt) -> None:
        LOG.info("opening recipe", extra={"recipe": place.recipe, "path": place.path})
        self._seen = queue.Queue(maxsize=1)
        self.hungry = True
        self._opening = place.recipe, self._thread.submit(_opened, self.config, place, self._seen)

    def _take(self, recipe: str, future: "Future[Held]") -> None:
        self._opening, self.hungry = None, False
        why = future.exception()
        if why is None:
            LOG.info("recipe is ready", extra={"recipe": recipe})
            self._hold(future.result())
            return
        expected = isinstance(why, TaktError)
        self.refused[recipe] = str(why) if expected else f"{type(why).__name__}: {why}"
        LOG.error("recipe refused", extra={"recipe": recipe, "why": str(why)}, exc_info=None if expected else why)

    def _hold(self, held: Held) -> None:
        held.history.sets = self._shared.sets
        self.held[held.detector.recipe_hash] = held
        for lacks, what in ((not held.detector.checks_integrity, INTEGRITY), (not held.detector.proves_itself, GOLDEN)):
            if lacks:
                LOG.warning(what, extra={"recipe": held.detector.recipe_hash})

    def _give_up(self, recipe: str) -> None:
        held = self.held.pop(recipe)
        self._closed_calls += held.detector.network_calls
        self._thread.submit(held.stack.close)


INTEGRITY = "recipe has no integrity limits; add them with takt relearn"
GOLDEN = "recipe has no golden defects: a sick engine would not be seen"


@contextmanager
def open_detectors(config: LineConfig) -> Iterator[Detectors]:
    """Every recipe in use, loaded and warm."""
    detectors = Detectors(config)
    try:
        detectors.begin()
        yield detectors
    finally:
        detectors.close()


def _entered(config: LineConfig, recipe: Recipe) -> Held:
    stack = ExitStack()
    return Held(stack.enter_context(opened(config, recipe)), stack, History())


def _opened(config: LineConfig, place: RecipeAt, seen: "queue.Queue[NDArray]") -> Held:
    """In the thread: a detector that has shown that it can take over."""
    recipe, expected = candidate(config, Place(path=Path(place.path), recipe=place.recipe))
    held = _entered(config, recipe)
    try:
        engine = held.detector.engine_hash
        if engine != expected.engine:
            raise EngineError(f"engine {engine[:12]} was opened, {expected.engine[:12]} is this line's")
        rehearse(held.detector, recipe, _newest(seen))
    except BaseException:
        held.stack.close()
        raise
    return held


def _newest(seen: "queue.Queue[NDArray]") -> NDArray | None:
    try:
        return np.ascontiguousarray(seen.get(timeout=SEEN_S))
    except queue.Empty:
        LOG.info("no set of the line came to try the recipe on")
        return None
