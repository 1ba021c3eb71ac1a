"""Patches come back to where they were cut, and so do maps of them."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from engines.patches import cut, join  # noqa: E402

FEW = st.integers(1, 4)


@given(count=FEW, channels=FEW, rows=FEW, columns=FEW, size=st.integers(1, 5))
def test_joining_undoes_cutting(count: int, channels: int, rows: int, columns: int, size: int) -> None:
    pictures = torch.arange(count * channels * rows * columns * size**2).view(count, channels, rows * size, -1)
    patches = cut(pictures, size)
    assert patches.shape == (count * rows * columns, channels, size, size)
    assert torch.equal(join(patches, rows, columns), pictures)


@given(rows=FEW, columns=FEW, cells=FEW)
def test_a_map_of_each_patch_comes_back_to_the_patchs_place(rows: int, columns: int, cells: int) -> None:
    size = 2 * cells
    pictures = torch.rand(2, 3, rows * size, columns * size)
    joined = join(torch.nn.functional.avg_pool2d(cut(pictures, size), 2), rows, columns)
    torch.testing.assert_close(joined, torch.nn.functional.avg_pool2d(pictures, 2))


def test_patches_of_a_picture_lie_together_row_by_row() -> None:
    pictures = torch.rand(2, 1, 8, 12)
    patches = cut(pictures, 4)
    for number in range(12):
        picture, place = divmod(number, 6)
        row, column = divmod(place, 3)
        expected = pictures[picture, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert torch.equal(patches[number], expected)
