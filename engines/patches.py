"""A picture into square patches on a global grid, folded into the batch dimension, and their maps back in place."""

from torch import Tensor


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
