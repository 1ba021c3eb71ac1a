"""What a derived graph changed: scores, verdicts, margins and AUROC of the same panels before and after."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.detector import Detector
from engines.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Labelled:
    """A panel with a known answer: raw frames [C, H, W]; `golden` if it is one of the recipe's own."""

    name: str
    defective: bool
    frames: NDArray
    golden: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """What an engine said of a panel. `margin` is how far its score is from the limit, negative on the wrong side."""

    name: str
    defective: bool
    passed: bool
    score: float
    margin: float
    map: NDArray[np.float32]


@dataclass(frozen=True)
class Change:
    """From one engine's answers to another's.

    `score_error` is the largest difference, `score_error_relative` that in shares of the score; `map_error` in shares
    of the range of the maps before. `flipped` names the panels whose verdict changed. `nearest_margin` is the smallest
    absolute margin before, of the panel `nearest`; `margin_before` and `margin_after` are the smallest signed ones.
    AUROC is None without good or without defective panels.
    """

    panels: int
    score_error: float
    score_error_relative: float
    map_error: float
    flipped: tuple[str, ...]
    nearest: str
    nearest_margin: float
    margin_before: float
    margin_after: float
    auroc_before: float | None
    auroc_after: float | None


def golden(recipe: Recipe) -> list[Labelled]:
    """The recipe's own panels."""
    return [Labelled(one.name, one.defective, one.frames, golden=True) for one in recipe.golden]


def answers(detector: Detector, panels: Iterable[Labelled]) -> list[Answer]:
    """One inspection a panel, each for itself.

    Raises:
        EngineError: the runtime failed, or does not see the golden defect.
    """
    return [_answer(detector, panel) for panel in panels]


def change(before: Sequence[Answer], after: Sequence[Answer]) -> Change:
    """What became of the answers; both are of the same panels, at least one, in the same order."""
    old, new = (np.array([one.score for one in each]) for each in (before, after))
    errors = np.abs(new - old)
    maps = np.stack([one.map for one in before])
    nearest = min(before, key=lambda one: abs(one.margin))
    return Change(
        panels=len(before),
        score_error=float(errors.max()),
        score_error_relative=float((errors / np.maximum(np.abs(old), np.finfo(float).tiny)).max()),
        map_error=float(np.abs(np.stack([one.map for one in after]) - maps).max() / max(float(np.ptp(maps)), 1e-12)),
        flipped=tuple(one.name for one, then in zip(before, after, strict=True) if one.passed != then.passed),
        nearest=nearest.name,
        nearest_margin=abs(nearest.margin),
        margin_before=min(one.margin for one in before),
        margin_after=min(one.margin for one in after),
        auroc_before=auroc(before),
        auroc_after=auroc(after),
    )


def auroc(answers: Sequence[Answer]) -> float | None:
    """Probability that a defective panel scores above a good one, ties half; None without both."""
    good = np.sort([one.score for one in answers if not one.defective])
    bad = np.array([one.score for one in answers if one.defective])
    if not len(good) or not len(bad):
        return None
    below = np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")
    return float(below.mean() / 2 / len(good))


def _answer(detector: Detector, panel: Labelled) -> Answer:
    frames = [panel.frames]
    (found,) = (one for one, _ in detector.inspect_golden(frames)) if panel.golden else detector.inspect(frames)
    margin = (found.score - detector.limits.image) * (1 if panel.defective else -1)
    return Answer(panel.name, panel.defective, found.passed, found.score, margin, found.map)
