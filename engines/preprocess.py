"""What `kernels/preprocess.cu` does, stated in NumPy, and the table of rows that it reads.

A row is one entry of a batch: a piece of a raw panel that begins at (top, left), its last pixels repeated beyond its
end, corrected by the flat-field and scaled to 0..1; or one that is finished, such as the golden defect. A channel that
shows something in the panel and nothing in the piece gets one speck, see `engines.gather.scaled`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.gather import SPECK

THREADS, PER_THREAD = 128, 8  # as in the kernel
LIVING_BLOCKS = 64
ROW = np.dtype(
    [
        *((name, "<u8") for name in ("pixels", "gain", "ready", "living")),
        *((name, "<i4") for name in ("height", "width", "top", "left")),
    ]
)


@dataclass(frozen=True, eq=False)
class Piece:
    """A row as the twin takes it. `pixels` [C, H, W] integers, or `ready` [C, h, w] float32; see the kernel's `Row`."""

    pixels: NDArray | None = None
    gain: NDArray[np.float32] | None = None
    ready: NDArray[np.float32] | None = None
    living: NDArray[np.bool_] | None = None
    top: int = 0
    left: int = 0


def gathered(pieces: Sequence[Piece], shape: tuple[int, int, int], dtype: str, out: str = "float32") -> NDArray:
    """The batch [N, C, h, w] as `out` that the kernel writes for panels of `dtype`."""
    batch = np.empty((len(pieces), *shape), np.float32)
    for piece, row in zip(pieces, batch, strict=True):
        row[:] = piece.ready if piece.ready is not None else _scaled(piece, shape, dtype)
    return batch.astype(out)


def living(pixels: NDArray, gain: NDArray[np.float32] | None = None) -> NDArray[np.bool_]:
    """Which channels of a panel [C, H, W] show anything once they are corrected."""
    return corrected(pixels, gain).max(axis=(1, 2)) > 0


def corrected(pixels: NDArray, gain: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Flat-field: whole numbers within the type's range, as float32."""
    if gain is None:
        return pixels.astype(np.float32)
    return np.clip(np.rint(pixels * gain), 0, np.iinfo(pixels.dtype).max).astype(np.float32)


def scale_of(dtype: str) -> np.float32:
    """From the type's integers to 0..1."""
    return np.float32(1.0 / np.iinfo(dtype).max)


def grid_of(rows: int, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Blocks for a batch of `rows`: columns, lines, channels of all rows."""
    channels, height, width = shape
    return -(-width // (THREADS * PER_THREAD)), height, rows * channels


def kernel_name(dtype: str, out: str) -> str:
    """The kernel that gathers panels of `dtype` into a batch of `out`, "float32" or "float16"."""
    return f"gather_{dtype}_{out}"


def _scaled(piece: Piece, shape: tuple[int, int, int], dtype: str) -> NDArray[np.float32]:
    assert piece.pixels is not None
    whole = corrected(piece.pixels, piece.gain)
    lines = np.minimum(piece.top + np.arange(shape[1]), whole.shape[1] - 1)
    columns = np.minimum(piece.left + np.arange(shape[2]), whole.shape[2] - 1)
    part = whole[:, lines[:, None], columns[None, :]]
    row = part * scale_of(dtype)
    if piece.living is not None:
        dark = ~part.any(axis=(1, 2)) & piece.living
        row[dark, 0, 0] = SPECK
    return row
