"""What was measured of one station and is applied to every raw frame before the network: content-hashed."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class StationCalibration:
    """Flat-field gain [C, H, W] float32, or None for a station whose light is taken as it is."""

    gain: NDArray[np.float32] | None = None

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the content; every identity calibration has the same one."""
        digest = hashlib.sha256(b"takt station calibration 1")
        if self.gain is not None:
            digest.update(str(self.gain.shape).encode())
            digest.update(np.ascontiguousarray(self.gain, "<f4").tobytes())
        return digest.hexdigest()

    def apply(self, frames: NDArray) -> NDArray:
        """Corrected `frames` [C, H, W], same type, clipped to its range; the same array where nothing is to do.

        Raises:
            ValueError: the gain was measured for another shape.
        """
        if self.gain is None:
            return frames
        if self.gain.shape != frames.shape:
            raise ValueError(f"gain is {self.gain.shape}, frames are {frames.shape}")
        top = np.iinfo(frames.dtype).max
        return np.clip(np.rint(frames * self.gain), 0, top).astype(frames.dtype)


IDENTITY = StationCalibration()
