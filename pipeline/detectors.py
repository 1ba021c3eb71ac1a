"""The recipes that an inspector holds open; another one is opened, warmed and proven beside them in a thread.

The loop never waits for that thread: it hands over what is to be opened, proven or closed, and looks at each turn
whether something has become ready. Opening and running a session leave Python's lock to the loop.

A recipe that was in use before stays open for the way back. No panel names it, so the thread may run it: now and then,
and before it takes over again. Until it has shown then that it can, nobody is told that it is held.
"""

import queue
from collections.abc import Iterator, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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
from pipeline.rehearsal import Seen, prove, rehearse, try_on
from pipeline.wishes import Place

LOG = logger("detectors")
SEEN_S = 2.0  # a line that stands still for so long shows no set to try a recipe on
MOST_SETS = 8  # of other products that do not fit, before it is taken untried
KEPT_NS = 10_000_000_000  # on an idle line, from one proof of a kept recipe to the next
MOST_SAID = 400


@dataclass
class Held:
    """An open detector, what closes it, and the places of its newest sets.

    `shown`: it has proven itself since it was asked to take over, or is in use since it did.
    """

    detector: Detector
    stack: ExitStack
    history: History
    shown: bool = True


@dataclass
class Detectors(Mapping[str, Detector]):
    """Detectors by the hash of their recipe. Every method is the loop's; `_opened` and `prove` run in the thread."""

    config: LineConfig
    held: dict[str, Held] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # recipe -> why
    hungry: bool = False  # a set of the line would be welcome, to try a recipe on
    _closed_calls: int = 0
    _rings: list[NDArray] = field(default_factory=list)
    _shared: History = field(default_factory=History)
    _wanted: tuple[RecipeAt, ...] | None = None  # None: nothing was said yet
    _in_flight: Set[str] = frozenset()
    _opening: tuple[str, "Future[Held]"] | None = None
    _proving: tuple[Held, "Future[None]"] | None = None
    _kept: tuple[str, int] = ("", 0)  # the one that was asked last, and when
    _seen: "queue.Queue[Seen]" = field(default_factory=lambda: queue.Queue(maxsize=1))
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "recipes"))

    def __getitem__(self, recipe: str) -> Detector:
        return self.held[recipe].detector

    def __iter__(self) -> Iterator[str]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)

    @property
    def max_batch(self) -> int:
        """Panels that one call takes, of whichever recipe; 0 while nothing is held."""
        return min((detector.max_batch for detector in self.values()), default=0)

    @property
    def batch_s(self) -> float:
        """What the largest batch took, of whichever recipe, when it was warmed."""
        return max((detector.batch_s for detector in self.values()), default=0.0)

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
        """For the bridge: what the verdicts of each would name that is in use or may take over."""
        shown = [held.detector for held in self.held.values() if held.shown]
        return tuple(
            Loaded(recipe=one.recipe_hash, calibration=one.calibration_hash, engine=one.engine_hash) for one in shown
        )

    def refusals(self) -> tuple[Refusal, ...]:
        return tuple(Refusal(recipe=recipe, why=why[:MOST_SAID]) for recipe, why in self.refused.items())

    def begin(self) -> None:
        """Open what is in use, before the first turn."""
        for row in wishes.in_use(self.config).values():
            recipe = loaded(self.config, row.place)
            if recipe.hash not in self.held:
                self._hold(_entered(self.config, recipe))
                self[recipe.hash].warm()

    def want(self, wanted: Wanted) -> None:
        """The bridge has said which recipes to hold; what it asks for anew is tried anew."""
        as_before = {one.recipe for one in wanted.recipes if one in (self._wanted or ())}
        self._wanted = wanted.recipes
        self.refused = {recipe: why for recipe, why in self.refused.items() if recipe in as_before}
        asked = {one.recipe for one in wanted.recipes if _asked(one)}
        for recipe, held in self.held.items():
            held.shown = held.shown and recipe in asked

    def offer(self, pixels: NDArray, product: str) -> None:
        """A raw set of the line that fits, and its product; copied, since its slot goes back."""
        if self.hungry and self._seen.empty():
            self._seen.put_nowait(Seen(pixels.copy(), product))

    def pin(self, memory: NDArray) -> None:
        """A ring that panels will come out of: a card reads it without a copy on the host."""
        self._rings.append(memory)
        for detector in self.values():
            detector.pin(memory)

    def turn(self, in_flight: Set[str]) -> None:
        """Take over what is ready, give up what nobody wants, begin what is missing."""
        self._in_flight = in_flight
        if self._opening and self._opening[1].done():
            self._take(*self._opening)
        if self._proving and self._proving[1].done():
            self._take_proof(*self._proving)
        if self._wanted is None:
            return
        for recipe in self._superfluous():
            self._give_up(recipe)
        lacking = (one for one in self._wanted if self._lacks(one))
        if not self._busy and (first := next(lacking, None)):
            self._begin(first)

    def ask_kept(self, now_ns: int) -> None:
        """An idle line: let the next one that is kept for the way back prove itself, if it is time."""
        kept = [one for one in self._wanted or () if one.recipe in self.held and not _asked(one)]
        free = sorted(one.recipe for one in kept if one.recipe not in self._in_flight)
        last, then_ns = self._kept
        if free and not self._busy and now_ns - then_ns >= KEPT_NS:
            recipe = next((one for one in free if one > last), free[0])
            self._kept = recipe, now_ns
            self._prove(self.held[recipe])

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._opening and not self._opening[1].cancelled() and self._opening[1].exception() is None:
            self._opening[1].result().stack.close()
        for held in self.held.values():
            held.stack.close()

    @property
    def _busy(self) -> bool:
        return self._opening is not None or self._proving is not None

    def _superfluous(self) -> list[str]:
        """What nobody names; nothing while one that is in use is not held: the message may have been damaged."""
        wanted = self._wanted or ()
        if not all(one.recipe in self.held for one in wanted if one.used):
            return []
        return list(self.held.keys() - {one.recipe for one in wanted} - self._in_flight)

    def _lacks(self, one: RecipeAt) -> bool:
        """Whether it is to be opened, or to show that it can take over."""
        held = self.held.get(one.recipe)
        if held is None:
            return one.recipe not in self.refused
        return _asked(one) and not held.shown and one.recipe not in self._in_flight

    def _begin(self, place: RecipeAt) -> None:
        if place.recipe in self.held:
            self._prove(self.held[place.recipe])
            return
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

    def _prove(self, held: Held) -> None:
        self._proving = held, self._thread.submit(prove, held.detector)

    def _take_proof(self, held: Held, future: "Future[None]") -> None:
        """Who does not see its golden defect is closed; where it is still wanted, it is opened and rehearsed anew."""
        self._proving = None
        recipe, why = held.detector.recipe_hash, future.exception()
        if self.held.get(recipe) is not held:
            return
        held.shown = why is None and any(one.recipe == recipe and _asked(one) for one in self._wanted or ())
        if why is not None:
            LOG.error("kept recipe does not prove itself", extra={"recipe": recipe, "why": str(why)}, exc_info=why)
            self._give_up(recipe)

    def _hold(self, held: Held) -> None:
        held.history.sets = self._shared.sets
        for memory in self._rings:
            held.detector.pin(memory)
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


def _asked(one: RecipeAt) -> bool:
    """Whether its verdicts count, or soon will; else it is kept for the way back."""
    return one.used or one.coming


def _entered(config: LineConfig, recipe: Recipe) -> Held:
    if not recipe.signed_by:
        LOG.warning("recipe is not signed by anybody trusted, which is allowed", extra={"recipe": recipe.hash})
    stack = ExitStack()
    return Held(stack.enter_context(opened(config, recipe)), stack, History())


def _opened(config: LineConfig, place: RecipeAt, seen: "queue.Queue[Seen]") -> Held:
    """In the thread: a detector that has shown that it can take over."""
    recipe, expected = candidate(config, Place(path=Path(place.path), recipe=place.recipe))
    held = _entered(config, recipe)
    try:
        engine = held.detector.engine_hash
        if engine != expected.engine:
            raise EngineError(f"engine {engine[:12]} was opened, {expected.engine[:12]} is this line's")
        rehearse(held.detector, recipe)
        _tried(held.detector, seen)
    except BaseException:
        held.stack.close()
        raise
    return held


def _tried(detector: Detector, seen: "queue.Queue[Seen]") -> None:
    """On the newest set of the line that fits; other products may lie between."""
    try:
        if any(try_on(detector, seen.get(timeout=SEEN_S)) for _ in range(MOST_SETS)):
            return
    except queue.Empty:
        pass
    LOG.info("no set of the line came to try the recipe on", extra={"recipe": detector.recipe_hash})
