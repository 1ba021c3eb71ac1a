"""Which engine a line uses for a recipe: what the bridge expects, what an inspector opens, and where it is built.

No engine inspects on a line before this machine has certified it, see `engines.parity`. A recipe without golden panels
cannot be: it is used as it is where the line file allows "unproven_recipe".
"""

from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from engines.cache import Cache, Choice, Engine
from engines.certificate import Certificate
from engines.certifying import Built, Workshop
from engines.detector import Detector, open_detector
from engines.errors import EngineError
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
    return open_detector(recipe, **asdict(engine.choice), derived=engine.graph)


def certified(config: LineConfig, recipe: Recipe) -> tuple[Engine, Certificate | None]:
    """The line's engine for `recipe` with its certificate; None for a recipe that cannot have one.

    Raises:
        EngineError: it is not certified; says what to run.
    """
    cache, choice = cache_of(config.state), choice_of(config)
    if unproven(config, recipe) and (engine := cache.find(recipe, choice)):
        return engine, None
    try:
        return cache.certified(recipe, choice)
    except EngineError as error:
        engine = f"recipe {recipe.path.name}: {choice.runtime} {choice.precision} may not inspect, {error}"
        raise EngineError(f"{engine}: takt build {recipe.path} --line {config.source}") from None


def unproven(config: LineConfig, recipe: Recipe) -> bool:
    """Whether the line takes this recipe although no engine can be held against it."""
    return "unproven_recipe" in config.allow and not any(one.defective for one in recipe.golden)


def choice_of(config: LineConfig) -> Choice:
    engine = config.engine
    return Choice(engine.runtime, engine.precision, engine.threads, engine.max_batch)


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
    return [workshop.build(recipe, choice_of(config)) for recipe in loaded if not unproven(config, recipe)]
