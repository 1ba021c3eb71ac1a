"""Which engine a line uses for a recipe: what the bridge expects, and what an inspector opens."""

from contextlib import AbstractContextManager

from engines.build import engine_key
from engines.detector import Detector, open_detector
from engines.recipe import Recipe
from pipeline.config import LineConfig


def engine_hash(config: LineConfig, recipe: Recipe) -> str:
    """The hash of the engine that this line must use for `recipe`, known without opening it."""
    return engine_key(recipe, config.engine.runtime, config.engine.precision).hash


def opened(config: LineConfig, recipe: Recipe) -> AbstractContextManager[Detector]:
    """The detector that this line uses for `recipe`, to be entered."""
    engine = config.engine
    return open_detector(recipe, engine.runtime, engine.precision, engine.threads, engine.max_batch)
