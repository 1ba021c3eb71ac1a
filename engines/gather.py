"""A panel's frames as the network takes them, and its maps put together again.

Teaching, golden panels and the line use this one path. `Gather.pieces` says in how many rows of a batch a panel goes,
fills each of them, and joins what the network said of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from engines import tiles
from engines.recipe import Resize, Tiles
from engines.tiles import Size, Span, Tile

SPECK = np.float32(2.0**-14)  # the least that half precision holds in full; a 64th of a grey level of 8 bits

Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Joined:
    """A panel's map [h, w], and (height, width) in pixels that it covers: the panel's, or a little beyond.

    `covered` [h, w]: cells that were answered for exactly once; None: the network saw the whole panel at once. The map
    of cells that no piece answers for is not a number. `tile` is the whole map of the tile over which a golden piece
    was mirrored; None for other panels.
    """

    map: Map
    covered: NDArray[np.bool_] | None
    extent: Size
    tile: Map | None = None

    @property
    def whole(self) -> Map:
        """What is held against a golden panel's reference: all that the network said of it."""
        return self.map if self.tile is None else self.tile


class Pieces(Protocol):
    """One panel of `size` as rows of a batch."""

    size: Size

    def __len__(self) -> int:
        """How many rows it takes."""
        ...

    def fill(self, number: int, row: NDArray[np.float32]) -> None:
        """Piece `number` -> row [C, h, w] float32, 0..1, in place."""
        ...

    def joined(self, maps: Sequence[Map]) -> Joined:
        """The panel's map from those of its pieces [h, w], in their order."""
        ...


class Gather:
    """Puts panels [C, H, W] of integers into rows of a batch, float32, 0..1."""

    def __init__(self, channels: int, geometry: Resize | Tiles, dtype: str) -> None:
        self.geometry = self._geometry = geometry
        self._size = (geometry.height, geometry.width)
        self._scale = np.float32(1.0 / np.iinfo(dtype).max)
        self.shape = (channels, *self._size)

    @property
    def usual(self) -> int:
        """Pieces of a panel of the size that was taught; 1 where panels may have any."""
        geometry = self._geometry
        return tiles.count(geometry, geometry.panel) if isinstance(geometry, Tiles) and geometry.panel else 1

    def map_shape(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """Of the map of a panel of the size that was taught, where the network's own is `shape`; None: any."""
        geometry = self._geometry
        if isinstance(geometry, Resize):
            return shape[0], shape[1]
        cell = geometry.height // shape[0]
        return (-(-geometry.panel[0] // cell), -(-geometry.panel[1] // cell)) if geometry.panel else None

    def pieces(self, frames: NDArray) -> Pieces:
        """frames [C, H, W] integers, their own size."""
        if isinstance(self._geometry, Tiles):
            return _Tiled(frames, self._geometry, self._scale)
        return _Whole(self.resized(frames), self._scale, (frames.shape[1], frames.shape[2]))

    def golden(self, frames: NDArray) -> Pieces:
        """A golden panel [C, H, W] as one row: in tiles, a piece that is mirrored over the whole of a tile.

        So every part of a tile shows what is known, and the network's whole map is held against its reference.
        """
        if isinstance(self._geometry, Tiles):
            return _Mirrored(frames, self._geometry, self._scale)
        return self.pieces(frames)

    def __call__(self, frames: NDArray, row: NDArray[np.float32]) -> None:
        """The first piece of frames [C, H, W] -> row [C, h, w] float32, in place; of a resized panel all of it."""
        self.pieces(frames).fill(0, row)

    def rows(self, frames: NDArray) -> Iterator[NDArray[np.float32]]:
        """Every piece of frames [C, H, W] by itself: [C, h, w] float32."""
        yield from self.filled(self.pieces(frames))

    def filled(self, pieces: Pieces) -> Iterator[NDArray[np.float32]]:
        """Every piece of a panel by itself: [C, h, w] float32."""
        for number in range(len(pieces)):
            row = np.empty(self.shape, np.float32)
            pieces.fill(number, row)
            yield row

    def resized(self, frames: NDArray) -> NDArray:
        """frames [C, H, W] -> [C, h, w], same type; the same array where the size is right."""
        height, width = self._size
        if frames.shape[1:] == self._size:
            return frames
        shrinks = frames.shape[1] >= height and frames.shape[2] >= width
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.stack([cv2.resize(frame, (width, height), interpolation=how) for frame in frames])


class _Whole:
    """A panel in one piece, resized."""

    def __init__(self, frames: NDArray, scale: np.float32, size: Size) -> None:
        self._frames, self._scale, self.size = frames, scale, size

    def __len__(self) -> int:
        return 1

    def fill(self, number: int, row: NDArray[np.float32]) -> None:
        np.multiply(self._frames, self._scale, out=row)

    def joined(self, maps: Sequence[Map]) -> Joined:
        (map,) = maps
        return Joined(map.copy(), None, self.size)


class _Tiled:
    """A panel in tiles, grown to the right and below by repeating its last pixels."""

    def __init__(self, frames: NDArray, geometry: Tiles, scale: np.float32) -> None:
        self._frames, self._scale, self._geometry = frames, scale, geometry
        self.size = (frames.shape[1], frames.shape[2])
        self._tiles = tiles.tiles(geometry, self.size)

    @cached_property
    def _living(self) -> NDArray[np.bool_]:
        """Asked for only where rows are filled here: it reads every pixel."""
        return living(self._frames)

    def __len__(self) -> int:
        return len(self._tiles)

    def corners(self) -> list[tuple[int, int]]:
        """Where each tile begins in the panel: (top, left)."""
        return [(tile.rows.start, tile.columns.start) for tile in self._tiles]

    def fill(self, number: int, row: NDArray[np.float32]) -> None:
        tile = self._tiles[number]
        scaled(cut(self._frames, tile.rows.start, tile.columns.start, row.shape[1:]), self._living, self._scale, row)

    def joined(self, maps: Sequence[Map]) -> Joined:
        cell = self._geometry.height // maps[0].shape[0]
        last = self._tiles[-1]
        whole = np.full((last.rows.last // cell, last.columns.last // cell), np.nan, np.float32)
        times = np.zeros(whole.shape, np.uint8)
        for tile, map in zip(self._tiles, maps, strict=False):  # a map that is missing leaves cells uncovered
            there, here = _cells(tile, cell)
            whole[there] = map[here]
            times[there] += 1
        height, width = (-(-one // cell) for one in self.size)
        covered = times[:height, :width] == 1
        return Joined(whole[:height, :width].copy(), covered, (height * cell, width * cell))


class _Mirrored:
    """A golden piece from a tile's upper left corner on, mirrored over the rest; its map is that of the piece."""

    def __init__(self, frames: NDArray, geometry: Tiles, scale: np.float32) -> None:
        self._frames, self._scale, self._geometry = frames, scale, geometry
        self.size = (frames.shape[1], frames.shape[2])

    def __len__(self) -> int:
        return 1

    def fill(self, number: int, row: NDArray[np.float32]) -> None:
        scaled(self.whole(row.shape[1:]), living(self._frames), self._scale, row)

    def whole(self, size: tuple[int, ...]) -> NDArray:
        """Frames [C, h, w] of a whole tile of `size`."""
        beyond = [(0, whole - side) for whole, side in zip(size, self.size, strict=True)]
        return np.pad(self._frames, ((0, 0), *beyond), "symmetric")

    def joined(self, maps: Sequence[Map]) -> Joined:
        (tile,) = maps
        own, cell = of_piece(tile, self.size, self._geometry)
        return Joined(own.copy(), None, (own.shape[0] * cell, own.shape[1] * cell), tile.copy())


def of_piece(tile: Map, size: Size, geometry: Tiles) -> tuple[Map, int]:
    """Of a tile's map the part [h, w] that a golden piece of `size` takes, and the side of a cell in pixels."""
    cell = geometry.height // tile.shape[0]
    height, width = (-(-side // cell) for side in size)
    return tile[:height, :width], cell


def living(frames: NDArray) -> NDArray[np.bool_]:
    """Which channels of frames [C, H, W] show anything at all; the others are lost."""
    return frames.max(axis=(1, 2)) > 0


def cut(frames: NDArray, top: int, left: int, size: tuple[Any, ...]) -> NDArray:
    """Frames [C, H, W] from (top, left) on, in `size` (height, width), their last pixels repeated beyond their end."""
    height, width = size
    part = frames[:, top : top + height, left : left + width]
    below, beside = height - part.shape[1], width - part.shape[2]
    return np.pad(part, ((0, 0), (0, below), (0, beside)), "edge") if below or beside else part


def scaled(part: NDArray, alive: NDArray[np.bool_], scale: np.float32, row: NDArray[np.float32]) -> None:
    """A piece [C, h, w] of a panel -> row [C, h, w], 0..1, in place; its channels that are `alive` [C] stay so.

    Networks take a channel that is 0 everywhere for lost. A piece in which a dark field shows nothing is none: it gets
    one speck, far below a grey level.
    """
    np.multiply(part, scale, out=row)
    for channel in np.flatnonzero(alive):
        if not part[channel].any():
            row[channel, 0, 0] = SPECK


def _cells(tile: Tile, cell: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """What a tile answers for, as cells of the panel's map and of its own."""
    there = tuple(slice(one.first // cell, one.last // cell) for one in (tile.rows, tile.columns))
    here = tuple(_own(one, cell) for one in (tile.rows, tile.columns))
    return (there[0], there[1]), (here[0], here[1])


def _own(span: Span, cell: int) -> slice:
    return slice((span.first - span.start) // cell, (span.last - span.start) // cell)
