"""Integrity limits from the good panels of a set: for a recipe being taught, or anew for one that is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.naming import some
from calibration.panels import GOOD, PanelSet, read_panel
from calibration.rates import upper_bound
from calibration.reseal import refuse_taken, resealed
from calibration.specimens import numbered
from calibration.stack import Tell
from engines.errors import PanelError, RecipeError
from engines.integrity import Cause, Guard, IntegrityLimits
from engines.integrity_limits import Seen, limits_of, see
from engines.recipe import Recipe, Training
from engines.signature import LEAST_PX, TooSmallError

FOLDS, NAMED = 10, 10


@dataclass(frozen=True)
class Learned:
    """Limits from good sets, and which of the `asked` were refused by limits that the others taught: name and cause."""

    limits: IntegrityLimits
    refused: tuple[tuple[str, str], ...]
    asked: int

    @property
    def upper95(self) -> float:
        """Share of good sets to come that are refused, at most, 95 % sure (Clopper and Pearson)."""
        return upper_bound(len(self.refused), self.asked)

    def figures(self) -> dict[str, int | float]:
        return {"k": len(self.refused), "n": self.asked, "upper95": self.upper95}

    def said(self) -> str | None:
        """One line that says what to do; None where none is refused."""
        if not self.refused:
            return None
        shown = some([f"{name} ({cause})" for name, cause in self.refused], NAMED)
        return (
            f"train/good: {shown} would be rejected before inspection by limits from the others, so up to"
            f" {self.upper95:.1%} of good panels may be; take out image sets that are damaged, or teach from more"
        )

    def noted(self, training: Training) -> Training:
        """`training` with this among its facts."""
        said = f"{len(self.refused)} of {self.asked} good sets by limits from the others, at most {self.upper95:.1%}"
        return training.model_copy(update={"facts": {**training.facts, "integrity_refuses": said}})


def learned(panels: PanelSet, channels: tuple[str, ...], tell: Tell) -> Learned | None:
    """Limits from all of train/good, read as on the line; None where the panels are too small for any.

    Raises:
        PanelError: there is no good panel, or one cannot be read.
    """
    found = list(panels.panels("train", GOOD))
    if not found:
        raise PanelError(f"{panels.path}: has no panels in train/good to learn integrity limits from")

    def sets() -> Iterator[NDArray]:
        for number, panel in enumerate(found):
            tell("learning integrity", number, len(found))
            yield read_panel(panel.path, channels, others=True)

    try:
        good = see(sets())
    except TooSmallError:
        return None
    limits = limits_of(good)
    names = tuple(panel.name for panel in found)
    refused = tuple((names[number], cause) for number, cause in refusals(good, panels.specimens(names) or names))
    return Learned(limits, refused, asked=len(found) if len(found) > 1 else 0)


def refusals(good: Seen, specimens: Sequence[str]) -> list[tuple[int, Cause]]:
    """Which of the good sets limits that other specimens taught refuse, and why; cross-fitted in `FOLDS`."""
    every, of_fold = good.signatures, numbered(specimens) % FOLDS
    found = []
    for fold in sorted(set(of_fold.tolist())) if of_fold.any() else ():
        guard = Guard(limits_of(Seen(list(compress(every, of_fold != fold)), good.pitch)))
        judged = ((number, guard.judge(every[number])) for number in np.flatnonzero(of_fold == fold).tolist())
        found += [(number, damage.cause) for number, damage in judged if damage]
    return sorted(found)


def relearn(
    old: Recipe, panels: PanelSet, out: Path, tell: Tell = lambda phase, done, total: None
) -> tuple[Recipe, Learned]:
    """A copy of the recipe `old` at `out` with integrity limits from `panels`; networks and limits stay as they are.

    Raises:
        UsageError: `out` is taken.
        PanelError: there is no good panel, one cannot be read, or has other channels.
        RecipeError: the panels are too small to have limits.
    """
    refuse_taken(out)
    names = tuple(channel.name for channel in old.manifest.channels)
    found = learned(panels, names, tell)
    if found is None:
        raise RecipeError(f"{panels.path}: frames below {LEAST_PX} px have no integrity limits; take larger ones")
    return resealed(old, out, {"integrity": found.limits}), found
