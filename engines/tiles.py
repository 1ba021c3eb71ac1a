"""Where the tiles of a panel lie, and what each of them answers for. Pure: no pixel is touched here.

A tile answers for its middle; around that it has a halo, in which it sees what the network needs to answer as it would
to the whole panel. At the panel's own borders a tile ends with the panel and needs no halo there: the network's own
padding acts as on the whole panel. Panels are grown at the right and at the bottom to a multiple of the grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from engines.recipe import Tiles

Size = tuple[int, int]  # height, width

MOST_PX = 2_500_000  # of one tile: a network with 64 channels at half size then holds 160 MB a layer, in fp32
LEAST_SIDE, MOST_SIDE = 64, 4096  # what methods take
MOST_EXTRA = 0.6  # pixels that the network sees besides those of the panel, as a share of these


class NoTileError(Exception):
    """No tile keeps both bounds; the text says by how much."""


@dataclass(frozen=True)
class Span:
    """One tile along one direction, pixels of the grown panel: it begins at `start` and answers for [first, last)."""

    start: int
    first: int
    last: int


@dataclass(frozen=True)
class Tile:
    """One tile of a panel."""

    rows: Span
    columns: Span


def grown(size: int, tile: int, grid: int) -> int:
    """`size` pixels, up to the next multiple of `grid`, and at least a tile."""
    return max(tile, -(-size // grid) * grid)


@lru_cache(maxsize=256)
def spans(size: int, tile: int, halo: int, grid: int) -> tuple[Span, ...]:
    """The tiles along one direction of `size` pixels: what they answer for parts the grown panel, without overlap.

    `tile` and `halo` are multiples of `grid`, and a tile is more than two halos where it does not cover all by itself.
    """
    whole, step = grown(size, tile, grid), tile - 2 * halo
    found, first = [], 0
    while True:
        start = min(max(first - halo, 0), whole - tile)
        last = whole if start + tile == whole else start + tile - halo
        found.append(Span(start, first, last))
        if last == whole:
            return tuple(found)
        assert step > 0 and last > first
        first = last


def tiles(geometry: Tiles, size: Size) -> tuple[Tile, ...]:
    """The tiles of a panel of `size`, row by row."""
    rows = spans(size[0], geometry.height, geometry.halo, geometry.grid)
    columns = spans(size[1], geometry.width, geometry.halo, geometry.grid)
    return tuple(Tile(*pair) for pair in product(rows, columns))


def count(geometry: Tiles, size: Size) -> int:
    """How many tiles a panel of `size` has."""
    down = spans(size[0], geometry.height, geometry.halo, geometry.grid)
    across = spans(size[1], geometry.width, geometry.halo, geometry.grid)
    return len(down) * len(across)


def extra(geometry: Tiles, size: Size) -> float:
    """Pixels that the network sees besides those of a panel of `size`, as a share of these."""
    return _seen_px(geometry, size) / (size[0] * size[1]) - 1


def extra_by_halo(geometry: Tiles, size: Size) -> float:
    """Of `extra`, what halos cost, as a share of the grown panel's pixels; the rest is what the panel grows by."""
    height, width = (_least(one, geometry.grid) for one in size)
    return _seen_px(geometry, size) / (height * width) - 1


def chosen(size: Size, halo: int, grid: int) -> Tiles:
    """The tile with the fewest extra pixels for panels of `size`, of those within the bounds; the smaller of equals.

    Raises:
        NoTileError: each takes more than `MOST_EXTRA` for its halos.
    """
    fitting = [one for one in _candidates(size, halo, grid) if one.height * one.width <= MOST_PX]
    best = min(fitting, key=lambda one: (_seen_px(one, size), one.height * one.width), default=None)
    if best is None or extra_by_halo(best, size) > MOST_EXTRA:
        cost = f"{extra_by_halo(best, size):.0%} extra pixels" if best else "more than can be said"
        raise NoTileError(f"a halo of {halo} px costs {cost} in tiles of at most {MOST_PX / 1e6:g} Mpx")
    return best


def _least(size: int, grid: int) -> int:
    """What a direction of `size` pixels grows to in the smallest tile that covers it."""
    return grown(size, grown(LEAST_SIDE, grid, grid), grid)


def _seen_px(geometry: Tiles, size: Size) -> int:
    return count(geometry, size) * geometry.height * geometry.width


def _candidates(size: Size, halo: int, grid: int) -> Iterator[Tiles]:
    for height, width in product(*(_sides(one, halo, grid) for one in size)):
        yield Tiles(height=height, width=width, halo=halo, grid=grid, panel=size)


def _sides(size: int, halo: int, grid: int) -> list[int]:
    """The shortest side with which so many tiles lie across, for one tile, two and so on."""
    whole = _least(size, grid)
    several = {-(-(whole + 2 * halo * (count - 1)) // (count * grid)) * grid for count in range(2, whole // grid + 1)}
    return sorted(one for one in several | {whole} if one <= MOST_SIDE and (one > 2 * halo or one == whole))
