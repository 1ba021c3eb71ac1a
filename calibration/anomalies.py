"""Synthetic defects: a relative change of reflectance, drawn once and applied to every channel of the set."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating]
CONTRASTS = (0.06, 0.7)
CHANNEL_JITTER = 0.2
ALIKE_SHARE = 0.5
LEAST_CHANGE = 0.03


@dataclass(frozen=True, eq=False)
class Drawn:
    """A panel with a synthetic defect: frames as before, mask [H, W] of the pixels that really changed."""

    kind: str
    frames: NDArray
    mask: NDArray[np.bool_]


def draw(frames: NDArray, rng: np.random.Generator, kind: str | None = None) -> Drawn:
    """`frames` [C, H, W] with one synthetic defect, of a random kind unless one is named; the input is kept.

    The same place and shape in every channel. Half of the defects change every channel alike up to 20 %, as pigment
    does; the others each by its own amount and sign, as relief does under light from different sides. Clipped to
    the type.
    """
    kind = kind or str(rng.choice(sorted(KINDS)))
    body = KINDS[kind](rng, frames.shape[1], frames.shape[2])
    rows, columns = (slice(at.min(), at.max() + 1) for at in np.nonzero(body))
    before = frames[:, rows, columns].astype(np.float32)
    contrasts = _contrasts(rng, len(frames))[:, None, None]
    top = np.iinfo(frames.dtype).max
    after = np.clip(np.rint(before * (1 + contrasts * body[rows, columns])), 0, top)
    result, mask = frames.copy(), np.zeros(body.shape, bool)
    result[:, rows, columns] = after.astype(frames.dtype)
    mask[rows, columns] = (np.abs(after - before) > LEAST_CHANGE * np.maximum(before, top / 50)).any(axis=0)
    return Drawn(kind, result, mask)


def _contrasts(rng: np.random.Generator, channels: int) -> NDArray[np.float32]:
    """Relative change of each channel, evenly spread over orders of magnitude; at least one is the full one."""
    strength = np.exp(rng.uniform(*np.log(CONTRASTS))) * rng.choice((-1.0, 1.0))
    if rng.uniform() < ALIKE_SHARE:
        shares = rng.uniform(1 - CHANNEL_JITTER, 1 + CHANNEL_JITTER, channels)
    else:
        shares = rng.uniform(-1, 1, channels)
        shares[rng.integers(channels)] = 1.0
    return (strength * shares).astype(np.float32)


def scratch(rng: np.random.Generator, height: int, width: int) -> Field:
    """A bent thin line, 1 to 3 px wide, 0..1."""
    length = rng.uniform(0.08, 0.3) * min(height, width)
    angle, bend = rng.uniform(0, np.pi), rng.uniform(-0.25, 0.25)
    along = np.linspace(-0.5, 0.5, 24)
    across = bend * (along**2 - 0.125)
    x = np.cos(angle) * along - np.sin(angle) * across
    y = np.sin(angle) * along + np.cos(angle) * across
    centre = _centre(rng, height, width, length / 2)
    points = np.stack([centre[1] + length * x, centre[0] + length * y], axis=1)
    return _drawn_line(points, int(rng.integers(1, 4)), height, width)


def pore(rng: np.random.Generator, height: int, width: int) -> Field:
    """A small round hole with a soft rim, radius 1.5 to 7 px, 0..1."""
    radius = rng.uniform(1.5, 7.0)
    away = _distance(_centre(rng, height, width, radius), height, width)
    return np.clip(radius - away + 0.5, 0, 1).astype(np.float32)


def stain(rng: np.random.Generator, height: int, width: int) -> Field:
    """A soft irregular blob, 0..0.6."""
    reach = rng.uniform(0.04, 0.12) * min(height, width)
    away = _distance(_centre(rng, height, width, reach), height, width)
    coarse = rng.normal(0, 0.35, (9, 9))
    noise = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    body = 1.5 * (1 - away / reach) + noise * (away < 1.3 * reach)
    return 0.6 * np.clip(body, 0, 1).astype(np.float32)


KINDS: dict[str, Callable[[np.random.Generator, int, int], Field]] = {
    "pore": pore,
    "scratch": scratch,
    "stain": stain,
}


def _centre(rng: np.random.Generator, height: int, width: int, reach: float) -> tuple[float, float]:
    """A place away from the border, which may not belong to the panel."""
    edge = min(reach + 0.1 * min(height, width), 0.45 * min(height, width))
    return rng.uniform(edge, height - edge), rng.uniform(edge, width - edge)


def _distance(centre: tuple[float, float], height: int, width: int) -> NDArray[np.float64]:
    rows, columns = np.ogrid[:height, :width]
    return np.hypot(rows - centre[0], columns - centre[1])


def _drawn_line(points: NDArray[np.float64], thickness: int, height: int, width: int) -> Field:
    canvas = np.zeros((height, width), np.uint8)
    fixed = np.rint(points * 8).astype(np.int32)[:, None]
    cv2.polylines(canvas, [fixed], isClosed=False, color=255, thickness=thickness, lineType=cv2.LINE_AA, shift=3)
    return canvas.astype(np.float32) / 255
