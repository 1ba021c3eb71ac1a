"""What a panel's map scores by a recipe: the network's own score, or that of the cells that count, by the rule.

The rule counts where the recipe has zones, and where panels are inspected in tiles, of which the network scores each by
itself.
"""

import numpy as np
from numpy.typing import NDArray

from engines import zones
from engines.errors import RecipeError
from engines.gather import Map, of_piece
from engines.recipe import Golden, Limits, Manifest, Tiles
from engines.tiles import Size


def lowest_of_piece(low: float) -> float:
    """The lower bound of scores of a panel's pieces, from that of panels."""
    return low / 2


def limits_of_golden(manifest: Manifest) -> Limits:
    """The limits by which golden panels are judged: of a recipe in tiles they are pieces."""
    geometry, limits = manifest.geometry, manifest.limits
    pieces = isinstance(geometry, Tiles) and geometry.piece not in (None, geometry.panel)
    return limits.model_copy(update={"low": lowest_of_piece(limits.low)}) if pieces else limits


def own_map(golden: Golden, manifest: Manifest) -> Map:
    """A golden panel's own reference map [h, w]: of a recipe in tiles, without what is mirrored over the tile."""
    geometry = manifest.geometry
    if not isinstance(geometry, Tiles):
        return golden.map
    return of_piece(golden.map, (golden.frames.shape[1], golden.frames.shape[2]), geometry)[0]


class Scoring:
    """The rule of one recipe.

    Raises:
        RecipeError: its zones leave no cell of a map to inspect.
    """

    def __init__(self, manifest: Manifest, usual: tuple[int, int] | None) -> None:
        """`usual` is the shape of the map of a panel of the size that was taught, None where there is no such size."""
        geometry, self._manifest = manifest.geometry, manifest
        self._zones, self._rule = manifest.limits.zones, manifest.score
        self._tiled = isinstance(geometry, Tiles)
        self._panel = geometry.panel if isinstance(geometry, Tiles) else None
        self._limits = manifest.limits
        self._known = {usual: self._cells(usual)} if usual and self._zones else {}

    def inspected(self, map: NDArray[np.float32], size: Size) -> NDArray[np.bool_] | None:
        """Cells [h, w] of the map of a panel of `size` that count; None: all of them.

        Zones are shares of a whole panel: of a piece of one, which a tiled recipe's golden panels are, all counts.
        """
        if self._zones is None or (self._panel is not None and size != self._panel):
            return None
        shape = (map.shape[0], map.shape[1])
        if shape not in self._known:
            self._known[shape] = self._cells(shape)
        return self._known[shape]

    def score(self, map: NDArray[np.float32], size: Size, own: float) -> float:
        """Of the map [h, w] of a panel of `size`; `own` is the network's score, not finite where it has none."""
        cells = self.inspected(map, size)
        if not np.isfinite(own) or (cells is None and not self._tiled):
            return own
        return zones.whole(map, self._rule) if cells is None else zones.score(map, cells, self._rule)

    def _cells(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        assert self._zones is not None
        cells = self._zones.cells(shape)
        if not cells.any():
            raise RecipeError("the recipe's zones leave no cell of the map to inspect: takt limits with larger ones")
        return cells

    def limits(self, size: Size) -> Limits:
        """For a panel of `size`. A piece of a panel may be calmer than any panel, and yet has to be seen at all."""
        if self._panel is None or size == self._panel:
            return self._limits
        return self._limits.model_copy(update={"low": lowest_of_piece(self._limits.low)})

    def of_golden(self, golden: Golden) -> float:
        """The score that the line has to reach on a golden panel."""
        size, own = (golden.frames.shape[1], golden.frames.shape[2]), own_map(golden, self._manifest)
        return golden.score if self.inspected(own, size) is None else self.score(own, size, golden.score)
