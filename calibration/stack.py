"""The panels of a set at the network's input size, in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.doubts import refuse_constant
from calibration.limits import FEWEST
from calibration.panels import GOOD, Panel, PanelSet
from calibration.specimens import numbered
from engines.detector import Gather
from engines.errors import PanelError
from engines.recipe import Resize

MAP_STRIDE = 4

Tell = Callable[[str, int, int], None]  # phase, done, total


@dataclass(frozen=True, eq=False)
class Stack:
    """Panels, integers [n, C, h, w], and their names. `cell_px`: panel area in pixels of one map cell.

    `frames` are an array, or read when asked for, see `calibration.crops.OnDisk`. `specimens` names for each the thing
    that it shows, which may have been taken several times; empty: another one each.
    """

    frames: Any
    names: tuple[str, ...]
    cell_px: int
    specimens: tuple[str, ...] = ()

    def part(self, chosen: NDArray[np.bool_]) -> "Stack":
        """The panels where `chosen` [n] is true."""
        names, specimens = (tuple(compress(each, chosen)) for each in (self.names, self.specimens))
        return Stack(self.frames[chosen], names, self.cell_px, specimens)

    def numbers(self) -> NDArray[np.int64]:
        """The number of each one's specimen [n], in the order in which they come first."""
        return numbered(self.specimens) if self.specimens else np.arange(len(self.names))

    def floats(self, chosen: Any) -> NDArray[np.float32]:
        """float32 [k, C, h, w], 0..1, computed as on the line."""
        return floats(self.frames[chosen])


def floats(frames: NDArray) -> NDArray[np.float32]:
    """Integers -> float32, 0..1, computed as on the line."""
    return np.multiply(frames, np.float32(1.0 / np.iinfo(frames.dtype).max))


def read_good(panels: PanelSet, geometry: Resize, tell: Tell) -> Stack:
    """All panels of train/good, resized.

    Raises:
        PanelError: there are too few, one cannot be read or is constant, or they differ in depth.
    """
    found = list(panels.panels("train", GOOD))
    if len(found) < 2 * FEWEST:
        raise PanelError(f"{panels.path}: {len(found)} panels in train/good; at least {2 * FEWEST} are needed")
    rows, areas = [], []
    for number, panel in enumerate(found):
        tell("reading", number, len(found))
        frames = panels.read(panel)
        refuse_constant(frames, panel, panels.channels)
        if rows and frames.dtype != rows[0].dtype:
            raise PanelError(f"{panel.path}: is {frames.dtype}, the panels before are {rows[0].dtype}")
        rows.append(Gather(len(frames), geometry, frames.dtype.name).resized(frames))
        areas.append(frames.shape[1] * frames.shape[2])
    share = MAP_STRIDE**2 / (geometry.height * geometry.width)
    names = tuple(panel.name for panel in found)
    return Stack(np.stack(rows), names, max(1, round(float(np.median(areas)) * share)), panels.specimens(names))


def read_labelled(panels: PanelSet, geometry: Resize) -> tuple[NDArray, NDArray[np.bool_]] | None:
    """Labelled defective panels of train/<defect>, resized, and their masks [n, h, w]; None where there are none.

    Raises:
        PanelError: one has no mask, or cannot be read.
    """
    found = [panel for panel in panels.panels("train") if panel.defect != GOOD]
    pairs = [_labelled(panels, panel, geometry) for panel in found]
    return (np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])) if pairs else None


def _labelled(panels: PanelSet, panel: Panel, geometry: Resize) -> tuple[NDArray, NDArray[np.bool_]]:
    frames = panels.read(panel)
    mask = panels.mask(panel, (frames.shape[1], frames.shape[2]))
    if mask is None:
        raise PanelError(f"{panel.path}: a labelled panel needs its mask in ground_truth/{panel.defect}")
    share = cv2.resize(mask.astype(np.float32), (geometry.width, geometry.height), interpolation=cv2.INTER_AREA)
    return Gather(len(frames), geometry, frames.dtype.name).resized(frames), np.asarray(share) > 0
