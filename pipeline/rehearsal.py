"""What a recipe does before it takes over: run at every batch size, know its golden panels, take a set of the line."""

import math

from numpy.typing import NDArray

from engines.decide import Problem
from engines.detector import Detector
from engines.errors import EngineError
from engines.recipe import Recipe

NO_ANSWER = (Problem.NOT_FINITE, Problem.NOT_COVERED)


def rehearse(detector: Detector, recipe: Recipe, seen: NDArray | None) -> None:
    """Warm `detector` and let it show what it can; `seen` is the newest raw set of the line, if one came.

    Whatever it finds in that set is its business, since the panel may be of another product.

    Raises:
        GeometryError: frames of this line do not fit it.
        EngineError: it gives no usable answer, or another one than its golden panels say.
    """
    detector.warm()
    if detector.proves_itself:
        detector.prove()
    _golden(detector, recipe)
    if seen is None:
        return
    detector.check(seen)
    detector.integrity(seen)
    [finding] = detector.inspect([seen])
    if finding.problem is not None and finding.problem in NO_ANSWER:
        raise EngineError(f"gives no usable answer to the newest set of this line: {finding.problem.value}")


def _golden(detector: Detector, recipe: Recipe) -> None:
    """No golden panel on the other side of the limit than the reference has it."""
    limit = recipe.manifest.limits.image
    for golden in recipe.golden:
        [(finding, _)] = detector.inspect_golden([golden.frames])
        expected = detector.reference(golden)
        if not math.isfinite(finding.score) or (finding.score > limit) != (expected > limit):
            scores = f"{finding.score:.4g}, its reference is {expected:.4g}"
            raise EngineError(f"golden panel {golden.name} scores {scores}: takt build it again, or teach again")
