"""The defects of a simulated panel: what each kind looks like, how large it is, and in which channels it shows.

Grey levels are of an 8-bit frame. A defect lies in one layer of the panel: with the camera focused on the other
layer only a blurred ghost of it is left. Nothing shows in every channel, which is why a line takes several.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.errors import UsageError

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Kind:
    """One kind of defect: its ranges and what it does to each light, in grey levels at contrast 1.

    `tone` follows the defect's body, `slope` its tilt from left to right, which side light sees.
    """

    sizes_px: tuple[float, float]  # largest extent
    contrasts: tuple[float, float]
    layers: tuple[str, ...]  # the focus planes in which it is sharp
    tone: dict[str, float]
    slope: dict[str, float]
    either_sign: bool = False


KINDS = {
    "scratch": Kind(
        (16, 64), (0.7, 1.2), ("surface",), {"dark_left": 38, "dark_right": 38, "coaxial": -26, "bright": -3}, {}
    ),
    "dust": Kind(
        (5, 18), (0.7, 1.2), ("surface",), {"bright": -34, "coaxial": -30, "dark_left": 30, "dark_right": 30}, {}
    ),
    "dent": Kind(
        (14, 40),
        (0.8, 1.3),
        ("surface", "pixel"),
        {"coaxial": -7, "bright": -2},
        {"dark_left": 18, "dark_right": -18},
    ),
    "bubble": Kind(
        (12, 36),
        (0.7, 1.2),
        ("pixel",),
        {"bright": -26, "coaxial": -30, "dark_left": 9, "dark_right": 9},
        {"dark_left": 6, "dark_right": -6},
    ),
    "stain": Kind((20, 56), (0.7, 1.2), ("surface", "pixel"), {"bright": -14, "coaxial": -20}, {}),
    # 3 % of the light's level at contrast 1, so 2.1 to 4.8 % of the luminance
    "mura": Kind((50, 110), (0.7, 1.6), ("surface", "pixel"), {"bright": 4.5, "coaxial": 5.2}, {}, either_sign=True),
}


@dataclass(frozen=True)
class Defect:
    """One defect, without a place. `size_px` is the largest extent aimed at; the mask's is within 10 % and 2 px."""

    kind: str
    size_px: float
    contrast: float
    seed: int


@dataclass(frozen=True)
class Shape:
    """A defect on a patch of pixels [h, w]: where it is, its body 0..1 (or signed), its tilt -1..1."""

    mask: NDArray[np.bool_]
    tone: Floats
    slope: Floats


def draw(kind: str, seed: int, scale: float = 1.0) -> Defect:
    """A defect of `kind` with size and contrast drawn evenly from its ranges; `scale` multiplies the size.

    Raises:
        UsageError: there is no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f"no defect kind {kind!r}; there is {', '.join(KINDS)}")
    rng = np.random.default_rng((seed, 0xDEF))
    facts = KINDS[kind]
    sign = rng.choice((-1.0, 1.0)) if facts.either_sign else 1.0
    size_px, contrast = scale * rng.uniform(*facts.sizes_px), sign * rng.uniform(*facts.contrasts)
    return Defect(kind, float(size_px), float(contrast), seed)


def shape(defect: Defect, x: Floats, y: Floats) -> Shape:
    """The defect seen at pixel offsets x, y [h, w] from its centre."""
    rng = np.random.default_rng((defect.seed, 0x5A9))
    return _SHAPES[defect.kind](rng, defect.size_px, x, y)


def grey_levels(defect: Defect, seen: Shape, light: str) -> Floats:
    """What the defect adds to a frame under `light`, in 8-bit grey levels [h, w]."""
    facts = KINDS[defect.kind]
    tone, slope = facts.tone.get(light, 0.0), facts.slope.get(light, 0.0)
    return np.float32(defect.contrast) * (np.float32(tone) * seen.tone + np.float32(slope) * seen.slope)


def _scratch(rng: np.random.Generator, size_px: float, x: Floats, y: Floats) -> Shape:
    angle, bend, width = rng.uniform(0, np.pi), rng.uniform(-0.12, 0.12), rng.uniform(0.9, 1.5)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = np.cos(angle) * y - np.sin(angle) * x
    across = across - bend * size_px * ((2 * along / size_px) ** 2 - 0.5)
    ends = np.clip((size_px / 2 - np.abs(along)) / 2 + 0.5, 0, 1)
    flicker = 0.8 + 0.2 * np.sin(along * rng.uniform(0.15, 0.5) + rng.uniform(0, 6))
    body = np.exp(-((across / width) ** 2)) * ends
    return _shape(body > 0.3, body * flicker)


def _dust(rng: np.random.Generator, size_px: float, x: Floats, y: Floats) -> Shape:
    inside = _blob(rng, size_px, x, y, roughness=0.22)
    return _shape(inside > 0, np.clip(inside * size_px / 2 + 0.5, 0, 1))


def _dent(rng: np.random.Generator, size_px: float, x: Floats, y: Floats) -> Shape:
    lean, squeeze = rng.uniform(0, np.pi), rng.uniform(0.8, 1.0)
    radius = _ellipse(lean, squeeze, x, y) / (size_px / 2)
    depth = np.exp(-2.5 * radius**2)
    tilt = -x / (size_px / 2) * depth * np.sqrt(5 * np.e)  # the steepest place of the dent is 1
    return _shape(radius < 1, depth, tilt)


def _bubble(rng: np.random.Generator, size_px: float, x: Floats, y: Floats) -> Shape:
    lean, squeeze = rng.uniform(0, np.pi), rng.uniform(0.85, 1.0)
    radius = _ellipse(lean, squeeze, x, y) / (size_px / 2)
    rim = np.exp(-(((radius - 0.84) / 0.13) ** 2))
    lens = np.clip(1 - (radius / 0.8) ** 2, 0, 1)
    glint = np.exp(-(((x / size_px + 0.18) ** 2 + (y / size_px + 0.18) ** 2) / 0.008))
    return _shape(radius < 1, rim - 0.4 * lens - 0.5 * glint, x / (size_px / 2) * rim)


def _stain(rng: np.random.Generator, size_px: float, x: Floats, y: Floats) -> Shape:
    inside = _blob(rng, size_px, x, y, roughness=0.16)
    body = np.clip(inside * 5, 0, 1)
    dried_rim = np.exp(-(((inside - 0.12) / 0.08) ** 2))
    wave = np.sin(x * rng.uniform(0.1, 0.3) + rng.uniform(0, 6)) * np.sin(y * rng.uniform(0.1, 0.3))
    return _shape(inside > 0, body * (0.65 + 0.1 * wave) + 0.35 * dried_rim * (inside > 0))


def _mura(rng: np.random.Generator, size_px: float, x: Floats, y: Floats) -> Shape:
    radius = _ellipse(rng.uniform(0, np.pi), rng.uniform(0.6, 1.0), x, y) / (size_px / 2)
    return _shape(radius < 1, np.exp(-1.4 * radius**2))


_SHAPES: dict[str, Callable[[np.random.Generator, float, Floats, Floats], Shape]] = {
    "scratch": _scratch,
    "dust": _dust,
    "dent": _dent,
    "bubble": _bubble,
    "stain": _stain,
    "mura": _mura,
}


def _shape(mask: NDArray[np.bool_], tone: Floats, slope: Floats | None = None) -> Shape:
    flat = np.zeros_like(tone, np.float32) if slope is None else slope.astype(np.float32)
    return Shape(mask, tone.astype(np.float32), flat)


def _ellipse(lean: float, squeeze: float, x: Floats, y: Floats) -> Floats:
    along, across = np.cos(lean) * x + np.sin(lean) * y, np.cos(lean) * y - np.sin(lean) * x
    return np.hypot(along, across / np.float32(squeeze))


def _blob(rng: np.random.Generator, size_px: float, x: Floats, y: Floats, roughness: float) -> Floats:
    """1 at the centre, 0 on a wavy outline whose largest extent is `size_px`, negative outside."""
    strength = roughness * rng.uniform(0.3, 1, 4) / np.arange(1, 5)
    phase = rng.uniform(0, 2 * np.pi, 4)

    def outline(angle: Floats) -> Floats:
        waves = [s * np.cos((k + 2) * angle + p) for k, (s, p) in enumerate(zip(strength, phase, strict=True))]
        return 1 + np.sum(waves, axis=0)

    around = np.linspace(0, 2 * np.pi, 128, endpoint=False, dtype=np.float32)
    edge = outline(around)[:, None] * np.stack([np.cos(around), np.sin(around)], axis=1)
    extent = np.hypot(*(edge[:, None] - edge[None]).transpose(2, 0, 1)).max()
    return 1 - np.hypot(x, y) * extent / size_px / outline(np.arctan2(y, x))
