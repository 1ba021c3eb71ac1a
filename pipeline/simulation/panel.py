"""Display panels drawn by calculation: an image set of every panel, seeded, with its ground truth.

A panel is a matrix of sub-pixels in a lower layer under a smooth surface. The camera sees it in eight channels:
four lights by two focus planes. Focus on the pixel layer magnifies a little and shows the matrix sharp; focus
on the surface blurs it. Grey levels below are of an 8-bit frame; 16-bit frames hold 257 times as much.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from engines.errors import UsageError
from pipeline.simulation import defects, watermark
from pipeline.simulation.defects import Defect, Floats, Shape

Frames = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Light:
    """How a good panel looks under one light."""

    level: float  # mean grey level
    matrix: float  # contrast of the sub-pixels, relative
    tilt: float  # brighter to the left (-) or right (+), relative, edge to edge
    fall: float  # darker towards the corners, relative


LIGHTS = {
    "bright": Light(150, 0.34, 0.02, 0.10),
    "dark_left": Light(44, -0.20, -0.35, 0.05),
    "dark_right": Light(44, -0.20, 0.35, 0.05),
    "coaxial": Light(172, 0.18, -0.01, 0.06),
}
FOCI = ("surface", "pixel")
CHANNELS = tuple(f"{light}_{focus}" for light in LIGHTS for focus in FOCI)
BEZEL_LEVEL, EMPTY_LEVEL = 0.30, 10.0  # relative to the light; grey level of the field without a panel
READ_NOISE, SHOT_NOISE = 0.8, 0.008  # sigma^2 = read^2 + shot * level, grey levels
GHOST, GHOST_BLUR_PX = 0.25, 4.0  # what is left of a defect in the other focus plane
_TABLE = 512


class Look(BaseModel):
    """How panels are pictured: frame, optics, handling and noise."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    height: Annotated[int, Field(ge=64, le=8192)] = 224
    width: Annotated[int, Field(ge=64, le=8192)] = 224
    dtype: Literal["uint8", "uint16"] = "uint8"
    pitch_px: Annotated[float, Field(ge=4)] = 8.0  # of the pixel matrix
    bezel_px: Annotated[int, Field(ge=0)] = 6
    shift_px: Annotated[float, Field(ge=0)] = 2.0  # handling, largest
    rotation_deg: Annotated[float, Field(ge=0, le=2)] = 0.2  # handling, largest
    magnification: Annotated[float, Field(gt=0.9, lt=1.1)] = 1.004  # pixel focus to surface focus
    noise: Annotated[float, Field(ge=0, le=3)] = 1.0  # 1: sigma 1.0 to 1.5 grey levels


@dataclass(frozen=True)
class Panel:
    """An image set. The mask is that of the surface focus; `size_px` is its largest extent, 0 on a good panel."""

    frames: Frames  # [C, H, W]
    mask: NDArray[np.bool_]  # [H, W]
    kind: str | None
    size_px: float


@dataclass(frozen=True)
class _Pose:
    """Where the panel lies: panel coordinate = (turn(pixel - centre) - shift) / magnification."""

    shift: tuple[float, float]
    angle: float
    place: tuple[float, float]  # of the defect, panel coordinates


def render(
    seed: int, look: Look, channels: tuple[str, ...] = CHANNELS, defect: Defect | None = None, noisy: bool = True
) -> Panel:
    """The panel number `seed` as it appears in `channels`, in that order, with at most one defect.

    A defect larger than 0.6 of the frame is drawn at that size. Without noise the same seed still gives
    the same panel, so that noise can be added per frame.

    Raises:
        UsageError: a channel is not `<light>_<focus>` of this module.
    """
    views = [split_channel(name) for name in channels]
    rng = np.random.default_rng((seed, 0x9A7E1))
    if defect is not None:
        limit_px = 0.6 * min(look.height, look.width)
        defect = Defect(defect.kind, min(defect.size_px, limit_px), defect.contrast, defect.seed)
    pose = _pose(rng, look, defect)
    scenes = {focus: _scene(look, pose, focus) for focus in FOCI if any(f == focus for _, f in views)}
    frames = np.empty((len(views), look.height, look.width), look.dtype)
    for index, (light, focus) in enumerate(views):
        grey = _good(look, light, scenes[focus], _fingerprint(seed, light))
        if defect is not None:
            _add_defect(grey, look, pose, defect, light, focus)
        if noisy:
            _add_noise(grey, look, np.random.default_rng((seed, 0x401, CHANNELS.index(channels[index]))))
        frames[index] = _digitise(grey, look.dtype)
    mask = _mask(look, pose, defect)
    return Panel(frames, mask, defect.kind if defect else None, extent_px(mask))


def split_channel(channel: str) -> tuple[str, str]:
    """Light and focus of a channel.

    Raises:
        UsageError: it is not one of `CHANNELS`.
    """
    if channel not in CHANNELS:
        raise UsageError(f"no simulated channel {channel!r}; there is {', '.join(CHANNELS)}")
    light, _, focus = channel.rpartition("_")
    return light, focus


def empty(look: Look) -> Frames:
    """The field of view without a panel, noiseless [H, W]: nothing sends light back."""
    return _digitise(np.full((look.height, look.width), EMPTY_LEVEL, np.float32), look.dtype)


def noise_sigma(level: float) -> float:
    """Standard deviation of a frame's noise at a grey level: read noise and shot noise, grey levels."""
    return float(np.sqrt(READ_NOISE**2 + SHOT_NOISE * max(level, 0.0)))


def extent_px(mask: NDArray[np.bool_]) -> float:
    """The largest distance between two pixels of the mask, edge to edge; 0 for an empty mask."""
    points = cv2.findNonZero(mask.astype(np.uint8))
    if points is None:
        return 0.0
    hull = cv2.convexHull(points)[:, 0].astype(np.float64)
    return float(np.hypot(*(hull[:, None] - hull[None]).transpose(2, 0, 1)).max()) + 1.0


def _pose(rng: np.random.Generator, look: Look, defect: Defect | None) -> _Pose:
    shift = tuple(rng.uniform(-look.shift_px, look.shift_px, 2))
    angle = np.deg2rad(rng.uniform(-look.rotation_deg, look.rotation_deg))
    return _Pose(shift, angle, _place(rng, look, defect.size_px if defect else 0.0))


def _place(rng: np.random.Generator, look: Look, size_px: float) -> tuple[float, float]:
    """A centre such that the defect lies inside the panel and not under the mark."""
    edge = size_px * 0.55 + look.bezel_px + look.shift_px + 3
    reach_x, reach_y = max(look.width / 2 - edge, 0), max(look.height / 2 - edge, 0)
    for _ in range(64):
        x, y = rng.uniform(-reach_x, reach_x), rng.uniform(-reach_y, reach_y)
        left, top = x + look.width / 2 - edge, y + look.height / 2 - edge
        if left > watermark.WIDTH_PX or top > watermark.HEIGHT_PX:
            return x, y
    return reach_x, reach_y


def _scale(look: Look, focus: str) -> float:
    return look.magnification if focus == "pixel" else 1.0


def _scene(look: Look, pose: _Pose, focus: str) -> tuple[Floats, Floats]:
    """The sub-pixel matrix (mean 0, about -1..1) and how much of each pixel is panel and not bezel, both [H, W]."""
    blur_px = 0.55 if focus == "pixel" else 2.3
    u, v = _panel_coordinates(look, pose, focus)
    matrix = _sample(_columns(look.pitch_px, blur_px), u / look.pitch_px)
    matrix *= _sample(_rows(look.pitch_px, blur_px), v / look.pitch_px)
    matrix -= matrix.mean()
    soft_px = 1.0 + blur_px
    panel = _within(u, look.width / 2 - look.bezel_px, soft_px)
    panel *= _within(v, look.height / 2 - look.bezel_px, soft_px)
    return matrix, panel if look.bezel_px else np.ones_like(panel)


def _panel_coordinates(look: Look, pose: _Pose, focus: str) -> tuple[Floats, Floats]:
    x = np.arange(look.width, dtype=np.float32)[None, :] - look.width / 2 - np.float32(pose.shift[0])
    y = np.arange(look.height, dtype=np.float32)[:, None] - look.height / 2 - np.float32(pose.shift[1])
    cos, sin = np.cos(pose.angle) / _scale(look, focus), np.sin(pose.angle) / _scale(look, focus)
    return np.float32(cos) * x + np.float32(sin) * y, np.float32(cos) * y - np.float32(sin) * x


def _columns(pitch_px: float, blur_px: float) -> Floats:
    """One pitch across: red, green and blue stripes as a grey camera sees them, black matrix between."""
    at = np.arange(_TABLE) / _TABLE * 3
    stripe = np.array([0.75, 1.0, 0.55])[at.astype(int)]
    return _blurred(np.where(np.abs(at % 1 - 0.5) < 0.38, stripe, 0.0), pitch_px, blur_px)


def _rows(pitch_px: float, blur_px: float) -> Floats:
    at = np.arange(_TABLE) / _TABLE
    return _blurred(np.where(np.abs(at - 0.5) < 0.41, 1.9, 0.3), pitch_px, blur_px)


def _blurred(period: NDArray[np.float64], pitch_px: float, blur_px: float) -> Floats:
    """A Gaussian blur of one period of a periodic profile, exact: each harmonic is damped by itself."""
    cycles_per_px = np.arange(_TABLE // 2 + 1) / pitch_px
    damped = np.fft.rfft(period) * np.exp(-2 * (np.pi * blur_px * cycles_per_px) ** 2)
    return np.fft.irfft(damped, _TABLE).astype(np.float32)


def _sample(table: Floats, periods: Floats) -> Floats:
    return table[(periods * _TABLE).astype(np.int32) & (_TABLE - 1)]


def _within(at: Floats, half: float, soft_px: float) -> Floats:
    return np.clip((np.float32(half) - np.abs(at)) / np.float32(soft_px) + np.float32(0.5), 0, 1)


def _fingerprint(seed: int, light: str) -> np.random.Generator:
    return np.random.default_rng((seed, 0xF1, list(LIGHTS).index(light)))


def _good(look: Look, light: str, scene: tuple[Floats, Floats], rng: np.random.Generator) -> Floats:
    """A good panel under a light, in grey levels [H, W]: level x shading x matrix, inside the bezel."""
    matrix, panel = scene
    facts = LIGHTS[light]
    grey = matrix * np.float32(facts.matrix) + np.float32(1)
    grey *= np.float32(1 - BEZEL_LEVEL)
    grey *= panel
    grey += np.float32(BEZEL_LEVEL)
    grey *= np.float32(facts.level) * _shading(look, facts, rng)
    return grey


def _shading(look: Look, facts: Light, rng: np.random.Generator) -> Floats:
    """Slow brightness about 1 [H, W]: the light's own, and a panel's 0.4 % of waviness and 1 % of gain."""
    y, x = np.mgrid[-1:1:33j, -1:1:33j].astype(np.float32)
    field = 1 + facts.tilt / 2 * x - facts.fall * ((x**2 + y**2) / 2 - 1 / 3)
    wavy = cv2.resize(rng.normal(0, 0.004, (4, 4)).astype(np.float32), (33, 33), interpolation=cv2.INTER_CUBIC)
    field = (field + wavy) * rng.uniform(0.99, 1.01)
    return cv2.resize(field.astype(np.float32), (look.width, look.height), interpolation=cv2.INTER_LINEAR)


def _add_defect(grey: Floats, look: Look, pose: _Pose, defect: Defect, light: str, focus: str) -> None:
    patch, seen = _seen(look, pose, defect, focus)
    added = defects.grey_levels(defect, seen, light)
    if focus not in defects.KINDS[defect.kind].layers:
        added = cv2.GaussianBlur(added, (0, 0), GHOST_BLUR_PX) * np.float32(GHOST)
    grey[patch] += added


def _mask(look: Look, pose: _Pose, defect: Defect | None) -> NDArray[np.bool_]:
    mask = np.zeros((look.height, look.width), np.bool_)
    if defect is not None:
        patch, seen = _seen(look, pose, defect, "surface")
        mask[patch] = seen.mask
    return mask


def _seen(look: Look, pose: _Pose, defect: Defect, focus: str) -> tuple[tuple[slice, slice], Shape]:
    """The defect's part of the frame, and the defect on it."""
    cos, sin, scale = np.cos(pose.angle), np.sin(pose.angle), _scale(look, focus)
    x = scale * (cos * pose.place[0] - sin * pose.place[1]) + pose.shift[0] + look.width / 2
    y = scale * (sin * pose.place[0] + cos * pose.place[1]) + pose.shift[1] + look.height / 2
    reach = defect.size_px * 0.9 + 3 * GHOST_BLUR_PX
    columns, rows = _span(x, reach, look.width), _span(y, reach, look.height)
    at_x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] - np.float32(x)
    at_y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(y)
    at_x, at_y = np.broadcast_arrays(at_x, at_y)
    return (rows, columns), defects.shape(defect, at_x, at_y)


def _span(centre: float, reach: float, length: int) -> slice:
    return slice(max(int(centre - reach), 0), min(int(centre + reach) + 1, length))


def _add_noise(grey: Floats, look: Look, rng: np.random.Generator) -> None:
    sigma = np.sqrt(np.float32(READ_NOISE**2) + np.float32(SHOT_NOISE) * grey) * np.float32(look.noise)
    grey += rng.standard_normal(grey.shape, np.float32) * sigma


def _digitise(grey: Floats, dtype: str) -> Frames:
    if dtype == "uint16":
        return np.clip(grey * 257 + 0.5, 0, 65535).astype(np.uint16)
    return np.clip(grey + 0.5, 0, 255).astype(np.uint8)
