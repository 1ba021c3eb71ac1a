"""The bridge's half of a swap: from a wish to the moment between two triggers when another recipe takes over.

The bridge verifies the recipe itself, in a thread, and asks the inspectors to hold it; what it then expects of a
verdict comes from the recipe and the line file, not from them. It takes over once every inspector that may get a panel
says that it holds it, by the engine and calibration that the bridge expects. Until then, and where anybody refuses it,
what is in use stays in use.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from engines.recipe import Recipe
from pipeline import wishes
from pipeline.bus import Port
from pipeline.candidates import candidate
from pipeline.config import LineConfig
from pipeline.errors import ConfigError, TaktError
from pipeline.log import logger
from pipeline.messages import Loaded, Presence, RecipeAt, Wanted
from pipeline.metrics import Metrics
from pipeline.open_panels import Expected, State, Switched
from pipeline.stages import inspectors
from pipeline.wishes import Place, Row, Standing

LOG = logger("swaps")
LOOK_NS = 200_000_000
TELL_NS = 500_000_000
AGAIN = "again"  # no id of a wish
MOST_FALLS = 1  # of inspectors while they open a recipe; the next one is the recipe's doing


@dataclass
class Pending:
    """A recipe on its way to take over; `expected` once the bridge knows it."""

    number: int
    place: Place
    loading: "Future[tuple[Recipe, Expected]]"
    expected: Expected | None = None
    falls: int = 0


def judged(expected: Expected, present: Mapping[str, Presence]) -> tuple[Standing, str]:
    """How a recipe stands that the bridge knows: `running` means that it may. Pure."""
    names = loaded_as(expected)
    for name, presence in present.items():
        for refusal in presence.refused:
            if refusal.recipe == expected.recipe:
                return "refused", f"{name}: {refusal.why}"
        others = [one for one in presence.loaded if one.recipe == expected.recipe and one != names]
        if others:
            return "refused", f"{name} opened engine {others[0].engine[:12]}, {expected.engine[:12]} is expected"
    lacking = [name for name, presence in present.items() if names not in presence.loaded]
    if not present:
        return "waiting", "no inspector is ready"
    if lacking:
        return ("loading" if len(lacking) == len(present) else "waiting"), f"{', '.join(lacking)} is opening it"
    return "running", ""


def loaded_as(expected: Expected) -> Loaded:
    """What an inspector must say to hold it."""
    return Loaded(recipe=expected.recipe, calibration=expected.calibration, engine=expected.engine)


@dataclass
class Swaps:
    """What the bridge knows of wishes, and what it told whom."""

    config: LineConfig
    metrics: Metrics = field(default_factory=Metrics)
    rows: dict[int, Row] = field(default_factory=dict)
    trouble: str = ""
    _pending: dict[int, Pending] = field(default_factory=dict)
    _paths: dict[str, str] = field(default_factory=dict)  # of every recipe that was in use
    _wished: tuple[int, ...] | None = None  # what the file of the wishes looked like
    _looked_ns: int = 0
    _told: tuple[Wanted, int] | None = None
    _stood: str = ""
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "recipes"))

    def open(self, state: State) -> None:
        """Begin with what is in use."""
        rows = wishes.in_use(self.config)
        for number, expected in state.terms.recipes.items():
            known = Place(path=rows[number].place.path, recipe=expected.recipe)
            changes = {"place": known, "engine": expected.engine}
            if rows[number].state in ("loading", "waiting"):  # the bridge before this one did not come to its end
                changes |= {"state": "running", "reason": "", "wish": AGAIN}
            self.rows[number] = rows[number].model_copy(update=changes)
            self._paths[expected.recipe] = str(known.path)

    def turn(self, now_ns: int, present: Mapping[str, Presence]) -> Iterator[Switched]:
        """What takes over now; `present` are the inspectors that may get panels."""
        if now_ns - self._looked_ns > LOOK_NS:
            self._looked_ns = now_ns
            self._look()
        for pending in list(self._pending.values()):
            if pending.expected is None:
                self._known(pending)
            if pending.expected is None:
                continue
            state, reason = judged(pending.expected, present)
            if state == "running":
                yield self._switch(pending, pending.expected)
            elif state == "refused":
                self._refuse(pending, reason)
            else:
                self._say(pending.number, state, reason)

    def fell(self, name: str) -> None:
        """An inspector has ended: while it opens a recipe, that may be the recipe's doing."""
        for pending in list(self._pending.values()) if name in inspectors(self.config) else ():
            pending.falls += 1
            if pending.falls > MOST_FALLS:
                self._refuse(pending, f"{name} ended while it opened it, again")

    def tell(self, control: Port, state: State, now_ns: int) -> None:
        """Say to the inspectors what to hold, and to whoever asks how the numbers stand."""
        wanted = self.wanted(state)
        if self._told is None or wanted != self._told[0] or now_ns - self._told[1] > TELL_NS:
            self._told = wanted, now_ns
            for name in inspectors(self.config):
                control.send("recipes", wanted, to=name)
        self._stand()

    def wanted(self, state: State) -> Wanted:
        """In use first, then what is to take over, what a panel in flight names, and one former recipe a number."""
        places = {expected.recipe: self._paths[expected.recipe] for expected in state.terms.recipes.values()}
        coming = [pending for pending in self._pending.values() if pending.expected]
        places |= {pending.expected.recipe: str(pending.place.path) for pending in coming if pending.expected}
        flying = {panel.expected.recipe for panel in state.panels if panel.expected}
        places |= {recipe: self._paths[recipe] for recipe in sorted(flying & self._paths.keys())}
        formers = [row.former for row in self.rows.values() if row.former and row.former.recipe]
        places |= {former.recipe: str(former.path) for former in formers}
        used = {expected.recipe for expected in state.terms.recipes.values()}
        next = {pending.expected.recipe for pending in coming if pending.expected}
        recipes = [
            RecipeAt(recipe=recipe, path=path, used=recipe in used, coming=recipe in next)
            for recipe, path in places.items()
        ]
        return Wanted(station=self.config.station, recipes=tuple(recipes))

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- the wishes ---

    def _look(self) -> None:
        """Take up what was asked for since the last look; a file that cannot be read changes nothing."""
        wished = _seen(self.config)
        if wished == self._wished:
            return
        self._wished = wished
        try:
            found = wishes.resolved(self.config)
        except ConfigError as error:
            self.trouble = str(error)
            LOG.error("wishes cannot be read", extra={"why": self.trouble})
            return
        self.trouble = ""
        for number, row in found.items():
            if number in self.rows and row.wish != self.rows[number].wish:
                self._take_up(number, row)

    def _take_up(self, number: int, row: Row) -> None:
        self._pending.pop(number, None)
        now = self.rows[number]
        kept = {} if now.state == "refused" else {"state": "running", "reason": ""}
        self.rows[number] = now.model_copy(update={"wish": row.wish, **kept})
        if now.place.recipe == row.place.recipe or (not row.place.recipe and now.place.path == row.place.path):
            return
        LOG.info("recipe asked for", extra={"number": number, "path": str(row.place.path)})
        self._pending[number] = Pending(number, row.place, self._thread.submit(candidate, self.config, row.place))
        self._say(number, "loading", f"the bridge verifies {row.place.path}")

    def _known(self, pending: Pending) -> None:
        if not pending.loading.done():
            return
        why = pending.loading.exception()
        if why is not None:
            self._refuse(pending, str(why) if isinstance(why, TaktError) else f"{type(why).__name__}: {why}")
            return
        recipe, pending.expected = pending.loading.result()
        pending.place = Place(path=recipe.path, recipe=recipe.hash)

    # --- how it ends ---

    def _switch(self, pending: Pending, expected: Expected) -> Switched:
        del self._pending[pending.number]
        self._paths[expected.recipe] = str(pending.place.path)
        now = self.rows[pending.number]
        told = {"place": pending.place, "engine": expected.engine, "former": now.place}
        self.rows[pending.number] = now.model_copy(update=told | {"state": "running", "reason": ""})
        what = {"number": pending.number, "from": now.place.recipe, "to": expected.recipe}
        LOG.info("recipe takes over", extra=what)
        self.metrics.count("recipe_swaps", "switched")
        return Switched(pending.number, expected)

    def _refuse(self, pending: Pending, reason: str) -> None:
        del self._pending[pending.number]
        self._say(pending.number, "refused", reason)
        LOG.error("recipe refused", extra={"number": pending.number, "path": str(pending.place.path), "why": reason})
        self.metrics.count("recipe_swaps", "refused")

    def _say(self, number: int, state: Standing, reason: str) -> None:
        self.rows[number] = self.rows[number].model_copy(update={"state": state, "reason": reason})

    def _stand(self) -> None:
        """Write the standing where it has changed."""
        said = repr((self.rows, self.trouble))
        if said == self._stood:
            return
        try:
            wishes.stand(self.config, self.rows, self.trouble)
        except ConfigError as error:
            LOG.error(str(error))
            return
        self._stood = said


def _seen(config: LineConfig) -> tuple[int, ...]:
    """Differs after every change of the wishes."""
    try:
        found = os.stat(wishes.wish_file(config))  # noqa: PTH116
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ino, found.st_size


def needed(expected: Iterable[Expected]) -> frozenset[Loaded]:
    """What an inspector must hold to get panels."""
    return frozenset(map(loaded_as, expected))
