"""How each kind of defect shows in a set's channels: contrasts and what each light does with it, in one table.

Contrast is the change at the defect's full depth in the channel that shows it most, as a share of what the pixel
reflects; for light that a dark field scatters, of the window's mean level or a tenth of full scale, whichever is more.
It is drawn evenly over orders of magnitude. A gain is a channel's share of it, drawn once a light and panel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.anomalies.lights import Aspect, View
from calibration.anomalies.shapes import Field, Rng, Shape

Range = tuple[float, float]
LIKE_LIGHT = 0.2  # gains of one light's channels differ by up to this share
BLUR_PX = (1.5, 5.0)  # sigma, for each plane out of focus
MOST_BLUR_PX = 8.0
SCATTER_LEVEL = 0.1  # of full scale


@dataclass(frozen=True)
class Kind:
    """Contrast range, ranges of the gain a light, and whether light from one side shades it (`relief`).

    `scatters`: what it adds in dark field does not depend on how dark the panel is there. `either_sign`: as often
    the other way round. `wide`: too wide for the focus to matter.
    """

    contrasts: Range
    bright: Range = (-1.0, -1.0)
    coaxial: Range = (-1.0, -1.0)
    dark: Range = (-1.0, -1.0)
    relief: bool = False
    scatters: bool = False
    either_sign: bool = False
    wide: bool = False


KINDS: dict[str, Kind] = {
    # lights up where light comes from across it, dark in bright field, faint or not at all in diffuse light
    "scratch": Kind((0.06, 0.8), bright=(-0.4, 0.1), coaxial=(-1.0, -0.2), dark=(0.2, 1.0), scatters=True),
    # covers what lies below, scatters in dark field; bright where it glints
    "dust": Kind((0.06, 0.8), bright=(-1, -0.4), coaxial=(-1, -0.2), dark=(0.2, 1), scatters=True, either_sign=True),
    # bright towards a side light and dark away from it; light from above is lost on its slopes
    "dent": Kind((0.04, 0.5), bright=(-0.2, 0.2), coaxial=(-0.9, -0.1), dark=(-0.1, 0.1), relief=True),
    # swallows light
    "pore": Kind((0.08, 0.9), bright=(-1.0, -0.5), coaxial=(-1.0, -0.5), dark=(-1.0, 0.2)),
    "crack": Kind((0.08, 0.9), bright=(-1.0, -0.3), coaxial=(-1.0, -0.5), dark=(-0.5, 0.5)),
    # pigment: alike in lights that see colour, little in dark field
    "stain": Kind((0.03, 0.5), bright=(-1.0, -0.6), coaxial=(-1.0, -0.6), dark=(-0.5, 0.0), either_sign=True),
    "chip": Kind((0.08, 0.9), bright=(-1.0, -0.3), coaxial=(-1.0, -0.5), dark=(-1.0, 1.0), scatters=True),
    # 1 to 5 % of the luminance
    "mura": Kind((0.01, 0.05), bright=(-1.0, -0.7), coaxial=(-1.0, -0.7), dark=(-0.3, 0), either_sign=True, wide=True),
    # foreign matter, of any look in any light
    "texture": Kind((0.06, 0.7), bright=(-1.0, 1.0), coaxial=(-1.0, 1.0), dark=(-1.0, 1.0)),
}
OPACITIES: dict[str, Range] = {"patch": (0.2, 1.0), "moved": (0.3, 1.0)}  # pieces of the panel: the share blended in


def contrast(kind: str, rng: Rng) -> float:
    """A contrast, or an opacity, of the kind's range."""
    low, high = KINDS[kind].contrasts if kind in KINDS else OPACITIES[kind]
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def blurs(views: Sequence[View], rng: Rng) -> list[float]:
    """Sigma [C] in pixels of a defect that lies in the focus plane of one of the channels: 0 where it is sharp."""
    plane, step = views[int(rng.integers(len(views)))].plane, rng.uniform(*BLUR_PX)
    return [min(MOST_BLUR_PX, step * abs(view.plane - plane)) for view in views]


def patterns(kind: Kind, shape: Shape, views: Sequence[View], sigmas: Sequence[float], rng: Rng) -> NDArray[np.float32]:
    """The share of the contrast that each channel shows, [C, h, w]: at most 1 in size, and 1 where it shows most.

    One shape in all channels, blurred where it is out of focus.
    """
    tones = _tones(kind, shape, views, rng)
    layers = {sigma: _blurred(shape, sigma) for sigma in set(sigmas)}
    shown = np.stack([_seen(layers[s], tone, view) for s, tone, view in zip(sigmas, tones, views, strict=True)])
    sharp = [channel for channel, sigma in enumerate(sigmas) if sigma == 0]
    most = max(float(np.abs(shown[channel]).max()) for channel in sharp)
    shown /= np.float32(max(most, 1e-6))
    return np.clip(shown, -1, 1, out=shown)


def levels(kind: Kind, before: NDArray[np.float32], shown: NDArray, views: Sequence[View], top: int) -> NDArray:
    """What the contrast is a share of, [C, h, w]: the pixel's own value, or scattered light."""
    if not kind.scatters or all(view.aspect is not Aspect.DARK for view in views):
        return before
    result = before.copy()
    for channel, view in enumerate(views):
        if view.aspect is Aspect.DARK:
            scattered = max(float(before[channel].mean()), SCATTER_LEVEL * top)
            result[channel][shown[channel] > 0] = scattered
    return result


def _tones(kind: Kind, shape: Shape, views: Sequence[View], rng: Rng) -> list[float]:
    """Gains [C] of the defect's body, one a light, a little different in each of its channels."""
    sign = rng.choice((-1.0, 1.0)) if kind.either_sign else 1.0
    each = {view.light: sign * _tone(kind, shape, view, rng) for view in views}
    return [each[view.light] * rng.uniform(1 - LIKE_LIGHT, 1) for view in views]


def _tone(kind: Kind, shape: Shape, view: View, rng: Rng) -> float:
    assert view.aspect is not None
    gain = rng.uniform(*getattr(kind, view.aspect.value))
    if shape.normal is None or view.azimuth is None:
        return gain
    return gain * math.cos(view.azimuth - shape.normal) ** 2


def _blurred(shape: Shape, sigma: float) -> tuple[Field, NDArray | None]:
    if sigma == 0:
        return shape.body, shape.tilt
    tilt = None if shape.tilt is None else np.stack([_soft(each, sigma) for each in shape.tilt])
    return _soft(shape.body, sigma), tilt


def _soft(field: Field, sigma: float) -> Field:
    return cv2.GaussianBlur(field.astype(np.float32), (0, 0), sigma)


def _seen(layer: tuple[Field, NDArray | None], tone: float, view: View) -> NDArray[np.float32]:
    body, tilt = layer
    if tilt is None or view.azimuth is None:
        return np.float32(tone) * body.astype(np.float32)
    shaded = math.cos(view.azimuth) * tilt[0] + math.sin(view.azimuth) * tilt[1]
    return (tone * body + shaded).astype(np.float32)
