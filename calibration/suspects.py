"""Good panels that are none: those whose score, by a network that had not seen them, stands far out from the others'.

The rule is one-sided and robust: a panel is suspect above median + `REACH` x spread, where the spread is that of the
upper half alone (the median excess over the median, as a standard deviation), because scores are skewed to the
right and a few defective panels must not widen their own limit.

False warnings, measured: of 60 scores drawn from a normal, a gamma (4) or, as maxima are, a Gumbel distribution, 0.1, 2
and 5 % of the sets name any panel. Seven clean sets, two simulated and five photographed, 60 to 130 panels each, scored
by short cross-fitted trainings: none; the farthest panel lay at 5.4 spreads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from calibration.naming import some
from engines.recipe import Training

REACH = 6.0
FEWEST = 10  # panels: with fewer, there is no telling what is usual
LEAST_SPREAD = 0.01  # of the median
NORMAL_MEDIAN = 0.6745  # of the size of a normal deviate
NAMED = 10


@dataclass(frozen=True)
class Suspects:
    """Names of the suspect panels, the highest score first, their scores, and the score above which one is suspect."""

    names: tuple[str, ...]
    scores: tuple[float, ...]
    above: float

    def said(self) -> str | None:
        """One line that says what to do; None where nothing is suspect."""
        if not self.names:
            return None
        shown = some([f"{name} ({score:.3g})" for name, score in zip(self.names, self.scores, strict=True)], NAMED)
        return (
            f"train/good: {shown} may be defective: the score is above {self.above:.3g}, the median and"
            f" {REACH:g} spreads; look at them, take out what is defective and teach again, or set the limit"
            " without it: takt limits --without NAME"
        )

    def noted(self, training: Training) -> Training:
        """`training` with the suspects among its facts."""
        return training.model_copy(update={"facts": {**training.facts, "suspects": ", ".join(self.names) or "none"}})


def suspects(names: Sequence[str], scores: ArrayLike) -> Suspects:
    """Which of the good panels `names` [n] stand out by their `scores` [n].

    The scores are of networks that were not taught from the panel (cross-fitted or held out). A score that is not
    finite is suspect.
    """
    values = np.asarray(scores, float)
    usual = values[np.isfinite(values)]
    above = _above(usual)
    order = [int(index) for index in np.argsort(-np.nan_to_num(values, nan=np.inf)) if not values[index] <= above]
    return Suspects(tuple(names[index] for index in order), tuple(float(values[index]) for index in order), above)


def _above(scores: np.ndarray) -> float:
    if len(scores) < FEWEST:
        return float("inf")
    median = float(np.median(scores))
    excess = scores[scores > median] - median
    spread = float(np.median(excess)) / NORMAL_MEDIAN if excess.size else 0.0
    return median + REACH * max(spread, LEAST_SPREAD * abs(median))
