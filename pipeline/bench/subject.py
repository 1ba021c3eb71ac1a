"""What a passport is of: a recipe, the engine that a line or a person chose for it, and the sizes of its panels."""

from typing import Any

from engines.cache import Engine
from engines.gather import Gather
from engines.recipe import Recipe
from engines.station import IDENTITY
from pipeline import wishes
from pipeline.bench.engine import Panel, panels_of, rows_of
from pipeline.bench.passport import Subject
from pipeline.candidates import loaded
from pipeline.config import LineConfig
from pipeline.devices import camera_settings, conveyor_settings
from pipeline.engine_room import certified
from pipeline.errors import ConfigError


def subject_of(recipe: Recipe, engine: Engine, panel: Panel) -> Subject:
    """`panel` is one as it is inspected, [C, H, W]."""
    manifest, choice = recipe.manifest, engine.choice
    shape = Gather(len(manifest.channels), manifest.geometry, manifest.dtype).shape
    return Subject(
        product=manifest.product,
        recipe=recipe.hash,
        engine=engine.key.hash,
        calibration=IDENTITY.hash,
        method=manifest.method,
        runtime=choice.runtime,
        precision=choice.precision,
        threads=choice.threads,
        max_batch=choice.max_batch,
        channels=panel.shape[0],
        panel=(panel.shape[1], panel.shape[2]),
        dtype=manifest.dtype,
        rows=rows_of(recipe, panel),
        tile=(shape[1], shape[2]),
        geometry=manifest.geometry.model_dump(mode="json"),
        golden_row=any(one.defective for one in recipe.golden),
    )


def subject_of_line(config: LineConfig) -> Subject:
    """Of the recipe that the conveyor asks for.

    Raises:
        TaktError: the recipe or its engine cannot be used, or the line has none of that number.
    """
    number, rows = conveyor_settings(config).number(1), wishes.resolved(config)
    if number not in rows:
        raise ConfigError(f"conveyor.settings.recipe_no: the line has no recipe {number}: name one of [recipes]")
    recipe = loaded(config, rows[number].place)
    return subject_of(recipe, certified(config, recipe)[0], panels_of(recipe, 1, frame_size(config))[0])


def frame_size(config: LineConfig) -> tuple[int, int] | None:
    """Height and width of the frames, where the camera's settings say; else the recipe's panels have it."""
    look: Any = getattr(camera_settings(config, config.cameras[0]), "look", None)
    return (look.height, look.width) if look is not None else None
