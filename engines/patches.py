"""A picture into square patches on a global grid, folded into the batch dimension, and their maps back in place."""

from collections.abc import Callable, Sequence
from math import ceil, gcd

from torch import Tensor

GAUSSIAN_REACH = 5  # sigmas, beyond which its weight is below 1e-5


def cut(pictures: Tensor, size: int) -> Tensor:
    """[N, C, H, W] -> [N * rows * columns, C, size, size], the patches of a picture together, row by row.

    `size` in pixels divides H and W. A network that sees patches sees nothing beyond their borders.
    """
    channels, height, width = pictures.shape[1:]
    rows, columns = height // size, width // size
    tiles = pictures.reshape(-1, channels, rows, size, columns, size)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, size, size)


def join(patches: Tensor, rows: int, columns: int) -> Tensor:
    """Undo `cut`, for the patches themselves or for maps of them.

    [N * rows * columns, C, h, w] -> [N, C, rows * h, columns * w].
    """
    channels, height, width = patches.shape[1:]
    tiles = patches.reshape(-1, rows, columns, channels, height, width)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, rows * height, columns * width)


def patchwise(network: Callable[[Tensor], Sequence[Tensor]], pictures: Tensor, size: int) -> list[Tensor]:
    """What `network` answers to each patch for itself, put back in place: [N, C, H, W] -> maps of the pictures."""
    rows, columns = (side // size for side in pictures.shape[2:])
    return [join(level, rows, columns) for level in network(cut(pictures, size))]


def patch_sizes(height: int, width: int, stride: int) -> list[int]:
    """The sides of patches that part a picture of this size, each a multiple of `stride` pixels."""
    common = gcd(height, width)
    return [size for size in range(stride, common + 1, stride) if common % size == 0]


def checked_patch(size: int, height: int, width: int, stride: int) -> int:
    """`size`, if it is one of `patch_sizes`; the error is of the kind that settings want.

    Raises:
        ValueError: it is not.
    """
    fitting = patch_sizes(height, width, stride)
    if size not in fitting:
        there = ", ".join(map(str, fitting))
        raise ValueError(f"must divide height and width and be a multiple of stride {stride}: take {there}")
    return size


def smoothed(stride: int, finest: int, sigma: float) -> int:
    """Pixels by which a cell sees farther once maps of `stride` were brought to the finest and smoothed there.

    `sigma` is the Gaussian's, in cells of the finest level, of `finest` pixels each.
    """
    return stride + 2 * finest * ceil(GAUSSIAN_REACH * sigma)


def halo(receptive_field: int, grid: int) -> int:
    """Pixels that a tile needs around what it is to answer for, so that it answers as the whole panel would.

    Half the receptive field, rounded up to the patches' grid, on which tiles have to begin.
    """
    return -(-(receptive_field // 2) // grid) * grid
