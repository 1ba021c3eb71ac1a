"""Grey fields drawn by calculation: noise, gratings, cells, spots, strokes; each float32 [side, side], 0..1.

Every field is a function of a random generator and the side alone.
"""

import string
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
Field = NDArray[np.float32]
Canvas = NDArray[np.uint8]  # the only kind on which lines are drawn smooth

FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX)
SIGNS = tuple(string.ascii_letters + string.digits + "#%&+-=/")


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """As often in every octave."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def stretched(field: NDArray) -> Field:
    """From its smallest value 0 to its largest 1; a flat field becomes 0.5."""
    low, high = float(field.min()), float(field.max())
    if high - low < 1e-6:
        return np.full(field.shape, 0.5, np.float32)
    return ((field - low) / (high - low)).astype(np.float32)


def axes(rng: Rng, side: int) -> tuple[Field, Field]:
    """Coordinates in pixels, turned at random about a random place and, now and then, bent."""
    y, x = np.mgrid[:side, :side].astype(np.float32) - rng.uniform(0, side, (2, 1, 1)).astype(np.float32)
    turn = rng.uniform(0, np.pi) if rng.uniform() < 0.7 else rng.choice((0, np.pi / 2))
    across, down = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    if rng.uniform() < 0.3:
        bend = rng.uniform(1, 12) * (coarse(rng, side, int(rng.integers(2, 7))) - 0.5)
        across, down = across + bend, down + bend
    return across.astype(np.float32), down.astype(np.float32)


def blurred(field: Field, sigma: float) -> Field:
    """Gaussian, sigma in pixels."""
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float32)


def coarse(rng: Rng, side: int, cells: int) -> Field:
    """Smooth noise with so many cells a side."""
    few = rng.uniform(0, 1, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(few, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def spectral(rng: Rng, side: int) -> Field:
    """Noise whose spectrum falls with frequency, perhaps of one direction or one band: clouds, grain, brushing."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    turn, squeeze = rng.uniform(0, np.pi), log_uniform(rng, 1, 20) if rng.uniform() < 0.5 else 1.0
    u, v = np.cos(turn) * fx + np.sin(turn) * fy, np.cos(turn) * fy - np.sin(turn) * fx
    radius = np.hypot(u * squeeze, v) + 0.5 / side
    gain = radius ** -rng.uniform(0, 2.4)
    if rng.uniform() < 0.3:
        centre = log_uniform(rng, 0.02, 0.35)
        gain = np.exp(-((np.log(radius / centre) / rng.uniform(0.1, 0.6)) ** 2))
    noise = np.fft.rfft2(rng.standard_normal((side, side)).astype(np.float32))
    return _clipped(np.fft.irfft2(noise * gain, (side, side)))


def grating(rng: Rng, side: int) -> Field:
    """Waves of one direction: sine, bars, saw teeth, or rising in frequency."""
    along, _ = axes(rng, side)
    return _wave(rng, along / log_uniform(rng, 3, side))


def rings(rng: Rng, side: int) -> Field:
    """Waves about a place, or spokes."""
    x, y = axes(rng, side)
    if rng.uniform() < 0.3:
        return _wave(rng, np.arctan2(y, x) * rng.integers(2, 30) / (2 * np.pi))
    return _wave(rng, np.hypot(x, y * log_uniform(rng, 0.5, 2)) / log_uniform(rng, 4, side))


def lattice(rng: Rng, side: int) -> Field:
    """A grid or a matrix of cells: tiles, meshes, pixels of a display."""
    x, y = axes(rng, side)
    pitch = log_uniform(rng, 4, side / 2)
    tall = pitch * rng.choice((1.0, 1.0, 0.5, 2.0, 3.0))
    shift = 0.5 * (np.floor(y / tall) % 2) * (rng.uniform() < 0.3)  # as bricks lie
    gap = rng.uniform(0.05, 0.5)
    u, v = (x / pitch + shift) % 1, (y / tall) % 1
    edge = max(1.5 / pitch, 0.02)
    inside = np.minimum(_ramp(u, gap, edge), _ramp(v, gap, max(1.5 / tall, 0.02)))
    if rng.uniform() < 0.5:
        levels = rng.uniform(0, 1, 997).astype(np.float32)
        number = np.floor(x / pitch + shift).astype(np.int64) * 31 + np.floor(y / tall).astype(np.int64) * 17
        inside = inside * (0.4 + 0.6 * levels[number % 997])
    return stretched(inside)


def weave(rng: Rng, side: int) -> Field:
    """Threads over and under each other."""
    x, y = axes(rng, side)
    pitch = log_uniform(rng, 4, side / 4)
    over = (np.floor(x / pitch) + np.floor(y / pitch) // rng.integers(1, 3)) % 2 == 0
    thread = np.where(over, np.sin(np.pi * (x / pitch % 1)), np.sin(np.pi * (y / pitch % 1)))
    return stretched(thread + 0.4 * over * rng.uniform(-1, 1))


def cells(rng: Rng, side: int) -> Field:
    """Voronoi cells: their levels, the distance from their centres, or the joints between them."""
    count = int(log_uniform(rng, 6, 400))
    seeds = np.ones((side, side), np.uint8)
    seeds[tuple(rng.integers(0, side, (2, count)))] = 0
    distance, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    how = rng.integers(3)
    if how == 0:
        return rng.uniform(0, 1, count + 2).astype(np.float32)[np.asarray(labels, np.int32)]
    if how == 1:
        return stretched(np.minimum(distance, np.quantile(distance, 0.98)))
    joints = (cv2.morphologyEx(labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((2, 2))) > 0).astype(np.float32)
    return blurred(joints, rng.uniform(0.4, 1.5))


def spots(rng: Rng, side: int) -> Field:
    """Discs of many sizes, of few large and many small ones; perhaps soft."""
    canvas = np.full((side, side), _level(rng), np.uint8)
    smallest = log_uniform(rng, 0.7, 6)
    for _ in range(int(log_uniform(rng, 3, 120))):
        radius = min(smallest * (1 - rng.uniform()) ** -0.6, side / 2)
        _disc(canvas, rng.uniform(0, side, 2), radius, _level(rng))
    drawn = _grey(canvas)
    return blurred(drawn, log_uniform(rng, 0.4, 4)) if rng.uniform() < 0.5 else drawn


def strokes(rng: Rng, side: int) -> Field:
    """Lines: scratches, hairs, cracks; straight, bent or as they walk."""
    canvas = np.full((side, side), 128, np.uint8)
    spread, step = rng.uniform(0, 0.5), log_uniform(rng, 2, side / 5)
    for _ in range(int(log_uniform(rng, 1, 40))):
        turns = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, spread, int(rng.integers(2, 20))))
        points = rng.uniform(0, side, 2) + step * np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), 0)
        _line(canvas, points, int(rng.integers(1, 4)), _level(rng))
    return _grey(canvas)


def text(rng: Rng, side: int) -> Field:
    """Rows of signs."""
    canvas = np.full((side, side), _level(rng), np.uint8)
    size, level, font = log_uniform(rng, 0.3, 3), _level(rng), int(rng.choice(FONTS))
    for row in np.arange(0, side + 30 * size, 34 * size):
        signs = "".join(rng.choice(SIGNS, int(3 + side / (15 * size))))
        place = (int(rng.integers(-20, 10)), int(row))
        cv2.putText(canvas, signs, place, font, size, level, int(rng.integers(1, 3)), cv2.LINE_AA)
    return _grey(canvas)


def tracks(rng: Rng, side: int) -> Field:
    """Lines along rows and columns with pads: circuits, bus bars, seams."""
    canvas = np.full((side, side), _level(rng), np.uint8)
    for _ in range(int(log_uniform(rng, 2, 40))):
        corners = rng.uniform(0, side, (2, 2))
        bent = np.array([corners[0], (corners[1, 0], corners[0, 1]), corners[1]])
        _line(canvas, bent if rng.uniform() < 0.5 else bent[:2], int(log_uniform(rng, 1, 9)), _level(rng))
        if rng.uniform() < 0.4:
            _disc(canvas, corners[0], log_uniform(rng, 1, 8), _level(rng))
    return _grey(canvas)


def shade(rng: Rng, side: int) -> Field:
    """A slow change: along one direction, from a place, or cloudy."""
    x, y = axes(rng, side)
    how = rng.integers(3)
    if how == 0:
        return stretched(x)
    if how == 1:
        return stretched(np.exp(-(x**2 + y**2) / (2 * log_uniform(rng, side / 8, side) ** 2)))
    return stretched(coarse(rng, side, int(rng.integers(2, 5))))


def speckle(rng: Rng, side: int) -> Field:
    """Single grains on a plain ground, or noise without order of one grain size."""
    cells = max(2, int(side / log_uniform(rng, 1, 6)))
    if rng.uniform() < 0.5:
        grain = rng.standard_normal((cells, cells)).astype(np.float32)
    else:
        grain = (rng.uniform(0, 1, (cells, cells)) < log_uniform(rng, 0.002, 0.2)).astype(np.float32)
    how = cv2.INTER_NEAREST if rng.uniform() < 0.3 else cv2.INTER_LINEAR
    return _clipped(cv2.resize(grain, (side, side), interpolation=how))


FIELDS: tuple[tuple[Callable[[Rng, int], Field], float], ...] = (  # and how often
    (spectral, 5),
    (grating, 1.5),
    (rings, 0.7),
    (lattice, 2),
    (weave, 0.8),
    (cells, 2),
    (spots, 1.5),
    (strokes, 1.5),
    (text, 0.8),
    (tracks, 1.2),
    (shade, 1),
    (speckle, 1.2),
)
_SHARES = np.array([often for _, often in FIELDS]) / sum(often for _, often in FIELDS)


def field(rng: Rng, side: int) -> Field:
    """One of them."""
    return FIELDS[int(rng.choice(len(FIELDS), p=_SHARES))][0](rng, side)


def _wave(rng: Rng, phase: NDArray) -> Field:
    how = rng.integers(4)
    if how == 0:
        return (0.5 + 0.5 * np.sin(2 * np.pi * phase)).astype(np.float32)
    if how == 1:
        return (phase % 1).astype(np.float32)
    sharp = log_uniform(rng, 2, 20)
    return (1 / (1 + np.exp(-sharp * (np.sin(2 * np.pi * phase) - rng.uniform(-0.8, 0.8))))).astype(np.float32)


def _ramp(share: NDArray, gap: float, edge: float) -> Field:
    """0 in the first `gap` of a period, 1 in the rest, with soft edges."""
    inside = (np.minimum(share, 1 - share) - gap / 2) / edge + 0.5
    return np.clip(inside, 0, 1).astype(np.float32)


def _clipped(field: NDArray) -> Field:
    """Stretched without its rarest values."""
    deviation = float(field.std()) + 1e-9
    return stretched(np.clip((field - field.mean()) / deviation, -3, 3))


def _level(rng: Rng) -> int:
    return int(rng.integers(256))


def _grey(canvas: Canvas) -> Field:
    return (canvas / 255).astype(np.float32)


def _disc(canvas: Canvas, centre: NDArray, radius: float, level: int) -> None:
    at = (int(16 * centre[0]), int(16 * centre[1]))
    cv2.circle(canvas, at, max(1, int(16 * radius)), level, -1, cv2.LINE_AA, 4)


def _line(canvas: Canvas, points: NDArray, thickness: int, level: int) -> None:
    fixed = np.rint(points * 8).astype(np.int32)[:, None]
    cv2.polylines(canvas, [fixed], isClosed=False, color=level, thickness=thickness, lineType=cv2.LINE_AA, shift=3)
