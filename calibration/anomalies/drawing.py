"""One synthetic defect on every channel of a set: one mask, one geometry, each light its own way.

Everything follows from the generator that is passed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.anomalies import kinds, textures
from calibration.anomalies.kinds import OPACITIES
from calibration.anomalies.lights import View, supposed, views
from calibration.anomalies.shapes import SHAPES, Rng, Shape

KINDS = (*kinds.KINDS, *OPACITIES)
LEAST_CHANGE = 0.03
TRIES = 8
VISIBLE_NOISES = 1.5
NOISE_WINDOW = 32


@dataclass(frozen=True, eq=False)
class Drawn:
    """A panel with a synthetic defect: frames as before, mask [H, W] of the pixels that really changed.

    `visible` [C]: the channels in which it shows: its change, averaged over 3 x 3 px, comes somewhere to 1.5 times
    the noise of one pixel there (4.5 times that of the average). `contrast` is the kind's, see `kinds`.
    """

    kind: str
    frames: NDArray
    mask: NDArray[np.bool_]
    visible: NDArray[np.bool_]
    contrast: float


def draw(frames: NDArray, rng: Rng, kind: str | None = None, channels: Sequence[str] | None = None) -> Drawn:
    """`frames` [C, H, W], uint8 or uint16, with one synthetic defect of a random kind unless one is named; input kept.

    `channels` are the names; without them each channel is taken to be a light of its own that nothing is known of.
    Labelled are pixels that changed in some channel by at least one grey level of the type and by 3 % of their
    value, or half the defect's contrast where that is less; of a piece of the panel, only where the change stands out
    from the noise. Changes are rounded at random, so that faint ones keep their mean. A defect that would change
    nothing is drawn anew; after eight tries (black frames, say) the mask is empty.

    Raises:
        KeyError: there is no such kind.
    """
    names = tuple(channels) if channels else ("grey",) if len(frames) == 1 else tuple(map(str, range(len(frames))))
    drawn = _drawn(kind or _any(rng), frames, views(names), rng)
    for _ in range(TRIES - 1):
        if drawn.mask.any():
            break
        drawn = _drawn(kind or _any(rng), frames, views(names), rng)
    return drawn


def _any(rng: Rng) -> str:
    return KINDS[int(rng.integers(len(KINDS)))]


def _drawn(kind: str, frames: NDArray, known: tuple[View, ...], rng: Rng) -> Drawn:
    top, contrast = np.iinfo(frames.dtype).max, kinds.contrast(kind, rng)
    if kind in OPACITIES:
        shape, wanted = _replaced(kind, contrast, frames, rng)
        least = LEAST_CHANGE
    else:
        shape, wanted = _relit(kind, contrast, frames, known, rng)
        least = min(LEAST_CHANGE, contrast / 2)
    return _settled(kind, contrast, frames, shape, np.clip(wanted, 0, top, out=wanted), least, rng)


def _replaced(kind: str, opacity: float, frames: NDArray, rng: Rng) -> tuple[Shape, NDArray[np.float32]]:
    """A piece of the same panel blended in: under a Perlin mask and changed, or as it is."""
    size, top = frames.shape[1:], np.iinfo(frames.dtype).max
    shape = textures.perlin_mask(rng, *size) if kind == "patch" else textures.outline(rng, *size)
    before = frames[:, shape.rows, shape.columns].astype(np.float32)
    content = textures.piece(frames, shape, rng)
    if kind == "patch":
        content = textures.augmented(content, top, rng)
    return shape, np.asarray(before + np.float32(opacity) * shape.body * (content - before), np.float32)


def _relit(
    kind: str, contrast: float, frames: NDArray, known: tuple[View, ...], rng: Rng
) -> tuple[Shape, NDArray[np.float32]]:
    """A change of reflectance: what each channel's light makes of one shape."""
    facts, seen = kinds.KINDS[kind], supposed(known, rng)
    shape = (SHAPES | {"texture": textures.texture})[kind](rng, *frames.shape[1:])
    sigmas = [0.0] * len(seen) if facts.wide else kinds.blurs(seen, rng)
    if max(sigmas) > 0:
        shape = shape.widened(int(2.5 * max(sigmas)), *frames.shape[1:])
    shown = kinds.patterns(facts, shape, seen, sigmas, rng)
    before = frames[:, shape.rows, shape.columns].astype(np.float32)
    levels = kinds.levels(facts, before, shown, seen, np.iinfo(frames.dtype).max)
    return shape, np.asarray(before + np.float32(contrast) * shown * levels, np.float32)


def _settled(
    kind: str, contrast: float, frames: NDArray, shape: Shape, wanted: NDArray[np.float32], least: float, rng: Rng
) -> Drawn:
    """Round to the type, label what changed, and tell where it shows."""
    window = np.s_[:, shape.rows, shape.columns]
    before, top = frames[window], np.iinfo(frames.dtype).max
    result, mask = frames.copy(), np.zeros(frames.shape[1:], bool)
    noises, visible = _noise(frames, shape), np.zeros(len(frames), bool)
    rounding = _less_than_one(rng, before.shape)
    for channel, (was, new) in enumerate(zip(before, wanted, strict=True)):  # a channel at a time fits the cache
        change = new - was
        strong = np.abs(change) >= np.maximum(np.float32(least) * np.maximum(was, top / 50).astype(np.float32), 1)
        if kind in OPACITIES:
            strong &= np.abs(_mean(change)) >= VISIBLE_NOISES * noises[channel]
        mask[window[1:]] |= strong
        visible[channel] = np.abs(_mean(change * strong)).max() >= VISIBLE_NOISES * noises[channel]
        new += rounding[channel]
        result[channel][window[1:]] = np.minimum(new, top, out=new)
    return Drawn(kind, result, mask, visible, contrast)


def _less_than_one(rng: Rng, shape: Sequence[int]) -> NDArray[np.float32]:
    """Random numbers of 0 to 0.98, 256 steps: added before the fraction is cut off, they leave whole numbers alone."""
    drawn = np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8).reshape(shape)
    return np.multiply(drawn, np.float32(0.98 / 255), dtype=np.float32)


def _mean(change: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over 3 x 3 pixels."""
    return np.asarray(cv2.blur(change, (3, 3), borderType=cv2.BORDER_CONSTANT), np.float32)


def _noise(frames: NDArray, shape: Shape) -> NDArray[np.float64]:
    """Standard deviation [C] of the noise and fine texture of a pixel near the defect: the median of second
    differences in both directions, which follow neither shading nor edges; half a grey level at least."""
    rows = _near(shape.rows, frames.shape[1])
    columns = _near(shape.columns, frames.shape[2])
    near = frames[:, rows, columns].astype(np.float32)
    second = near[:, 2:] - 2 * near[:, 1:-1] + near[:, :-2]
    second = second[:, :, 2:] - 2 * second[:, :, 1:-1] + second[:, :, :-2]
    return np.maximum(np.median(np.abs(second), axis=(1, 2)) / 0.6745 / 6, 0.5)


def _near(part: slice, length: int) -> slice:
    """At most 32 pixels round the middle of a part of the frame."""
    start = min(max((part.start + part.stop) // 2 - NOISE_WINDOW // 2, 0), max(length - NOISE_WINDOW, 0))
    return slice(start, start + NOISE_WINDOW)
