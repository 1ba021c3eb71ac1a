"""What is kept of a raw set to judge its integrity: a few thousand numbers, read from a part of its rows.

A frame is cut into `CELLS` bands of rows; of each band up to `DEPTH` neighbouring rows are read, at full width. A large
frame thus costs little more than a small one.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import PanelError
from engines.grid import Pitch, Waves, waves

Floats = NDArray[np.floating]

CELLS = 28  # bands of rows, and cells across
DEPTH = 8  # rows read of a band
LAGS = (1, 2, 4)  # px: scales of texture
TEXTURES = len(LAGS) + 1
LEAST_PX = 64
SMALLEST = np.float32(0.002)  # of full scale: half a grey level of 8 bits; keeps logarithms finite
_BLOCKS = 8  # parts of the width; a tear crosses all of them, a defect does not
_FIRST, _LAST = 2, CELLS - 2  # bands in which a tear is looked for; the outermost show the panel's edge
_KEPT = tuple(CELLS * part // 5 for part in (1, 2, 3, 4))
_SPARSE = 4  # every so many-th column where no detail is wanted
_BRIGHT = 0.98


@dataclass(frozen=True, eq=False)
class Signature:
    """Of a set with C channels; levels are shares of full scale.

    `thumbs` [C, n, n]: mean of every cell. `texture` [C, 4]: log of contrast, across at three lags and along, relative
    to the level. `rough` [C]: how far the largest difference of neighbouring bands stands above the others, log.
    `spread` [C]: standard deviation of all that was read. `bright` [C]: share of pixels at the upper end. `rows`
    [C, r, W]: raw pixels of a few rows, the first and the last among them; `noise` [C, k]: the inner
    of them without what is smooth, of unit length, which tells one exposure from another. `waves`: see `engines.grid`;
    None where no pitch was given.
    """

    thumbs: Floats
    texture: Floats
    rough: Floats
    spread: Floats
    bright: Floats
    rows: NDArray
    noise: Floats
    aspect: float  # width by height
    waves: Waves | None = None


class TooSmallError(PanelError):
    """Frames of which no signature can be taken."""


def signature(frames: NDArray, pitch: Pitch | None = None) -> Signature:
    """The signature of a raw set [C, H, W], uint8 or uint16.

    Raises:
        TooSmallError: the frames are smaller than 64 px, or no set.
    """
    if frames.ndim != 3 or min(frames.shape[1:]) < LEAST_PX:
        raise TooSmallError(f"a set of {frames.shape} has no signature; frames of at least {LEAST_PX} px are needed")
    top = np.iinfo(frames.dtype).max
    starts, depth = band_rows(frames.shape[1])
    read = _read_rows(frames, starts, depth)  # [C, n, d, W]
    bands = np.einsum("cndw->cnw", read) * np.float32(1 / (top * read.shape[2]))
    thumbs = np.stack([cv2.resize(band, (CELLS, CELLS), interpolation=cv2.INTER_AREA) for band in bands])
    level = np.einsum("cnw->c", bands) / np.float32(bands[0].size) + SMALLEST
    sparse = np.ascontiguousarray(read[:, :, :, ::_SPARSE])
    rows = frames[:, [0, *(frames.shape[1] * band // CELLS for band in _KEPT), -1]]
    return Signature(
        thumbs=thumbs,
        texture=_texture(bands, sparse, level, top),
        rough=_rough(bands),
        spread=_spread(bands),
        bright=_share(sparse >= _BRIGHT * top),
        rows=rows,
        noise=_noise(rows[:, 1:-1]),
        aspect=frames.shape[2] / frames.shape[1],
        waves=waves(read, starts, pitch) / np.float32(top) if pitch else None,
    )


def band_rows(height: int) -> tuple[NDArray[np.integer], int]:
    """The first of the rows read of every band, up to `DEPTH` in its middle, and how many."""
    depth = min(DEPTH, height // CELLS)
    return (np.arange(CELLS) * height / CELLS + (height / CELLS - depth) / 2).astype(int), depth


def _read_rows(frames: NDArray, starts: NDArray[np.integer], depth: int) -> Floats:
    """[C, n, d, W]."""
    height = frames.shape[1]
    rows = (starts[:, None] + np.arange(depth)).ravel()
    chosen = frames if len(rows) == height else frames[:, rows]
    return chosen.reshape(len(frames), CELLS, depth, -1).astype(np.float32)


def _texture(bands: Floats, sparse: Floats, level: Floats, top: int) -> Floats:
    across = [_second_difference(bands, lag, 2) for lag in LAGS]
    depth = sparse.shape[2]
    along = _usual(_second_difference(sparse, (depth - 1) // 2, 2)) / top if depth > 2 else np.zeros_like(level)
    measured = [*map(_usual, across), along]
    return np.log((np.stack(measured, axis=1) + SMALLEST / 10) / level[:, None])


def _second_difference(values: Floats, lag: int, axis: int) -> Floats:
    moved = np.moveaxis(values, axis, 0)
    found = moved[2 * lag :] + moved[: -2 * lag]
    found -= 2 * moved[lag:-lag]
    return np.moveaxis(found, 0, axis)


def _spread(bands: Floats) -> Floats:
    mean = np.einsum("cnw->c", bands) / bands[0].size
    square = np.einsum("cnw,cnw->c", bands, bands) / bands[0].size
    return np.sqrt(np.maximum(square - mean**2, 0))


def _share(chosen: NDArray[np.bool_]) -> Floats:
    counts = [np.count_nonzero(one) for one in chosen]
    return np.array(counts, np.float32) / np.float32(chosen[0].size)


def _noise(rows: NDArray) -> Floats:
    left = _second_difference(rows.astype(np.float32), 1, 2).reshape(len(rows), -1)
    return left / (np.sqrt(np.einsum("ck,ck->c", left, left))[:, None] + np.float32(1e-6))


def middle(values: NDArray) -> NDArray:
    """The median along the last axis, the higher of two; `np.median` takes twice as long for few numbers."""
    half = values.shape[-1] // 2
    return np.partition(values, half, axis=-1)[..., half]


def _usual(values: Floats) -> Floats:
    """Median over the bands of the root mean square inside a band; a defect lies in few of them. [C, n, ...] -> [C]"""
    flat = values.reshape(*values.shape[:2], -1)
    return np.sqrt(middle(np.einsum("cnk,cnk->cn", flat, flat)) / flat.shape[2])


def _rough(bands: Floats) -> Floats:
    """How far the largest difference of two bands, one apart, stands above all others of the frame; log, [C].

    One band apart, because a tear lies inside some band. A tear crosses the frame, so the difference that three in
    four blocks have counts, and a defect in the fourth does not.
    """
    apart = bands[:, _FIRST + 2 : _LAST] - bands[:, _FIRST : _LAST - 2]
    width = apart.shape[2] // _BLOCKS
    blocks = apart[:, :, : width * _BLOCKS].reshape(*apart.shape[:2], _BLOCKS, width)
    blocks = blocks - blocks.mean(axis=3, keepdims=True)
    power = np.partition(np.einsum("cnbw,cnbw->cnb", blocks, blocks) / width, _BLOCKS // 4, axis=2)[:, :, _BLOCKS // 4]
    return _standing_out(np.log(power + (SMALLEST / 10) ** 2) / 2)


def steps(ratio: Floats) -> Floats:
    """How far the largest jump of brightness between bands one apart stands above all others of the frame, [C].

    `ratio` [C, n, n]: log of the cells against the reference's. The jump is what three in four cells of a row exceed.
    """
    apart = ratio[:, _FIRST + 2 : _LAST] - ratio[:, _FIRST : _LAST - 2]
    few = CELLS // 4
    ranked = np.partition(apart, (few, CELLS - 1 - few), axis=2)
    return _standing_out(np.maximum(np.maximum(ranked[:, :, few], -ranked[:, :, CELLS - 1 - few]), 0))


def _standing_out(values: Floats) -> Floats:
    """The largest of a row less the largest of those that lie apart from it, [C, n] -> [C]."""
    at = values.argmax(axis=1)
    near = np.abs(np.arange(values.shape[1]) - at[:, None]) <= 2
    return values.max(axis=1) - np.where(near, -np.inf, values).max(axis=1)
