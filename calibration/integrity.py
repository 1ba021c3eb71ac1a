"""Integrity limits from the good panels of a set: for a recipe being taught, or anew for one that is."""

from collections.abc import Iterator
from pathlib import Path

from numpy.typing import NDArray

from calibration.panels import GOOD, PanelSet, read_panel
from calibration.reseal import refuse_taken, resealed
from calibration.stack import Tell
from engines.errors import PanelError, RecipeError
from engines.integrity import IntegrityLimits, learn
from engines.recipe import Recipe
from engines.signature import LEAST_PX, TooSmallError


def learned(panels: PanelSet, channels: tuple[str, ...], tell: Tell) -> IntegrityLimits | None:
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
        return learn(sets())
    except TooSmallError:
        return None


def relearn(old: Recipe, panels: PanelSet, out: Path, tell: Tell = lambda phase, done, total: None) -> Recipe:
    """A copy of the recipe `old` at `out` with integrity limits from `panels`; networks and limits stay as they are.

    Raises:
        UsageError: `out` is taken.
        PanelError: there is no good panel, one cannot be read, or has other channels.
        RecipeError: the panels are too small to have limits.
    """
    refuse_taken(out)
    names = tuple(channel.name for channel in old.manifest.channels)
    limits = learned(panels, names, tell)
    if limits is None:
        raise RecipeError(f"{panels.path}: frames below {LEAST_PX} px have no integrity limits; take larger ones")
    return resealed(old, out, {"integrity": limits})
