"""Foreign texture: Perlin-masked patches after DRAEM's recipe, drawn by calculation or cut from the same panel.

The recipe (Zavrtanik et al. 2021, published code) masks a texture picture with binarised, turned Perlin noise of 2^a x
2^b cells, passes it through three of ten augmenters and blends it in with an opacity of 0.2 to 1. Ours, as our reading:
the noise fills a window that fades towards its rim, so that a patch stays local, and is cut at half its
peak; there are no texture pictures: textures are calculated, or come from elsewhere on the same panel.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.anomalies.shapes import Field, Rng, Shape

WINDOW = (0.12, 0.55)  # of the frame's sides
MOVED = (0.06, 0.3)
LATTICE = 64
AUGMENTERS_AT_ONCE = 3


def texture(rng: Rng, height: int, width: int) -> Shape:
    """A calculated texture, -1..1, under a Perlin mask."""
    masked = perlin_mask(rng, height, width)
    pattern = PATTERNS[rng.integers(len(PATTERNS))](rng, *masked.body.shape)
    return Shape(masked.rows, masked.columns, masked.body * pattern)


def perlin_mask(rng: Rng, height: int, width: int) -> Shape:
    """Perlin noise cut at half its peak, 0 or 1, on a random window."""
    rows, columns = _box(rng, height, WINDOW), _box(rng, width, WINDOW)
    high, wide = rows.stop - rows.start, columns.stop - columns.start
    y, x = np.linspace(-1, 1, high)[:, None], np.linspace(-1, 1, wide)[None, :]
    noise = perlin(rng, high, wide) * np.clip(1.2 - x**2 - y**2, 0, 1)
    return Shape(rows, columns, (noise > 0.5 * noise.max()).astype(np.float32))


def outline(rng: Rng, height: int, width: int) -> Shape:
    """A piece of the panel: a box or an ellipse, 0..1."""
    rows, columns = _box(rng, height, MOVED), _box(rng, width, MOVED)
    y = np.linspace(-1, 1, rows.stop - rows.start, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, columns.stop - columns.start, dtype=np.float32)[None, :]
    inside = x**2 + y**2 <= 1 if rng.uniform() < 0.5 else np.ones((y.size, x.size), bool)
    return Shape(rows, columns, inside.astype(np.float32))


def piece(frames: NDArray, place: Shape, rng: Rng) -> NDArray[np.float32]:
    """Another part of the same panel, [C, h, w], as large as the window of `place`; turned or mirrored at random."""
    high, wide = place.body.shape
    top, left = rng.integers(0, frames.shape[1] - high + 1), rng.integers(0, frames.shape[2] - wide + 1)
    cut = frames[:, top : top + high, left : left + wide].astype(np.float32)
    if rng.uniform() < 0.5:
        cut = cut[:, :: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
    return cut


def augmented(cut: NDArray[np.float32], top: int, rng: Rng) -> NDArray[np.float32]:
    """`cut` [C, h, w] through three random augmenters, the same in every channel; 0..`top`."""
    shares = cut / np.float32(top)
    for index in rng.choice(len(AUGMENTERS), AUGMENTERS_AT_ONCE, replace=False):
        shares = np.clip(AUGMENTERS[index](shares, rng), 0, 1)
    return (shares * np.float32(top)).astype(np.float32)


def perlin(rng: Rng, height: int, width: int) -> Field:
    """Gradient noise (Perlin 1985) [height, width], about -1..1: 2^a x 2^b cells, a and b of 0..5, turned at random."""
    cells_y = 2 ** rng.integers(0, _octaves(height))
    cells_x = 2 ** rng.integers(0, _octaves(width))
    turn = rng.uniform(-np.pi / 2, np.pi / 2)
    v = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    u = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :]
    x = (math.cos(turn) * u - math.sin(turn) * v) * cells_x + LATTICE / 2
    y = (math.sin(turn) * u + math.cos(turn) * v) * cells_y + LATTICE / 2
    column, row = x.astype(np.int32), y.astype(np.int32)
    x, y = x - column, y - row
    angles = rng.uniform(0, 2 * np.pi, (LATTICE, LATTICE)).astype(np.float32)
    gradient_x, gradient_y = np.cos(angles), np.sin(angles)

    def corner(down: int, right: int) -> Field:
        at = (row + down) % LATTICE, (column + right) % LATTICE
        return gradient_x[at] * (x - right) + gradient_y[at] * (y - down)

    ease_x, ease_y = _eased(x), _eased(y)
    upper = corner(0, 0) + ease_x * (corner(0, 1) - corner(0, 0))
    lower = corner(1, 0) + ease_x * (corner(1, 1) - corner(1, 0))
    return math.sqrt(2) * (upper + ease_y * (lower - upper))


def _octaves(length: int) -> int:
    """How many powers of two of cells fit, at 3 px each and at most 32."""
    return max(1, min(6, int(math.log2(max(length, 4) / 3)) + 1))


def _eased(at: Field) -> Field:
    return at**3 * (at * (at * 6 - 15) + 10)


def _box(rng: Rng, length: int, shares: tuple[float, float]) -> slice:
    size = max(6, int(rng.uniform(*shares) * length))
    start = int(rng.integers(0, length - size + 1))
    return slice(start, start + size)


def _grain(rng: Rng, height: int, width: int) -> Field:
    return np.clip(rng.standard_normal((height, width), np.float32) / 2, -1, 1)


def _clouds(rng: Rng, height: int, width: int) -> Field:
    return np.clip(perlin(rng, height, width), -1, 1)


def _stripes(rng: Rng, height: int, width: int) -> Field:
    phase = _waves(rng, height, width)
    return np.sin(phase) if rng.uniform() < 0.5 else np.sign(np.sin(phase))


def _squares(rng: Rng, height: int, width: int) -> Field:
    return np.sign(np.sin(_waves(rng, height, width)) * np.sin(_waves(rng, height, width)))


def _tone(rng: Rng, height: int, width: int) -> Field:
    return np.full((height, width), rng.choice((-1.0, 1.0)), np.float32)


def _waves(rng: Rng, height: int, width: int) -> Field:
    turn, period_px = rng.uniform(0, np.pi), rng.uniform(3, 24)
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    return 2 * np.pi / period_px * (math.cos(turn) * x + math.sin(turn) * y) + rng.uniform(0, 6)


PATTERNS: tuple[Callable[[Rng, int, int], Field], ...] = (_grain, _clouds, _stripes, _squares, _tone)

Shares = NDArray[Any]  # float32 [C, h, w], 0..1
AUGMENTERS: tuple[Callable[[Shares, Rng], Shares], ...] = (
    lambda it, rng: it ** rng.uniform(0.5, 2.0),
    lambda it, rng: it * rng.uniform(0.8, 1.2) + rng.uniform(-0.12, 0.12),
    lambda it, rng: it + rng.uniform(0.5, 2.0) * (it - _neighbours(it)),  # sharpness
    lambda it, rng: _neighbours(_neighbours(it)),
    lambda it, rng: np.where(it > rng.uniform(0.2, 0.8), 1 - it, it),  # solarise
    lambda it, rng: np.floor(it * 8) / 8 + 1 / 16,  # posterise
    lambda it, rng: 2 * it.mean(axis=(1, 2), keepdims=True) - it,  # invert, at the channel's own level
    lambda it, rng: it.mean(axis=(1, 2), keepdims=True) + rng.uniform(1.2, 2.5) * _deviation(it),  # contrast
    lambda it, rng: it.mean(axis=(1, 2), keepdims=True) + rng.uniform(0.0, 0.7) * _deviation(it),
    lambda it, rng: np.roll(it, tuple(rng.integers(0, max(it.shape), 2)), (1, 2)),
)


def _deviation(shares: Shares) -> Shares:
    return shares - shares.mean(axis=(1, 2), keepdims=True)


def _neighbours(shares: Shares) -> Shares:
    """The mean of each pixel and those beside and above it, wrapped round."""
    beside = (np.roll(shares, 1, 2) + shares + np.roll(shares, -1, 2)) / 3
    return (np.roll(beside, 1, 1) + beside + np.roll(beside, -1, 1)) / 3
