"""What good panels scored that a network had not seen: kept in the recipe, so that limits can be set anew."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.limits import set_limits
from engines import contents, recipe, zones
from engines.errors import RecipeError, UsageError
from engines.recipe import Limits, Promise, Recipe
from engines.zones import Part, Zones

SPECIMENS = "specimens"
STEPS = 4095  # in which maps are kept: finer than what engines of one network differ by


@dataclass(frozen=True, eq=False)
class Scores:
    """Good panels' names [n], scores [n] of the whole map, and maps [n, h, w].

    `weights` [n, parts] are those of the rule by which the score follows from the map, in the network that scored the
    panel: of cross-fitted panels, another one for each fold. They replace the weights of the recipe's own rule.
    `specimens` names for each the thing that it shows; empty: another one each.
    """

    names: tuple[str, ...]
    scores: NDArray[np.float64]
    maps: NDArray[np.float32]
    weights: NDArray[np.float64]
    specimens: tuple[str, ...] = ()

    def without(self, names: Collection[str]) -> "Scores":
        """Those of the other panels.

        Raises:
            UsageError: one of `names` is of no panel here.
        """
        if unknown := [name for name in names if name not in self.names]:
            raise UsageError(f"no score is kept of {', '.join(unknown)}: give names that `takt teach` told")
        rows = np.array([name not in names for name in self.names])
        kept, specimens = (tuple(compress(each, rows)) for each in (self.names, self.specimens))
        return Scores(kept, self.scores[rows], self.maps[rows], self.weights[rows], specimens)

    def limits(
        self, where: Zones | None, rule: tuple[Part, ...], promise: Promise, area_px: int
    ) -> tuple[Limits, str | None]:
        """Limits for what is inspected, see `calibration.limits.set_limits`."""
        cells = self.inspected(where)
        maps = self.maps if cells is None else self.maps[:, cells]
        limits, remark = set_limits(self.within(where, rule), maps, promise, area_px, self.specimens)
        return limits.model_copy(update={"zones": where}), remark

    def within(self, where: Zones | None, rule: tuple[Part, ...]) -> NDArray[np.float64]:
        """The scores [n] of what is inspected."""
        cells = self.inspected(where)
        if cells is None:
            return self.scores
        rules = (tuple(_weighed(rule, weights)) for weights in self.weights.tolist())
        return np.array([zones.score(map, cells, own) for map, own in zip(self.maps, rules, strict=True)])

    def inspected(self, where: Zones | None) -> NDArray[np.bool_] | None:
        """The cells [h, w] that count, None: all."""
        return where.cells((self.maps.shape[1], self.maps.shape[2])) if where else None


def _weighed(rule: tuple[Part, ...], weights: list[float]) -> list[Part]:
    return [part.model_copy(update={"weight": weight}) for part, weight in zip(rule, weights, strict=True)]


def write(folder: Path, found: Scores) -> None:
    """Write `found` into the recipe folder."""
    low, high = float(found.maps.min()), float(found.maps.max())
    step = max(high - low, 1e-12) / STEPS
    packed = _packed(np.rint((found.maps - low) / step).astype(np.uint16))
    plain = {"names": np.array(found.names), "scores": found.scores, "weights": found.weights}
    plain |= {SPECIMENS: np.array(found.specimens)} if found.specimens else {}
    np.savez_compressed(folder / recipe.SCORES, **plain, maps=packed, scale=np.array([low, step]))


def read(of: Recipe) -> Scores:
    """The scores that the recipe keeps.

    Raises:
        RecipeError: it keeps none.
    """
    if recipe.SCORES not in of.manifest.files:
        raise RecipeError(f"{of.path}: keeps no scores of good panels to set limits from: teach again")
    place, wanted = str(of.path / recipe.SCORES), ("names", "scores", "weights", "maps", "scale")
    content = of.read(recipe.SCORES)
    names, scores, weights, packed, scale = contents.unpacked(content, place, *wanted)
    specimens = contents.unpacked(content, place, SPECIMENS)[0] if contents.holds(content, SPECIMENS) else ()
    low, step = scale.tolist()
    maps = (_unpacked(packed) * step + low).astype(np.float32)
    return Scores(tuple(map(str, names)), scores, maps, weights, tuple(map(str, specimens)))


def _packed(steps: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Second differences of smooth maps [n, h, w], low bytes and high bytes apart [2, n, h, w]: half the size."""
    rows = np.diff(steps, axis=2, prepend=np.uint16(0))
    both = np.diff(rows, axis=1, prepend=np.uint16(0))  # wraps around, and back again
    return np.stack([both & 0xFF, both >> 8]).astype(np.uint8)


def _unpacked(packed: NDArray[np.uint8]) -> NDArray[np.uint16]:
    both = packed[0] | (packed[1].astype(np.uint16) << 8)
    return np.cumsum(np.cumsum(both, axis=1, dtype=np.uint16), axis=2, dtype=np.uint16)
