"""The good panels of a set at the network's input size, in memory, parted into those that teach and those kept back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.limits import FEWEST
from calibration.panels import GOOD, PanelSet
from engines.detector import Gather
from engines.errors import PanelError, UsageError
from engines.recipe import Resize

MAP_STRIDE = 4

Tell = Callable[[str, int, int], None]  # phase, done, total


@dataclass(frozen=True, eq=False)
class Stack:
    """Panels, integers [n, C, h, w], and their names. `cell_px`: panel area in pixels of one map cell."""

    frames: NDArray
    names: tuple[str, ...]
    cell_px: int

    def part(self, chosen: NDArray[np.bool_]) -> "Stack":
        """The panels where `chosen` [n] is true."""
        names = tuple(name for name, keep in zip(self.names, chosen, strict=True) if keep)
        return Stack(self.frames[chosen], names, self.cell_px)

    def floats(self, chosen: Any) -> NDArray[np.float32]:
        """float32 [k, C, h, w], 0..1, computed as on the line."""
        return floats(self.frames[chosen])


def floats(frames: NDArray) -> NDArray[np.float32]:
    """Integers -> float32, 0..1, computed as on the line."""
    return np.multiply(frames, np.float32(1.0 / np.iinfo(frames.dtype).max))


def read_good(panels: PanelSet, geometry: Resize, tell: Tell) -> Stack:
    """All panels of train/good, resized.

    Raises:
        PanelError: there are too few, one cannot be read, or they differ in depth.
    """
    found = list(panels.panels("train", GOOD))
    if len(found) < 2 * FEWEST:
        raise PanelError(f"{panels.path}: {len(found)} panels in train/good; at least {2 * FEWEST} are needed")
    rows, areas = [], []
    for number, panel in enumerate(found):
        tell("reading", number, len(found))
        frames = panels.read(panel)
        if rows and frames.dtype != rows[0].dtype:
            raise PanelError(f"{panel.path}: is {frames.dtype}, the panels before are {rows[0].dtype}")
        rows.append(Gather(len(frames), geometry, frames.dtype.name).resized(frames))
        areas.append(frames.shape[1] * frames.shape[2])
    share = MAP_STRIDE**2 / (geometry.height * geometry.width)
    return Stack(np.stack(rows), tuple(panel.name for panel in found), max(1, round(float(np.median(areas)) * share)))


def split(stack: Stack, every: int) -> tuple[Stack, Stack]:
    """Panels that teach, and every `every`-th one, kept back for the limits.

    Raises:
        UsageError: nothing would be left for training.
    """
    if every < 2:
        raise UsageError(f"hold out every {every}: give at least 2, or nothing is left for training")
    held_out = np.arange(len(stack.names)) % every == every - 1
    return stack.part(~held_out), stack.part(held_out)
