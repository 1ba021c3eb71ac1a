"""A panel's frames as the network takes them; teaching, golden panels and the line use this one path."""

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.recipe import Resize


class Gather:
    """Puts one panel's frames into its row of the batch: resized, float32, 0..1."""

    def __init__(self, channels: int, geometry: Resize, dtype: str) -> None:
        self._size = (geometry.height, geometry.width)
        self._scale = np.float32(1.0 / np.iinfo(dtype).max)
        self.shape = (channels, *self._size)

    def __call__(self, frames: NDArray, row: NDArray[np.float32]) -> None:
        """frames [C, H, W] integers -> row [C, h, w] float32, in place."""
        np.multiply(self.resized(frames), self._scale, out=row)

    def resized(self, frames: NDArray) -> NDArray:
        """frames [C, H, W] -> [C, h, w], same type; the same array where the size is right."""
        height, width = self._size
        if frames.shape[1:] == self._size:
            return frames
        shrinks = frames.shape[1] >= height and frames.shape[2] >= width
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.stack([cv2.resize(frame, (width, height), interpolation=how) for frame in frames])
