"""Pixels, and how a writer puts them into a ring."""

import numpy as np

from pipeline.frames import (
    FrameCarrier,
    Ring,
    RingCarrier,
    digest_of,
)
from pipeline.messages import Frames

TOKEN = "0123456789abcdef" * 2
SLOTS, SLOT_BYTES = 3, 10_000
SOON = 60_000_000_000


def picture(seed: int, dtype: str = "uint8", shape: tuple[int, ...] = (2, 30, 40)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def put(ring: Ring, slot: int, pixels: np.ndarray, carrier: RingCarrier | FrameCarrier | None = None):
    """Write a set into an acquired slot and ship it."""
    ring.room(slot)[: pixels.nbytes] = pixels.tobytes()
    digest = digest_of(ring.room(slot)[: pixels.nbytes])
    frames = Frames(shape=pixels.shape, dtype=str(pixels.dtype), digest=digest)
    return (carrier or RingCarrier(ring)).ship(slot, TOKEN, frames, SOON)
