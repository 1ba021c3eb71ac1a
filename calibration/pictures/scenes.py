"""Pictures of three channels, float32 [3, side, side], about 0..1: coloured fields, dead leaves, both together."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.pictures.fields import Field, Rng, field, log_uniform, shade, stretched

Scene = NDArray[np.float32]

LARGEST_LEAF = 0.6  # of the side
TEXTURES = 3  # among the leaves of a scene


def scene(rng: Rng, side: int) -> Scene:
    """One of the ways below, and up to three others laid over it by masks."""
    picture = _plain(rng, side)
    while rng.uniform() < 0.35:
        mask = _mask(rng, side)
        picture = (picture + mask * (_plain(rng, side) - picture)).astype(np.float32)
    if rng.uniform() < 0.2:
        picture = lit(rng, picture, field(rng, side))
    return picture


def coloured(rng: Rng, side: int) -> Scene:
    """A field through a ramp of colours."""
    return _ramped(rng, field(rng, side))


def mixed(rng: Rng, side: int) -> Scene:
    """Two fields, multiplied or added, through a ramp of colours."""
    first, second = field(rng, side), field(rng, side)
    share = rng.uniform(0.2, 0.8)
    both = first * (share + (1 - share) * second) if rng.uniform() < 0.5 else share * first + (1 - share) * second
    return _ramped(rng, stretched(both))


def apart(rng: Rng, side: int) -> Scene:
    """A field for each channel, alike or not: what the blend of an image set looks like."""
    first = field(rng, side)
    share = rng.uniform(0, 1)
    others = [share * first + (1 - share) * field(rng, side) for _ in range(2)]
    return np.stack([first, *others])[rng.permutation(3)].astype(np.float32)


def leaves(rng: Rng, side: int) -> Scene:
    """Dead leaves: shapes of all sizes that hide each other, each plain, shaded or textured, as in photographs."""
    labels = _leaf_labels(rng, side)
    count = int(labels.max()) + 1
    base = _colours(rng, count)
    textures = [shade(rng, side), *(field(rng, side) for _ in range(TEXTURES - 1))]
    depth = rng.uniform(-0.6, 0.6, (count, 1)) * (rng.uniform(0, 1, (count, 1)) < 0.7)
    which = rng.integers(TEXTURES, size=count)[labels]
    texture = np.choose(which, textures) - 0.5
    picture = base[labels] + (depth[labels] * texture[..., None])
    return np.ascontiguousarray(np.moveaxis(picture, 2, 0), np.float32)


def lit(rng: Rng, picture: Scene, height: Field) -> Scene:
    """The picture as the skin of a relief under a light from one side."""
    smooth = cv2.GaussianBlur(height, (0, 0), log_uniform(rng, 0.6, 3))
    turn = rng.uniform(0, 2 * np.pi)
    slope = np.cos(turn) * cv2.Sobel(smooth, cv2.CV_32F, 1, 0) + np.sin(turn) * cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    return (picture + rng.uniform(0.1, 0.5) * slope / (slope.std() + 1e-3) * 0.3).astype(np.float32)


SCENES: tuple[tuple[Callable[[Rng, int], Scene], float], ...] = (  # and how often
    (coloured, 0.32),
    (mixed, 0.22),
    (apart, 0.11),
    (leaves, 0.35),
)


def _plain(rng: Rng, side: int) -> Scene:
    return SCENES[int(rng.choice(len(SCENES), p=[often for _, often in SCENES]))][0](rng, side)


def _mask(rng: Rng, side: int) -> Field:
    """0..1, with hard or soft borders."""
    chosen = shade(rng, side) if rng.uniform() < 0.5 else field(rng, side)
    level = float(np.quantile(chosen, rng.uniform(0.1, 0.9)))
    return np.clip((chosen - level) * log_uniform(rng, 2, 60) + 0.5, 0, 1).astype(np.float32)


def _ramped(rng: Rng, grey: Field) -> Scene:
    """Grey in half of the cases, else between two to four colours."""
    if rng.uniform() < 0.45:
        low, high = rng.uniform(0, 1, 2)
        return np.broadcast_to((low + (high - low) * grey)[None], (3, *grey.shape)).astype(np.float32)
    stops = _colours(rng, int(rng.integers(2, 5)))
    places = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(grey, places, stops[:, channel]) for channel in range(3)]).astype(np.float32)


def _colours(rng: Rng, count: int) -> NDArray[np.float32]:
    """[count, 3], 0..1: of one palette, which may be grey, of one hue, or of any."""
    spread = log_uniform(rng, 0.02, 0.7) if rng.uniform() < 0.7 else 0.0
    tint = rng.uniform(0.3, 1.0, 3) if rng.uniform() < 0.5 else np.ones(3)
    grey = rng.uniform(0, 1, (count, 1))
    return np.clip(grey * tint + spread * rng.uniform(-1, 1, (count, 3)), 0, 1).astype(np.float32)


def _leaf_labels(rng: Rng, side: int) -> NDArray[np.int32]:
    """Which leaf lies on top at each pixel; their number falls with their size, at most with its cube."""
    labels = np.zeros((side, side), np.int32)
    smallest, largest = log_uniform(rng, 2, 12), LARGEST_LEAF * side
    count = int(np.clip(1.5 * side / smallest * log_uniform(rng, 0.4, 4), 12, 220))
    power = rng.uniform(0.5, 2)  # of the share that is larger than a size
    steps = rng.uniform(0, 1, count)
    sizes = (smallest**-power - steps * (smallest**-power - largest**-power)) ** (-1 / power)
    shape = int(rng.integers(4))
    for number, size in enumerate(sizes[np.argsort(-sizes * rng.lognormal(0, 0.8, count))], 1):
        _leaf(rng, labels, number, float(size), shape)
    return labels


def _leaf(rng: Rng, labels: NDArray[np.int32], number: int, size: float, shape: int) -> None:
    """`shape`: 0 discs, 1 boxes, 2 polygons, 3 any."""
    kind = shape if shape < 3 else int(rng.integers(3))
    centre, turn = rng.uniform(0, len(labels), 2), rng.uniform(0, 360)
    flat = log_uniform(rng, 0.25, 1)
    if kind == 0:
        box = (tuple(map(float, centre)), (size, max(1.0, size * flat)), float(turn))
        cv2.ellipse(labels, box, number, -1)
        return
    if kind == 1:
        corners = cv2.boxPoints((tuple(map(float, centre)), (size, size * flat), float(turn * rng.integers(2))))
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        corners = centre + size * rng.uniform(0.3, 0.7, (len(angles), 1)) * np.stack(
            [np.cos(angles), np.sin(angles)], 1
        )
    cv2.fillPoly(labels, [np.rint(corners).astype(np.int32)], number)
