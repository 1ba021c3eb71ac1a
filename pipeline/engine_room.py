"""Which engine a line uses for a recipe: what the bridge expects, what an inspector opens, and where it is built.

No engine inspects on a line before this machine has certified it, see `engines.parity`. A recipe without golden panels
cannot be: it is used as it is where the line file allows "unproven_recipe".
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from numpy.typing import NDArray

from engines.cache import Cache, Choice, Engine
from engines.certificate import Certificate
from engines.certifying import Built, Workshop
from engines.detector import Detector, open_detector
from engines.errors import EngineError, OutOfDeviceMemoryError
from engines.parity import Tell
from engines.recipe import Recipe
from pipeline import wishes
from pipeline.config import LineConfig
from pipeline.keys import machine_key, public_key
from pipeline.signatures import load_recipe


def engine_hash(config: LineConfig, recipe: Recipe) -> str:
    """The hash of the engine that this line must use for `recipe`, known without opening it.

    Raises:
        EngineError: it is not certified; says what to run.
    """
    return certified(config, recipe)[0].key.hash


def opened(config: LineConfig, recipe: Recipe) -> AbstractContextManager[Detector]:
    """The detector that this line uses for `recipe`, to be entered.

    Raises:
        EngineError: its engine is not certified; says what to run.
    """
    engine, _ = certified(config, recipe)
    kept = cache_of(config.state).folder
    return open_detector(recipe, **asdict(engine.choice), derived=engine.graph, kept=kept)


def certified(config: LineConfig, recipe: Recipe) -> tuple[Engine, Certificate | None]:
    """The line's engine for `recipe` with its certificate; None for a recipe that cannot have one.

    Raises:
        EngineError: it is not certified; says what to run.
    """
    cache, choice = cache_of(config.state), choice_of(config)
    if unproven(config, recipe) and (engine := cache.find(recipe, choice)):
        return engine, None
    refusal: EngineError | None = None
    for one in choices_of(config):
        try:
            return cache.certified(recipe, one)
        except EngineError as error:
            refusal = refusal or error
    what = f"recipe {recipe.path.name}: {choice.runtime} {choice.precision} may not inspect, {refusal}"
    raise EngineError(f"{what}: takt build {recipe.path} --line {config.source}")


def unproven(config: LineConfig, recipe: Recipe) -> bool:
    """Whether the line takes this recipe although no engine can be held against it."""
    return "unproven_recipe" in config.allow and not any(one.defective for one in recipe.golden)


def choice_of(config: LineConfig) -> Choice:
    engine = config.engine
    return Choice(engine.runtime, engine.precision, engine.threads, engine.max_batch)


def choices_of(config: LineConfig) -> list[Choice]:
    """The engine that the line wants and, where its settings allow smaller batches, each with half of the one before.

    The first that is certified is used; bridge and inspector come to the same.
    """
    choice, found = choice_of(config), []
    while choice.max_batch >= 1:
        found.append(choice)
        if not config.engine.smaller_batch:
            break
        choice = replace(choice, max_batch=choice.max_batch // 2)
    return found


def build(
    workshop: Workshop,
    recipe: Recipe,
    choices: Sequence[Choice],
    panels: Iterable[NDArray] | None = None,
    again: bool = False,
) -> Built:
    """The first of `choices` for which the card has the memory.

    Raises:
        TaktError: see `engines.certifying.Workshop.build`.
    """
    for choice in choices[:-1]:
        try:
            return workshop.build(recipe, choice, panels, again)
        except OutOfDeviceMemoryError as error:
            workshop.tell(f"{error}; trying half", 0, 1)
    return workshop.build(recipe, choices[-1], panels, again)


def cache_of(state: Path) -> Cache:
    """The engines below a state folder, vouched for by the machine's key there."""
    public = public_key(state)
    return Cache(state / "engines", public.holds if public else lambda text, signature: False)


def workshop_of(state: Path, tell: Tell) -> Workshop:
    """Where engines for lines with this state folder are built; makes the machine's key where there is none."""
    key = machine_key(state)
    return Workshop(cache_of(state), key.sign, datetime.now(UTC).isoformat(timespec="seconds"), tell)


def build_all(config: LineConfig, tell: Tell = lambda phase, done, total: None) -> list[Built]:
    """Build what the recipes lack that a start would use; nothing for those that cannot be certified and need not be.

    Raises:
        TaktError: a recipe or engine cannot be used at all; an engine that is refused comes with its certificate.
    """
    workshop = workshop_of(config.state, tell)
    paths = dict.fromkeys(row.place.path for row in wishes.resolved(config).values())
    loaded = [load_recipe(config, path) for path in paths]
    return [build(workshop, recipe, choices_of(config)) for recipe in loaded if not unproven(config, recipe)]
