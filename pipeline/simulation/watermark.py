"""A mark in the top left corner of every simulated frame, so that a test can prove whose pixels it holds.

It looks like the small printed code of a real panel: 8 x 8 bits, each a dark and a bright cell side by side of 3 px,
8 grey levels apart around a fixed level. Whatever it says, it has as many dark as bright cells, so that to the
network it looks (nearly) the same on every panel. A reader averages whole cells, which is a repetition code of
18 pixels a bit, and believes only what agrees with the start byte and the check sum.
"""

import struct
from binascii import crc_hqx
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.errors import UsageError

EMPTY = 0xFFFF_FFFF  # the panel index of frames that show no panel
CELL_PX, BITS = 3, 8
HEIGHT_PX, WIDTH_PX = BITS * CELL_PX, 2 * BITS * CELL_PX
LEVEL, AMPLITUDE = 96, 4  # 8-bit grey levels
_START = 0x5A
_PAYLOAD = struct.Struct(">BIB")


@dataclass(frozen=True)
class Mark:
    """What a mark says: index of the physical panel (u32) and of the channel (u8)."""

    panel: int
    channel: int


def stamp(frame: NDArray[np.uint8] | NDArray[np.uint16], panel: int, channel: int) -> None:
    """Write the mark into `frame` [H, W], in place.

    Raises:
        UsageError: the frame has no room for the mark (24 x 48 px).
    """
    if frame.shape[0] < HEIGHT_PX or frame.shape[1] < WIDTH_PX:
        raise UsageError(f"a frame of {frame.shape} has no room for the mark; use at least 64 x 64 pixels")
    payload = _PAYLOAD.pack(_START, panel, channel)
    words = payload + crc_hqx(payload, 0xFFFF).to_bytes(2, "big")
    one = np.unpackbits(np.frombuffer(words, np.uint8)).reshape(BITS, BITS)
    cells = np.stack([1 - one, one], axis=2).reshape(BITS, 2 * BITS)
    scale = _scale(frame.dtype)
    values = np.array([(LEVEL - AMPLITUDE) * scale, (LEVEL + AMPLITUDE) * scale], frame.dtype)
    pixels = values[cells].repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)
    frame[:HEIGHT_PX, :WIDTH_PX] = pixels


def stamp_set(frames: NDArray, panel: int) -> NDArray:
    """`frames` [C, H, W], one panel's set, with its marks written in place; raises as `stamp`."""
    for channel, frame in enumerate(frames):
        stamp(frame, panel, channel)
    return frames


def read(frame: NDArray[np.uint8] | NDArray[np.uint16]) -> Mark | None:
    """What the mark in `frame` [H, W] says, or None when there is none that proves itself."""
    corner = frame[:HEIGHT_PX, :WIDTH_PX]
    if corner.shape != (HEIGHT_PX, WIDTH_PX):
        return None
    cells = corner.reshape(BITS, CELL_PX, 2 * BITS, CELL_PX).mean(axis=(1, 3))
    words = np.packbits(cells[:, 1::2] > cells[:, 0::2]).tobytes()
    start, panel, channel = _PAYLOAD.unpack(words[:6])
    proven = start == _START and crc_hqx(words[:6], 0xFFFF) == int.from_bytes(words[6:], "big")
    return Mark(panel, channel) if proven else None


def _scale(dtype: np.dtype) -> int:
    return 257 if dtype == np.uint16 else 1
