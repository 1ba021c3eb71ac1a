"""Teaching at the panels' own resolution: crops to learn from, tiles to fit outputs on, whole panels to score.

Whole panels stay on the disk and are read when asked for. What is learnt from are crops that begin on the tiles' grid,
drawn once; tiles have another size than crops, and the taught weights are put into a network of theirs. Needs the
extra [teach].
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration import crops, golden
from calibration.crops import OnDisk
from calibration.doubts import refuse_constant
from calibration.fit import KEPT
from calibration.limits import FEWEST
from calibration.material import unseen_of
from calibration.panels import GOOD, Panel, PanelSet
from calibration.stack import MAP_STRIDE, Stack, Tell
from engines import methods, tiles
from engines.errors import PanelError, UsageError
from engines.gather import Gather, cut
from engines.methods import MethodSettings
from engines.patches import halo
from engines.recipe import Tiles
from engines.signature import LEAST_PX
from engines.tiles import NoTileError, Size
from engines.zones import Part, TopMean, TopShare, top_mean

GOLDEN_BYTES = 4_000_000  # of all golden panels together
OUTPUT_PX, FEWEST_TILES = 32_000_000, 8  # seen to fit outputs
WEIGHING = 32  # panels whose maps weigh the parts of the score
GOLDEN_PANELS = 24  # of which pieces are asked whether they make a golden panel
SEE_ALL = ("efficientnet_b0",)  # squeeze-excitation scales by what the whole tile holds: no halo is wide enough


@dataclass(frozen=True, eq=False)
class Tiling:
    """Whole `panels` on the disk and crops of them, of which `owners` [crops] says from which panel each one is.

    `digest` is of all pixels.
    """

    geometry: Tiles
    panels: Stack
    crops: Stack
    owners: NDArray[np.int64]
    digest: str

    def crops_of(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool [crops], from bool [panels]."""
        return chosen[self.owners]

    def unseen(self, model: Any, taught: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Of the panels `taught` [panels] those that train nothing, for the output of a model that `keeps_unseen`."""
        kept, at = np.zeros_like(taught), np.flatnonzero(taught)
        if getattr(model, "keeps_unseen", False):
            kept[at[unseen_of(self.panels.part(taught).numbers())]] = True
        return kept

    def honest(self, model: Any, taught: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool [panels]: what scores are weighed by, those that trained nothing where there are any."""
        kept = self.unseen(model, taught)
        return kept if kept.any() else taught

    def facts(self) -> dict[str, str | int | float]:
        """What the manifest says of it."""
        geometry, panel = self.geometry, self._panel
        return {
            "tile_px": f"{geometry.height} x {geometry.width}",
            "tiles_a_panel": tiles.count(geometry, panel),
            "halo_px": geometry.halo,
            "extra_pixels": round(tiles.extra(geometry, panel), 3),
            "crops": f"{len(self.crops.names)} of {self.crops.frames.shape[2]} x {self.crops.frames.shape[3]} px",
            "position": "not corrected: crops lie anywhere",
        }

    def said(self) -> str:
        """In one line what the tiles cost."""
        count, cost = tiles.count(self.geometry, self._panel), tiles.extra(self.geometry, self._panel)
        size = f"{self.geometry.height} x {self.geometry.width} px"
        return f"tiles of {size}, {count} a panel: {cost:.0%} extra pixels; positions are not corrected"

    def example(self) -> Stack:
        """Two tiles, to trace and to prove a network with: the first of a panel and the last of another."""
        there, size = tiles.tiles(self.geometry, self._panel), (self.geometry.height, self.geometry.width)
        ends = ((self.panels.frames[at], there[at]) for at in (0, -1))
        rows = [cut(frames, tile.rows.start, tile.columns.start, size) for frames, tile in ends]
        return Stack(np.stack(rows), ("first", "last"), self.panels.cell_px)

    def at_tiles(self, method: Any, settings: MethodSettings, taught: Any, chosen: NDArray[np.bool_]) -> Any:
        """The model `taught` on crops, with `settings` for tiles; outputs are fitted on tiles of panels `chosen`.

        Those of a model that `keeps_unseen` are fitted on tiles of the panels that trained nothing, see `unseen`.
        """
        model = method.build(len(self.crops.frames[0]), settings)
        own = model.state_dict()
        alike = {name: value for name, value in taught.state_dict().items() if own[name].shape == value.shape}
        model.load_state_dict(alike, strict=False)  # what has the size of the map is not learnt from crops
        kept = self.unseen(model, chosen)
        unseen = (lambda: self._seen(self.panels.part(kept)),) if kept.any() else ()
        model.eval().fit_output(lambda: self._seen(self.panels.part(chosen)), *unseen)
        if unseen:
            model.training_facts[KEPT] = int(kept.sum())
        return model

    def _seen(self, panels: Stack) -> Iterator[Tensor]:
        """Tiles of panels spread over all of them, one a batch: [1, C, h, w]."""
        wanted = max(FEWEST_TILES, OUTPUT_PX // (self.geometry.height * self.geometry.width))
        gather = self._gather()
        for at, place in spread(len(panels.names), tiles.count(self.geometry, self._panel), wanted):
            row = np.empty((1, *gather.shape), np.float32)
            gather.pieces(panels.frames[at]).fill(place, row[0])
            yield torch.from_numpy(row)

    def _gather(self) -> Gather:
        return Gather(len(self.crops.frames[0]), self.geometry, self.crops.frames.dtype.name)

    @property
    def _panel(self) -> Size:
        assert self.geometry.panel is not None
        return self.geometry.panel


def spread(panels: int, places: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Up to `wanted` pairs of a panel and a place in it, spread over both; none comes twice."""
    wanted = min(wanted, panels * places)
    for number in range(wanted):
        yield number * panels // wanted, number % places


def prepared(
    panels: PanelSet, method: str, settings: MethodSettings, model: Any, wish: str, seed: int, tell: Tell
) -> Tiling:
    """All of train/good, read once for crops; the tiles that suit the panels' size, as `wish` says, see `planned`.

    Raises:
        PanelError: there are too few, one cannot be read or is constant, or they differ in size or depth.
        UsageError: the method cannot be tiled, or there are no such tiles.
    """
    _refuse_untileable(method, settings, model)
    found = list(panels.panels("train", GOOD))
    if len(found) < 2 * FEWEST:
        raise PanelError(f"{panels.path}: {len(found)} panels in train/good; at least {2 * FEWEST} are needed")
    first = panels.read(found[0])
    geometry = planned(wish, (first.shape[1], first.shape[2]), model.receptive_field, settings.grid, first)
    digest, rows, names, owners = hashlib.blake2b(), [], [], []
    for number, panel in enumerate(found):
        tell("reading", number, len(found))
        frames = panels.read(panel)
        refuse_constant(frames, panel, panels.channels)
        _refuse_other(frames, first, panel)
        digest.update(np.ascontiguousarray(frames).data)
        for top, left in crops.places(frames, settings, len(found), crops.rng(seed, number)):
            rows.append(crops.crop(frames, (top, left), (settings.height, settings.width)))
            names.append(f"{panel.name} at {left},{top}")
            owners.append(number)
    own = tuple(panel.name for panel in found)
    whole = Stack(OnDisk(panels, found, first.dtype), own, MAP_STRIDE**2, panels.specimens(own))
    pool = Stack(np.stack(rows), tuple(names), MAP_STRIDE**2)
    return Tiling(geometry, whole, pool, np.array(owners), digest.hexdigest())


def planned(wish: str, size: Size, receptive_field: int, grid: int, panel: NDArray) -> Tiles:
    """The tiles that `wish` asks for, "auto", "PX" or "PXxPX" (height x width), for panels of `size`.

    Raises:
        UsageError: they cannot be, or cost more than `engines.tiles.MOST_EXTRA`.
    """
    margin = halo(receptive_field, grid)
    try:
        chosen = tiles.chosen(size, margin, grid) if wish == "auto" else _asked(wish, size, margin, grid)
    except NoTileError as error:
        raise UsageError(
            f"panels of {size[0]} x {size[1]} px: {error}, {tiles.MOST_EXTRA:.0%} are the most: give --tiles PX for"
            f" larger ones, or settings that see less far than {receptive_field} px (decoder_passes=0, fewer strides)"
        ) from None
    return chosen.model_copy(update={"piece": _piece(chosen, size, panel)})


def _asked(wish: str, size: Size, margin: int, grid: int) -> Tiles:
    numbers = wish.lower().split("x")
    if len(numbers) > 2 or not all(one.isdecimal() for one in numbers):
        raise UsageError(f"--tiles {wish}: give auto, a number of pixels, or HEIGHTxWIDTH")
    height, width = int(numbers[0]), int(numbers[-1])
    for side, whole in zip((height, width), size, strict=True):
        if side % grid or not tiles.LEAST_SIDE <= side <= tiles.MOST_SIDE:
            raise UsageError(f"--tiles {wish}: give multiples of {grid}, {tiles.LEAST_SIDE} to {tiles.MOST_SIDE} px")
        if side <= 2 * margin and side < whole:
            raise UsageError(f"--tiles {wish}: the halo is {margin} px on each side: give more than {2 * margin} px")
    asked = Tiles(height=height, width=width, halo=margin, grid=grid, panel=size)
    cost = tiles.extra_by_halo(asked, size)
    if cost > tiles.MOST_EXTRA:
        raise UsageError(
            f"--tiles {wish}: costs {cost:.0%} extra pixels on panels of {size[0]} x {size[1]} px,"
            f" {tiles.MOST_EXTRA:.0%} are the most: give another size, or auto"
        )
    return asked


def _piece(geometry: Tiles, size: Size, panel: NDArray) -> Size:
    """(height, width) of golden panels: all of them together stay within `GOLDEN_BYTES`, each within a tile."""
    side = isqrt(GOLDEN_BYTES // (2 * golden.EACH * len(panel) * panel.itemsize))
    side = max(side // geometry.grid * geometry.grid, geometry.grid, LEAST_PX)
    return min(side, size[0], geometry.height), min(side, size[1], geometry.width)


def _refuse_untileable(method: str, settings: MethodSettings, model: Any) -> None:
    if not methods.score_rule(model):
        raise UsageError(f"--tiles: {method} with these settings has no score that follows from the map: leave it out")
    blind = set(methods.teachers(methods.load(method), settings)) & set(SEE_ALL)
    if blind:
        raise UsageError(f"--tiles: {blind.pop()} sees each tile as a whole: choose another teacher")


def _refuse_other(frames: NDArray, first: NDArray, panel: Panel) -> None:
    if frames.dtype != first.dtype:
        raise PanelError(f"{panel.path}: is {frames.dtype}, the panels before are {first.dtype}")
    if frames.shape != first.shape:
        these, those = (f"{one.shape[2]}x{one.shape[1]}" for one in (frames, first))
        raise PanelError(f"{panel.path}: is {these}, the panels before are {those}: tiles need panels of one size")


def rule_of(rule: Sequence[Part], maps: NDArray[np.float32], tile: Tiles) -> tuple[Part, ...]:
    """A method's `rule` for maps of whole panels [n, h, w] instead of tiles: the same parts, weighed by those maps.

    A part of the highest cells keeps its share of the map, the maximum stays one. Each weight is one over the part's
    spread, and together they bring good panels to around 1, as `engines.located` has it; what weighs nothing stays.
    """
    cells = tile.height * tile.width / MAP_STRIDE**2
    unweighed = [_unweighed(part, cells) for part in rule]
    parts = np.array([[top_mean(map.ravel(), part) for part in unweighed] for map in maps])
    per_spread = np.where([part.weight != 0 for part in rule], 1 / np.maximum(parts.std(0, ddof=1), 1e-6), 0)
    weights = per_spread / max(float((per_spread * parts.mean(0)).sum()), 1e-6)
    return tuple(part.model_copy(update={"weight": float(w)}) for part, w in zip(unweighed, weights, strict=True))


def _unweighed(part: Part, cells: float) -> Part:
    if isinstance(part, TopMean) and part.cells > 1:
        return TopShare(share=min(1.0, part.cells / cells), weight=1.0)
    return part.model_copy(update={"weight": 1.0})


def pieces(geometry: Tiles, panels: Stack, maps: NDArray[np.float32], rng: np.random.Generator) -> Stack:
    """Pieces of panels that may become golden ones: of each of some panels its corner, where its map is highest, any.

    `maps` [n, h, w] are the panels'. A piece is a panel of its own.
    """
    assert geometry.piece is not None
    rows, names = [], []
    for at in np.unique(np.linspace(0, len(panels.names) - 1, GOLDEN_PANELS).round().astype(int)).tolist():
        frames, cell = panels.frames[at], MAP_STRIDE
        highest = [int(one) * cell for one in np.unravel_index(int(maps[at].argmax()), maps[at].shape)]
        anywhere = [int(rng.integers(side)) for side in frames.shape[1:]]
        for place in ([0, 0], highest, anywhere):
            sides = zip(place, frames.shape[1:], geometry.piece, strict=True)
            top, left = (
                crops.near(one, whole // geometry.grid * geometry.grid, side, geometry.grid)
                for one, whole, side in sides
            )
            rows.append(frames[:, top : top + geometry.piece[0], left : left + geometry.piece[1]].copy())
            names.append(f"{panels.names[at]} at {left},{top}")
    return Stack(np.stack(rows), tuple(names), panels.cell_px)
