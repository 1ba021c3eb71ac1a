"""Where a defect lies and what it looks like from above, whatever the light. Lengths in pixels, or shares of the
frame's shorter side."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[Any]  # float32 or float64
Rng = np.random.Generator
BORDER = 0.1  # share of the side near a border that may not belong to the panel

SCRATCH_LENGTH, SCRATCH_WIDTH_PX = (0.06, 0.4), (1, 3)
PORE_RADIUS_PX = (1.0, 7.0)
SPECK_RADIUS_PX, FIBRE_LENGTH = (0.8, 5.0), (0.03, 0.12)
DENT_RADIUS = (0.02, 0.11)
CRACK_LENGTH, CRACK_WIDTH_PX = (0.08, 0.45), (1, 2)
STAIN_RADIUS = (0.03, 0.13)
CHIP_RADIUS = (0.015, 0.09)
MURA_RADIUS = (0.14, 0.36)


@dataclass(frozen=True, eq=False)
class Shape:
    """A defect on a window of the frame: `body` [h, w], at most 1 in size; `tilt` [2, h, w], its slope across and down.

    `normal` is the direction across a line: side light from there shows it best.
    """

    rows: slice
    columns: slice
    body: Field
    tilt: Field | None = None
    normal: float | None = None

    def widened(self, margin: int, height: int, width: int) -> "Shape":
        """The same on a window larger by `margin` on every side, as far as the frame goes."""
        rows = slice(max(0, self.rows.start - margin), min(height, self.rows.stop + margin))
        columns = slice(max(0, self.columns.start - margin), min(width, self.columns.stop + margin))
        room = (
            (self.rows.start - rows.start, rows.stop - self.rows.stop),
            (self.columns.start - columns.start, columns.stop - self.columns.stop),
        )
        tilt = None if self.tilt is None else np.pad(self.tilt, ((0, 0), *room))
        return replace(self, rows=rows, columns=columns, body=np.pad(self.body, room), tilt=tilt)


def scratch(rng: Rng, height: int, width: int) -> Shape:
    """A bent thin line, 1 to 3 px wide, deeper here and there."""
    length = _spread(rng, SCRATCH_LENGTH) * min(height, width)
    angle, bend = rng.uniform(0, np.pi), rng.uniform(-0.25, 0.25)
    along = np.linspace(-0.5, 0.5, 24)
    across = bend * (along**2 - 0.125)
    x = np.cos(angle) * along - np.sin(angle) * across
    y = np.sin(angle) * along + np.cos(angle) * across
    centre = _centre(rng, height, width, length / 2)
    points = np.stack([centre[1] + length * x, centre[0] + length * y], axis=1)
    drawn = _lines([points], int(rng.integers(SCRATCH_WIDTH_PX[0], SCRATCH_WIDTH_PX[1] + 1)), height, width)
    depth = 0.8 + 0.2 * _smooth(rng, drawn.body.shape, 4)
    return replace(drawn, body=drawn.body * depth, normal=angle + np.pi / 2)


def pore(rng: Rng, height: int, width: int) -> Shape:
    """A small round hole with a soft rim."""
    radius = _spread(rng, PORE_RADIUS_PX)
    rows, columns, y, x = _window(_centre(rng, height, width, radius), radius + 1, height, width)
    return Shape(rows, columns, np.clip(radius - np.hypot(x, y) + 0.5, 0, 1))


def dust(rng: Rng, height: int, width: int) -> Shape:
    """A speck with a wavy outline, or a curly fibre."""
    if rng.uniform() < 0.4:
        return _fibre(rng, height, width)
    radius = _spread(rng, SPECK_RADIUS_PX)
    rows, columns, y, x = _window(_centre(rng, height, width, radius), 1.5 * radius + 1, height, width)
    turn = np.arctan2(y, x)
    outline = 1 + 0.25 * np.cos(2 * turn + rng.uniform(0, 6)) + 0.15 * np.cos(3 * turn + rng.uniform(0, 6))
    return Shape(rows, columns, np.clip(radius * outline - np.hypot(x, y) + 0.5, 0, 1))


def dent(rng: Rng, height: int, width: int) -> Shape:
    """A smooth hollow or bump, elliptic; its body is its steepness, 1 at the steepest place."""
    radius = max(3.0, _spread(rng, DENT_RADIUS) * min(height, width))
    rows, columns, y, x = _window(_centre(rng, height, width, radius), radius, height, width)
    lean, squeeze = rng.uniform(0, np.pi), rng.uniform(0.55, 1.0)
    along, across = np.cos(lean) * x + np.sin(lean) * y, (np.cos(lean) * y - np.sin(lean) * x) / squeeze
    left = np.clip(1 - (along**2 + across**2) / radius**2, 0, 1)
    tilt = np.stack(
        [
            left * (np.cos(lean) * along - np.sin(lean) * across / squeeze),
            left * (np.sin(lean) * along + np.cos(lean) * across / squeeze),
        ]
    )
    steepness = np.hypot(*tilt)
    sign, most = rng.choice((-1.0, 1.0)), steepness.max()
    return Shape(rows, columns, steepness / most, sign * tilt / most)


def crack(rng: Rng, height: int, width: int) -> Shape:
    """A thin line that wanders and branches, from within or from the border."""
    side = min(height, width)
    length, steps = _spread(rng, CRACK_LENGTH) * side, int(rng.integers(8, 25))
    start, angle = _edge(rng, height, width) if rng.uniform() < 0.4 else _inside(rng, height, width)
    stem = _walk(rng, start, angle, length / steps, steps)
    lines = [stem]
    for _ in range(rng.integers(0, 4)):
        at = int(rng.integers(1, steps))
        aside = angle + rng.choice((-1.0, 1.0)) * rng.uniform(0.3, 1.2)
        lines.append(_walk(rng, stem[at], aside, length / steps, int(rng.integers(2, max(3, steps - at)))))
    drawn = _lines(lines, int(rng.integers(CRACK_WIDTH_PX[0], CRACK_WIDTH_PX[1] + 1)), height, width)
    return replace(drawn, normal=angle + np.pi / 2)


def stain(rng: Rng, height: int, width: int) -> Shape:
    """A soft irregular blob, some with a rim as it is left by drying."""
    reach = max(3.0, _spread(rng, STAIN_RADIUS) * min(height, width))
    rows, columns, y, x = _window(_centre(rng, height, width, reach), 1.3 * reach, height, width)
    away = np.hypot(x, y) / reach
    inside = 1.5 * (1 - away) + 0.4 * _smooth(rng, away.shape, 9) * (away < 1.3)
    body = np.clip(inside, 0, 1)
    if rng.uniform() < 0.4:
        body = 0.4 * body + np.exp(-(((inside - 0.3) / 0.2) ** 2)) * (inside > 0)
    return Shape(rows, columns, body / max(body.max(), 1e-6))


def chip(rng: Rng, height: int, width: int) -> Shape:
    """A piece broken out: an angular outline with a rough ground, at the border or within."""
    reach = max(2.5, _spread(rng, CHIP_RADIUS) * min(height, width))
    centre = _edge(rng, height, width)[0][::-1] if rng.uniform() < 0.5 else _centre(rng, height, width, reach)
    rows, columns, y, x = _window((centre[0], centre[1]), reach + 1, height, width)
    corners = int(rng.integers(5, 10))
    turns = np.sort(rng.uniform(0, 2 * np.pi, corners))
    around = reach * rng.uniform(0.5, 1, corners)[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    canvas = np.zeros((y.shape[0], x.shape[1]), np.uint8)
    fixed = np.rint((around - (x[0, 0], y[0, 0])) * 8).astype(np.int32)[:, None]
    cv2.fillPoly(canvas, [fixed], color=255, lineType=cv2.LINE_AA, shift=3)
    ground = 0.75 + 0.25 * _smooth(rng, canvas.shape, 7)
    return Shape(rows, columns, canvas.astype(np.float32) / 255 * ground)


def mura(rng: Rng, height: int, width: int) -> Shape:
    """A wide cloud without an outline."""
    radius = rng.uniform(*MURA_RADIUS) * min(height, width)
    rows, columns, y, x = _window(_centre(rng, height, width, radius), radius, height, width)
    lean, squeeze = rng.uniform(0, np.pi), rng.uniform(0.35, 1.0)
    along, across = np.cos(lean) * x + np.sin(lean) * y, (np.cos(lean) * y - np.sin(lean) * x) / squeeze
    inside = np.clip(1 - np.hypot(along, across) / radius, 0, 1)
    body = inside**2 * (3 - 2 * inside) * (1 + 0.15 * _smooth(rng, inside.shape, 6))
    return Shape(rows, columns, body / body.max())


SHAPES: dict[str, Callable[[Rng, int, int], Shape]] = {
    "scratch": scratch,
    "pore": pore,
    "dust": dust,
    "dent": dent,
    "crack": crack,
    "stain": stain,
    "chip": chip,
    "mura": mura,
}


def _spread(rng: Rng, bounds: tuple[float, float]) -> float:
    """A draw that is even over orders of magnitude."""
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))


def _centre(rng: Rng, height: int, width: int, reach: float) -> tuple[float, float]:
    """A place, row and column, away from the border."""
    edge = min(reach + BORDER * min(height, width), 0.45 * min(height, width))
    return rng.uniform(edge, height - edge), rng.uniform(edge, width - edge)


def _inside(rng: Rng, height: int, width: int) -> tuple[NDArray[np.float64], float]:
    """A start, x and y, and any direction."""
    row, column = _centre(rng, height, width, 0.1 * min(height, width))
    return np.array([column, row]), rng.uniform(-np.pi, np.pi)


def _edge(rng: Rng, height: int, width: int) -> tuple[NDArray[np.float64], float]:
    """A place on the frame's border, x and y, and a direction inwards."""
    at, away = rng.uniform(0.05, 0.95), rng.uniform(-1, 1)
    starts = (
        ((at * width, 0.0), np.pi / 2),
        ((at * width, height - 1.0), -np.pi / 2),
        ((0.0, at * height), 0.0),
        ((width - 1.0, at * height), np.pi),
    )
    start, inwards = starts[rng.integers(4)]
    return np.array(start), inwards + away


def _walk(rng: Rng, start: NDArray, angle: float, step: float, steps: int) -> NDArray[np.float64]:
    """Points of a line that changes direction a little at every step, [steps + 1, 2]."""
    turns = angle + rng.normal(0, 0.45, steps)
    moves = step * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return start + np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])


def _fibre(rng: Rng, height: int, width: int) -> Shape:
    length, steps = _spread(rng, FIBRE_LENGTH) * min(height, width), 16
    start, angle = _inside(rng, height, width)
    turns = angle + np.cumsum(rng.normal(0, 0.3, steps))
    points = start + length / steps * np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0)
    return _lines([points], int(rng.integers(1, 3)), height, width)


def _window(centre: tuple[float, float], reach: float, height: int, width: int) -> tuple[slice, slice, Field, Field]:
    """The frame's part within `reach` of a place, and how far its rows and columns lie from there."""
    rows = slice(max(0, int(centre[0] - reach)), min(height, int(centre[0] + reach) + 2))
    columns = slice(max(0, int(centre[1] - reach)), min(width, int(centre[1] + reach) + 2))
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(centre[0])
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] - np.float32(centre[1])
    return rows, columns, y, x


def _smooth(rng: Rng, shape: Sequence[int], cells: int) -> Field:
    """Cloudy noise [h, w] with as many cells a side, about -1..1."""
    coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def _lines(lines: Sequence[NDArray[np.float64]], thickness: int, height: int, width: int) -> Shape:
    """Lines through points (x, y), on the part of the frame that they cross."""
    points = np.concatenate(lines)
    low = np.clip(np.floor(points.min(axis=0)).astype(int) - thickness - 1, 0, (width - 2, height - 2))
    high = np.clip(np.ceil(points.max(axis=0)).astype(int) + thickness + 2, low + 2, (width, height))
    canvas = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    fixed = [np.rint((line - low) * 8).astype(np.int32)[:, None] for line in lines]
    cv2.polylines(canvas, fixed, isClosed=False, color=255, thickness=thickness, lineType=cv2.LINE_AA, shift=3)
    body = canvas.astype(np.float32) / 255
    return Shape(slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])), body)
