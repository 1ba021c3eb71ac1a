"""Crops of panels at their own resolution: which there are, and what they show. Whole panels stay on the disk.

Which places a panel's crops have depends on the seed and on its number in the set alone.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.panels import GOOD, Panel, PanelSet
from engines.errors import PanelError
from engines.gather import cut, living
from engines.methods import MethodSettings
from engines.tiles import Size, grown

CROP_BYTES = 750_000_000  # of all crops together
MARKED = 4  # crops of a labelled panel
KEY = zlib.crc32(b"crops")


class OnDisk:
    """Panels [n] of [C, H, W] that are read when asked for; indexed by a number or by bool [n]."""

    def __init__(self, panels: PanelSet, found: Sequence[Panel], dtype: np.dtype) -> None:
        self._panels, self._found, self.dtype = panels, tuple(found), dtype

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, np.ndarray):
            return OnDisk(self._panels, [self._found[one] for one in np.flatnonzero(at)], self.dtype)
        return self._panels.read(self._found[at])

    def __iter__(self) -> Iterator[NDArray]:
        return map(self._panels.read, self._found)


def rng(seed: int, number: int) -> np.random.Generator:
    """For the places of panel `number`."""
    return np.random.default_rng((seed, KEY, 0, number))


def places(frames: NDArray, settings: MethodSettings, panels: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Where a panel's crops begin: on the grid, each place once."""
    grid, size = settings.grid, (settings.height, settings.width)
    ends = [grown(one, side, grid) - side for one, side in zip(frames.shape[1:], size, strict=True)]
    there = [(top, left) for top in range(0, ends[0] + 1, grid) for left in range(0, ends[1] + 1, grid)]
    bytes_each = len(frames) * size[0] * size[1] * frames.itemsize
    wanted = min(CROP_BYTES // bytes_each, settings.schedule.image_passes) // panels
    return [there[at] for at in rng.permutation(len(there))[: max(1, wanted)]]


def crop(frames: NDArray, place: tuple[int, int], size: Size) -> NDArray:
    """A crop of its own; a dark field in it keeps one grey level at one pixel, so that it is not taken for lost."""
    part = cut(frames, *place, size).copy()
    for channel in np.flatnonzero(living(frames) & ~living(part)):
        part[channel, 0, 0] = 1
    return part


def labelled(panels: PanelSet, settings: MethodSettings, seed: int) -> tuple[NDArray, NDArray[np.bool_]] | None:
    """Crops around the defects of train/<defect>, and their masks [n, h, w]; None where there are none.

    Raises:
        PanelError: a panel has no mask, or cannot be read.
    """
    rows, masks = [], []
    for number, panel in enumerate(one for one in panels.panels("train") if one.defect != GOOD):
        frames = panels.read(panel)
        mask = panels.mask(panel, (frames.shape[1], frames.shape[2]))
        if mask is None:
            raise PanelError(f"{panel.path}: a labelled panel needs its mask in ground_truth/{panel.defect}")
        size, rng = (settings.height, settings.width), np.random.default_rng((seed, KEY, 1, number))
        for place in _around(mask, settings, rng):
            rows.append(crop(frames, place, size))
            masks.append(cut(mask[None], *place, size)[0])
    return (np.stack(rows), np.stack(masks)) if rows else None


def _around(mask: NDArray[np.bool_], settings: MethodSettings, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Places of crops that have a defective pixel near their middle."""
    marked = np.argwhere(mask)
    chosen = marked[rng.permutation(len(marked))[:MARKED]]
    sides = (settings.height, settings.width)
    return sorted({_around_one(pixel, mask.shape, sides, settings.grid) for pixel in chosen.tolist()})


def _around_one(pixel: Sequence[int], shape: Sequence[int], sides: Size, grid: int) -> tuple[int, int]:
    top, left = (near(one, whole, side, grid) for one, whole, side in zip(pixel, shape, sides, strict=True))
    return top, left


def near(middle: int, whole: int, side: int, grid: int) -> int:
    """Where a crop of `side` begins on the grid so that `middle` lies about in its middle."""
    wanted = round((middle - side / 2) / grid) * grid
    return min(max(wanted, 0), grown(whole, side, grid) - side)
