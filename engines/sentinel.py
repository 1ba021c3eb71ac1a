"""A golden defective panel that travels in every batch: an engine that does not see its defect has said nothing.

It is the answer to a sick engine, whose outputs look like good panels: all zeros, the last run's, rows shifted,
half the map. Its row moves with every run of a batch size, so that an answer given before is wrong the next time.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.gather import Pieces
from engines.recipe import Golden

SHARE_OF_MARGIN = 0.25  # as for a parity certificate: of the distance from the limit
MAP_SHARE = 0.2  # of the reference map's mean height above its lowest cell


@dataclass
class Sentinel:
    """The panel at the network's input [C, h, w] with its reference answer; `runs` counts by batch size.

    `map` is the network's whole map, `area` (h, w) that of the part of it which must be right by itself, in cells.
    `pieces` joins the network's map to the panel's.
    """

    tile: NDArray[np.float32]
    score: float
    map: NDArray[np.float32]
    area: tuple[int, int]
    limit: float
    pieces: Pieces
    runs: Counter[int] = field(default_factory=Counter)

    def row(self, panels: int) -> int:
        """Where it goes among `panels` others in the next run; never where it was in the last one of that size."""
        self.runs[panels] += 1
        return self.runs[panels] % (panels + 1)

    def verify(self, score: float, map: NDArray[np.float32]) -> None:
        """Raise unless the answer to this panel is the known one.

        Raises:
            EngineError: the engine answers something else; what it said of the others means nothing.
        """
        band = SHARE_OF_MARGIN * (self.score - self.limit)
        if not (score > self.limit and abs(score - self.score) <= band):
            raise EngineError(
                f"the golden defect scores {score:.4g}, not {self.score:.4g}: the engine is sick, or teach again"
            )
        off = map_share(map, self.map, self.area)
        if not off <= MAP_SHARE:
            raise EngineError(f"the golden defect's map is off by {off:.0%}: the engine is sick, or teach again")


def map_share(map: NDArray[np.float32], reference: NDArray[np.float32], area: tuple[int, int]) -> float:
    """Mean difference of two maps, in shares of the reference's mean height above its lowest cell.

    It is the largest among parts of about `area` (h, w) cells, each in shares of its own height where that is more.
    """
    if map.shape != reference.shape:
        return float("inf")
    above = reference - reference.min()
    height = float(above.mean())
    off, own = (_means(each, area) for each in (np.abs(map - reference), above))
    if height <= 0:
        return float(np.inf if off.any() else 0.0)
    return float((off / np.maximum(own, height)).max())


def _means(values: NDArray[np.float32], area: tuple[int, int]) -> NDArray[np.float64]:
    """Means of the parts of `values` [h, w], each at least `area` cells where there are so many."""
    counts = [max(1, whole // side) for whole, side in zip(values.shape, area, strict=True)]
    ends = [
        np.linspace(0, whole, count + 1).round().astype(int) for whole, count in zip(values.shape, counts, strict=True)
    ]
    sums = np.add.reduceat(np.add.reduceat(values.astype(np.float64), ends[0][:-1], 0), ends[1][:-1], 1)
    return sums / np.outer(np.diff(ends[0]), np.diff(ends[1]))


def strongest(golden: Sequence[Golden], limit: float) -> Golden | None:
    """The golden defect farthest above the limit: the widest band in which an engine may answer."""
    defects = [one for one in golden if one.defective and one.score > limit]
    return max(defects, key=lambda one: one.score, default=None)
