"""What a recipe does before it takes over: run at every batch size, know its golden panels, take a set of the line."""

import math
from dataclasses import dataclass

from numpy.typing import NDArray

from engines.decide import Problem
from engines.detector import Detector, GeometryError
from engines.errors import EngineError
from engines.recipe import Recipe

NO_ANSWER = (Problem.NOT_FINITE, Problem.NOT_COVERED)


@dataclass(frozen=True, eq=False)
class Seen:
    """A raw set of the line [C, H, W], and the product that the PLC said it is of."""

    pixels: NDArray
    product: str


def rehearse(detector: Detector, recipe: Recipe) -> None:
    """Warm `detector` and let it show what it can.

    Raises:
        EngineError: it fails, or answers otherwise than its golden panels say.
    """
    detector.warm()
    prove(detector)
    _golden(detector, recipe)


def prove(detector: Detector) -> None:
    """Let it see its golden defect, if it has one.

    Raises:
        EngineError: it fails, or does not see it.
    """
    if detector.proves_itself:
        detector.prove()


def try_on(detector: Detector, seen: Seen) -> bool:
    """Inspect a set of the line; False where it does not fit, being of another product.

    What is found in it is its business. One of another product is no reason to refuse a recipe, whatever comes of it.

    Raises:
        GeometryError: frames of its own product do not fit it.
        EngineError: it fails, or gives no usable answer to its own product.
    """
    own = seen.product == detector.manifest.product
    try:
        detector.check(seen.pixels)
    except GeometryError:
        if own:
            raise
        return False
    detector.integrity(seen.pixels)
    [finding] = detector.inspect([seen.pixels])
    if own and finding.problem is not None and finding.problem in NO_ANSWER:
        raise EngineError(f"gives no usable answer to the newest set of this line: {finding.problem.value}")
    return True


def _golden(detector: Detector, recipe: Recipe) -> None:
    """No golden panel on the other side of the limit than the reference has it."""
    limit = recipe.manifest.limits.image
    for golden in recipe.golden:
        [(finding, _)] = detector.inspect_golden([golden.frames])
        expected = detector.reference(golden)
        if not math.isfinite(finding.score) or (finding.score > limit) != (expected > limit):
            scores = f"{finding.score:.4g}, its reference is {expected:.4g}"
            raise EngineError(f"golden panel {golden.name} scores {scores}: takt build it again, or teach again")
