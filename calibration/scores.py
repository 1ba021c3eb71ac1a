"""What good panels scored that a network had not seen: kept in the recipe, so that limits can be set anew."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines import recipe, zones
from engines.errors import RecipeError
from engines.recipe import Recipe
from engines.zones import TopMean, Zones

STEPS = 65_535


@dataclass(frozen=True, eq=False)
class Scores:
    """Good panels' names [n], scores [n] of the whole map, and maps [n, h, w]."""

    names: tuple[str, ...]
    scores: NDArray[np.float64]
    maps: NDArray[np.float32]

    def within(self, where: Zones | None, rule: tuple[TopMean, ...]) -> NDArray[np.float64]:
        """The scores [n] of what is inspected."""
        cells = self.inspected(where)
        return self.scores if cells is None else np.array([zones.score(map, cells, rule) for map in self.maps])

    def inspected(self, where: Zones | None) -> NDArray[np.bool_] | None:
        """The cells [h, w] that count, None: all."""
        return where.cells((self.maps.shape[1], self.maps.shape[2])) if where else None


def write(folder: Path, found: Scores) -> None:
    """Write `found` into the recipe folder; maps are kept in 65,536 steps of their range."""
    low, high = float(found.maps.min()), float(found.maps.max())
    step = max(high - low, 1e-12) / STEPS
    steps = np.rint((found.maps - low) / step).astype(np.uint16)
    names = np.array(found.names)
    np.savez_compressed(folder / recipe.SCORES, names=names, scores=found.scores, maps=steps, scale=[low, step])


def read(of: Recipe) -> Scores:
    """The scores that the recipe keeps.

    Raises:
        RecipeError: it keeps none.
    """
    if recipe.SCORES not in of.manifest.files:
        raise RecipeError(f"{of.path}: keeps no scores of good panels to set limits from: teach again")
    with np.load(of.path / recipe.SCORES) as file:
        low, step = file["scale"].tolist()
        maps = (file["maps"] * step + low).astype(np.float32)
        return Scores(tuple(map(str, file["names"])), file["scores"], maps)
