"""Tiles cover every pixel of a panel of any size exactly once, at a bounded cost, and each sees as far as it must."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as some
from pydantic import ValidationError

from engines import tiles
from engines.recipe import Tiles
from engines.tiles import NoTileError


@some.composite
def cases(draw: some.DrawFn) -> tuple[int, int, int, int]:
    """size, tile, halo, grid along one direction."""
    grid = draw(some.sampled_from([1, 4, 16, 32, 64]))
    halo = grid * draw(some.integers(0, 6))
    tile = 2 * halo + grid * draw(some.integers(1, 8))
    return draw(some.integers(1, 3000)), tile, halo, grid


@given(cases())
def test_every_pixel_is_answered_for_once_by_a_tile_that_sees_far_enough(case: tuple[int, int, int, int]) -> None:
    size, tile, halo, grid = case
    whole, found = tiles.grown(size, tile, grid), tiles.spans(size, tile, halo, grid)
    times = [0] * whole
    for one in found:
        for pixel in range(one.first, one.last):
            times[pixel] += 1
        assert one.start % grid == one.first % grid == 0
        assert one.start >= 0 and one.start + tile <= whole
        assert one.start == 0 or one.first - one.start >= halo
        assert one.start + tile == whole or one.start + tile - one.last >= halo
    assert times == [1] * whole
    assert whole >= size and (whole == tile or whole - size < grid)


@given(cases())
def test_a_panel_no_larger_than_a_tile_takes_one(case: tuple[int, int, int, int]) -> None:
    size, tile, halo, grid = case
    assume(size <= tile)
    assert len(tiles.spans(size, tile, halo, grid)) == 1


@given(some.integers(1, 9000), some.integers(1, 9000), some.sampled_from([(32, 32), (96, 32), (128, 64), (192, 64)]))
def test_the_chosen_tile_keeps_its_bounds_or_says_that_none_does(
    height: int, width: int, seen: tuple[int, int]
) -> None:
    try:
        chosen = tiles.chosen((height, width), *seen)
    except NoTileError as error:
        assert "extra pixels" in str(error)
        return
    assert chosen.height * chosen.width <= tiles.MOST_PX
    assert tiles.extra_by_halo(chosen, (height, width)) <= tiles.MOST_EXTRA
    assert chosen.panel == (height, width) and (chosen.halo, chosen.grid) == seen


def test_a_panel_of_2048_takes_two_tiles_one_across() -> None:
    chosen = tiles.chosen((2048, 2048), 192, 64)
    assert (chosen.height, chosen.width) == (1216, 2048)
    assert tiles.count(chosen, (2048, 2048)) == 2
    assert tiles.extra(chosen, (2048, 2048)) == pytest.approx(0.1875)


def test_no_other_tile_costs_less() -> None:
    size, halo, grid = (700, 1500), 64, 64
    chosen = tiles.chosen(size, halo, grid)
    others = [
        Tiles(height=height, width=width, halo=halo, grid=grid)
        for height in range(192, 1537, grid)
        for width in range(192, 1537, grid)
        if height * width <= tiles.MOST_PX
    ]
    assert tiles.extra(chosen, size) <= min(tiles.extra(one, size) for one in others)


def test_a_halo_too_wide_for_any_tile_is_said_with_its_cost() -> None:
    with pytest.raises(NoTileError, match=r"a halo of 192 px costs 72% extra pixels in tiles of at most 2.5 Mpx"):
        tiles.chosen((8192, 8192), 192, 64)


@pytest.mark.parametrize("wrong", [{"height": 100}, {"halo": 48}, {"halo": 64}])
def test_a_geometry_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Tiles.model_validate({"height": 128, "width": 128, "halo": 32, "grid": 32} | wrong)
    assert Tiles(height=128, width=128, halo=64, grid=32, panel=(100, 128)).halo == 64
