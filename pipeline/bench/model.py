"""How a stage's time follows from sizes: sums of a few products of them, with weights that are not negative. Pure.

A point is one measurement. Errors count as shares of what was measured, since a stage of 1 ms is to be as right as one
of 100. There are few terms, so every choice of them is tried, and one more has to pay.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

A_TERM = 0.005  # by how much the error must fall for one term more
Sizes = Mapping[str, float]


@dataclass(frozen=True)
class Model:
    """Milliseconds as a sum of `weights` times sizes."""

    weights: Mapping[str, float]

    def ms(self, sizes: Sizes) -> float:
        return sum(weight * sizes[name] for name, weight in self.weights.items())


@dataclass(frozen=True)
class Point:
    """What a stage took at these sizes."""

    sizes: Sizes
    ms: float


def fitted(points: Sequence[Point], terms: Sequence[str]) -> Model:
    """The model of `points`; where fewer terms explain them as well, the first of `terms` are taken."""
    known = [point for point in points if point.ms > 0]
    tried = [_tried(known, chosen) for chosen in _choices(terms, len(known))]
    usable = [(round(error + A_TERM * len(model.weights), 9), model) for error, model in tried if model is not None]
    return min(usable, key=lambda pair: pair[0], default=(0.0, Model({})))[1]


def errors(points: Sequence[Point], terms: Sequence[str]) -> list[float]:
    """By what share each point is missed by the model of the others; empty of a single one."""
    known = [point for point in points if point.ms > 0]
    if len(known) < 2:
        return []
    others = (fitted([*known[:n], *known[n + 1 :]], terms) for n in range(len(known)))
    return [model.ms(point.sizes) / point.ms - 1 for model, point in zip(others, known, strict=True)]


def _choices(terms: Sequence[str], points: int) -> Iterator[tuple[str, ...]]:
    for count in range(1, min(len(terms), points) + 1):
        yield from combinations(terms, count)


def _tried(points: Sequence[Point], terms: tuple[str, ...]) -> tuple[float, Model | None]:
    """Root mean square of the relative errors; no model where a weight would be negative."""
    measured = np.array([point.ms for point in points])
    sizes = np.array([[point.sizes[name] for name in terms] for point in points]) / measured[:, None]
    scale = np.maximum(np.abs(sizes).max(axis=0), 1e-30)
    weights = np.linalg.lstsq(sizes / scale, np.ones(len(points)), rcond=None)[0] / scale
    if (weights < 0).any():
        return float("inf"), None
    error = float(np.sqrt(np.mean((sizes @ weights - 1) ** 2)))
    return error, Model(dict(zip(terms, weights.tolist(), strict=True)))
