"""Where a panel is inspected, and what a map scores there.

The network scores the whole map. Where zones are set its score is computed anew from the cells that are inspected,
by the rule that the recipe states (`Part`); so zones need no export, and every runtime answers alike.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from engines.errors import UsageError
from engines.settings import checked, read_toml

FINE = 4  # points a cell and direction, of which half must be inspected
COVERAGE = 512  # points a direction, for the share of a panel

Share = Annotated[float, Field(ge=0, le=1, strict=False)]
Polygon = Annotated[tuple[tuple[Share, Share], ...], Field(min_length=3)]


class TopMean(BaseModel):
    """`weight` times the mean of the map's `cells` highest cells. A score is the sum of such parts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    cells: Annotated[int, Field(ge=1)]
    weight: float


class TopShare(BaseModel):
    """`weight` times the mean of the map's highest `share` of cells, at least one: for maps of any size."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    share: Annotated[float, Field(gt=0, le=1)]
    weight: float


Part = TopMean | TopShare


class Zones(BaseModel):
    """Polygons, each a list of [x, y] as shares of the panel's width and height, from its upper left corner.

    Inspected is what lies in one of `inspect` (everywhere, if there is none) and in none of `ignore`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    inspect: tuple[Polygon, ...] = ()
    ignore: tuple[Polygon, ...] = ()

    def cells(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The cells of a map of `shape` that are inspected: those of which at least half is."""
        height, width = shape
        points = self._points(height * FINE, width * FINE)
        return points.reshape(height, FINE, width, FINE).mean(axis=(1, 3)) >= 0.5

    @property
    def share(self) -> float:
        """How much of the panel is inspected, 0..1."""
        return float(self._points(COVERAGE, COVERAGE).mean())

    def _points(self, height: int, width: int) -> NDArray[np.bool_]:
        inside = _union(self.inspect, height, width) if self.inspect else np.ones((height, width), bool)
        return inside & ~_union(self.ignore, height, width)


class _Said(BaseModel):
    """Zones as people write them: shares of the panel, or pixels of a panel of `size` [width, height]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: Literal["share", "px"] = "share"
    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None
    inspect: tuple[tuple[tuple[float, float], ...], ...] = ()
    ignore: tuple[tuple[tuple[float, float], ...], ...] = ()


def read(path: Path) -> Zones:
    """The zones of a TOML file.

    Raises:
        UsageError: the file cannot be read, or says no zones.
    """
    return zones_of(read_toml(path, str(path)), str(path))


def zones_of(raw: Mapping[str, Any], where: str) -> Zones:
    """Zones from `unit`, `size`, `inspect` and `ignore`.

    Raises:
        UsageError: a key is unknown, a point lies outside the panel, or nothing is left to inspect.
    """
    said = checked(_Said, json.loads(json.dumps(raw, default=str)), where)
    width, height = said.size or (1, 1)
    if (said.unit == "px") != (said.size is not None):
        raise UsageError(f'{where}: unit = "px" and size = [width, height] go together')
    shares = {
        name: tuple(tuple((x / width, y / height) for x, y in polygon) for polygon in polygons)
        for name, polygons in {"inspect": said.inspect, "ignore": said.ignore}.items()
    }
    zones = checked(Zones, shares, where)
    if not zones.share:
        raise UsageError(f"{where}: leaves nothing of the panel to inspect")
    return zones


def score(map: NDArray[np.float32], inspected: NDArray[np.bool_], parts: Sequence[Part]) -> float:
    """Score of a map [h, w] from its inspected cells alone; fewer cells than a part asks for are all taken."""
    values = map[inspected].astype(np.float64)
    return sum(part.weight * top_mean(values, part) for part in parts)


def whole(map: NDArray[np.float32], parts: Sequence[Part]) -> float:
    """Score of a map [h, w] from all its cells."""
    return score(map, np.ones(map.shape, bool), parts)


def top_mean(values: NDArray[Any], part: Part) -> float:
    """What `part` makes of the cells [n], before its weight."""
    wanted = part.cells if isinstance(part, TopMean) else max(1, round(part.share * values.size))
    count = min(wanted, values.size)
    return float(np.partition(values, -count)[-count:].mean())


def _union(polygons: Sequence[Polygon], height: int, width: int) -> NDArray[np.bool_]:
    """The points of a grid [height, width] that lie in one of `polygons`."""
    found = np.zeros((height, width), bool)
    for polygon in polygons:
        found |= _inside(polygon, height, width)
    return found


def _inside(polygon: Polygon, height: int, width: int) -> NDArray[np.bool_]:
    """Points from which a ray to the left crosses the outline an odd number of times."""
    y = (np.arange(height)[:, None] + 0.5) / height
    x = (np.arange(width)[None] + 0.5) / width
    odd = np.zeros((height, width), bool)
    for (x0, y0), (x1, y1) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        side = (x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)  # no division: an edge may be all but level
        odd ^= ((y0 <= y) != (y1 <= y)) & (side > 0 if y1 > y0 else side < 0)
    return odd
