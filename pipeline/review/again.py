"""Kept frames through the recipe now in use, by the engine that the line would use. Nothing is written anywhere."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from calibration.panels import Frames, read_panel
from engines.errors import TaktError
from engines.recipe import Recipe
from pipeline import wishes
from pipeline.config import LineConfig
from pipeline.engine_room import opened
from pipeline.errors import NotFoundError, RefusedError
from pipeline.messages import Fault, Outcome
from pipeline.refusals import check_channels
from pipeline.review.facts import Again
from pipeline.review.looking import Kept
from pipeline.review.panel import Pictures
from pipeline.signatures import load_recipe
from pipeline.verdicts import PROBLEMS

ON_PROCESSOR = ("onnxruntime", "openvino", "pytorch")  # every other runtime may need the line's own card


def inspected(config: LineConfig, own: Pictures, kept: Kept) -> Again:
    """What the recipe in use says of a panel's kept frames, with its own limits.

    Raises:
        NotFoundError: its lossless pictures are not all here.
        RefusedError: no recipe or engine that is in use can inspect it; says why.
    """
    with _said():
        recipe = _in_use(config, kept.recipe.product)
        check_channels(config, recipe)
        frames = _frames(config, own, kept)
        with opened(config, recipe) as detector:
            detector.check(frames)
            damage = detector.integrity(frames)
            (finding,) = detector.inspect([frames])
            engine = detector.engine_hash
    fault = Fault(damage.cause.value) if damage else PROBLEMS[finding.problem] if finding.problem else None
    passed = finding.passed and fault is None
    return Again(
        recipe=recipe.hash,
        engine=engine,
        outcome=Outcome.PASS if passed else Outcome.REJECT,
        fault=fault,
        score=finding.score if np.isfinite(finding.score) else None,
        limit=finding.limit,
        defects=len(finding.defects),
    )


@contextmanager
def _said() -> Iterator[None]:
    """What stands in the way of a recipe, an engine or a panel is no fault of the station."""
    try:
        yield
    except (NotFoundError, RefusedError):
        raise
    except TaktError as error:
        raise RefusedError(f"cannot be inspected again: {error}") from None


def _in_use(config: LineConfig, product: str) -> Recipe:
    """The recipe in use of this product."""
    if config.engine.runtime not in ON_PROCESSOR and wishes.runs(config):
        raise RefusedError("the card is the line's while it runs: stop the line, or use takt inspect elsewhere")
    for row in wishes.now(config).values():
        recipe = load_recipe(config, row.place.path)
        if recipe.manifest.product == product:
            return recipe
    raise RefusedError(f"no recipe in use is of the product {product or '(unknown here)'}")


def _frames(config: LineConfig, own: Pictures, kept: Kept) -> Frames:
    """[C, H, W] in the order in which the line's cameras give them."""
    files = own.files(kept.picture)
    names = [f"{camera.name}_{channel}" for camera in config.cameras for channel in camera.channels]
    paths = [files.get(name, (None, None))[0] for name in names]
    if None in paths:
        raise NotFoundError(f"panel {kept.panel.token[:32]}: its lossless pictures are not all here any more")
    return np.concatenate([read_panel(path) for path in paths if path])
