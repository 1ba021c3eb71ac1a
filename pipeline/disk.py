"""Files whose loss must be noticed: every function here raises OSError where the disk does not take all of it."""

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def save_array(path: Path, pixels: NDArray) -> None:
    """As numpy.save, which says nothing when the disk is full."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(pixels))
        file.write(np.ascontiguousarray(pixels).data)


def to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def try_room(path: Path, size: int) -> None:
    """Raises OSError where a file of `size` bytes has no room now."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)
        path.unlink()


def write_channels(folder: Path, camera: str, names: tuple[str, ...], pixels: NDArray) -> None:
    """pixels [C, H, W] as `<camera>_<channel>.png`, bit for bit.

    Raises:
        OSError: a picture cannot be written.
    """
    for index, frame in enumerate(pixels):
        name = names[index] if index < len(names) else str(index)
        path = folder / f"{camera}_{name}.png"
        made, data = cv2.imencode(".png", frame, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        try:
            if not made:
                raise OSError(0, "no PNG can be made of it")
            path.write_bytes(data.tobytes())  # OpenCV's own writer says nothing when the disk is full
        except OSError as error:
            raise OSError(f"{path} cannot be written: {error.strerror}") from None
