"""Pictures that no camera took: what the shipped teacher is made from. Every picture follows from its seed alone."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.pictures.fields import Rng, log_uniform, shade
from calibration.pictures.scenes import Scene, scene

__all__ = ["Scene", "draw", "of_panel"]


def draw(rng: Rng, side: int) -> Scene:
    """A picture by calculation: float32 [3, side, side], 0..1."""
    return finished(rng, scene(rng, side))


def of_panel(rng: Rng, panels: Sequence[NDArray[np.uint8]], side: int) -> Scene:
    """A piece of one of the image sets, uint8 [C, H, W], its channels blended to three at random; 0..1."""
    frames = panels[int(rng.integers(len(panels)))]
    scale = log_uniform(rng, 0.7, 2.0)
    window = min(int(side / scale), *frames.shape[1:])
    top, left = (int(rng.integers(0, size - window + 1)) for size in frames.shape[1:])
    cut = frames[:, top : top + window, left : left + window].astype(np.float32) / 255
    weights = rng.dirichlet(np.full(len(frames), 0.3), 3).astype(np.float32)
    if rng.uniform() < 0.3:
        weights[:] = weights[0]
    three = np.einsum("kc,chw->hwk", weights, cut)
    sized = cv2.resize(three, (side, side), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return finished(rng, np.ascontiguousarray(np.moveaxis(sized, 2, 0)))


def finished(rng: Rng, picture: Scene) -> Scene:
    """As a camera would give it: blur, contrast, tone, shading, noise."""
    if rng.uniform() < 0.5:
        sigma = log_uniform(rng, 0.3, 2.5)
        picture = np.stack([cv2.GaussianBlur(channel, (0, 0), sigma) for channel in picture])
    if rng.uniform() < 0.6:
        picture = _contrast(rng, picture)
    if rng.uniform() < 0.2:
        picture = _vignetted(rng, picture)
    toned = np.clip(picture, 0, 1) ** log_uniform(rng, 0.6, 1.7)
    if rng.uniform() < 0.6:
        toned = toned + _noise(rng, picture.shape)
    return np.clip(toned, 0, 1).astype(np.float32)


def _vignetted(rng: Rng, picture: Scene) -> Scene:
    light = rng.uniform(0.3, 1) + rng.uniform(0, 0.7) * shade(rng, picture.shape[1])
    return (picture * light).astype(np.float32)


def _contrast(rng: Rng, picture: Scene) -> Scene:
    """Another mean and deviation, so that dim and faint pictures are seen as well."""
    deviation = log_uniform(rng, 0.03, 0.35)
    changed = rng.uniform(0.1, 0.9) + (picture - picture.mean()) * (deviation / (picture.std() + 1e-2))
    return changed.astype(np.float32)


def _noise(rng: Rng, shape: tuple[int, ...]) -> NDArray[np.float32]:
    same = 1 if rng.uniform() < 0.5 else 3
    return np.float32(log_uniform(rng, 0.002, 0.08)) * rng.standard_normal((same, *shape[1:]), np.float32)
