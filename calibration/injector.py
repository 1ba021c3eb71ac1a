"""The labelled injector: what goes wrong with an image set, done to a good one, cause by cause and at stated strength.

Light and blur are changed as before the sensor: the noise that a digital change takes away is put back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.integrity import Cause

DARK = 0.004  # of full scale: a frame without light
EMPTY = 0.04  # of full scale: a field of view without a panel
TEAR = (0.1, 0.9)  # of the height: where a torn frame changes

Frames = NDArray
Rng = np.random.Generator


@dataclass(frozen=True)
class Material:
    """A good set to damage [C, H, W], the sets of the panel before and of that after it, and each channel's light."""

    frames: Frames
    before: Frames
    after: Frames
    lights: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """One cause at one strength. `fewest`: channels that it needs."""

    cause: Cause
    strength: str
    damage: Callable[[Material, Rng], Frames]
    fewest: int = 1


def inject(case: Case, material: Material, rng: Rng) -> Frames:
    """A damaged copy of `material.frames`; for a repeat, the earlier panel's."""
    return np.ascontiguousarray(case.damage(material, rng))


def case(cause: Cause, strength: str) -> Case:
    """The case of that cause and strength.

    Raises:
        KeyError: there is none.
    """
    for one in CASES:
        if (one.cause, one.strength) == (cause, strength):
            return one
    raise KeyError(f"{cause} {strength}")


def noise_of(frame: Frames) -> float:
    """Standard deviation of a frame's noise, from its quieter blocks (J. Immerkaer's operator, 1996)."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    left = cv2.filter2D(frame.astype(np.float32), -1, kernel)[1:-1, 1:-1]
    rows, columns = left.shape[0] // 16 * 16, left.shape[1] // 16 * 16
    blocks = left[:rows, :columns].reshape(rows // 16, 16, columns // 16, 16)
    return float(np.quantile(np.sqrt((blocks**2).mean(axis=(1, 3))), 0.25)) / 6


def _digitised(frame: NDArray, like: Frames) -> Frames:
    return np.clip(np.rint(frame), 0, np.iinfo(like.dtype).max).astype(like.dtype)


def _lit(frame: Frames, gain: float, rng: Rng) -> Frames:
    lost = noise_of(frame) * np.sqrt(max(1 - gain**2, 0))
    return _digitised(frame * gain + rng.normal(0, 1, frame.shape) * lost, frame)


def _flat(frame: Frames, level: float, rng: Rng) -> Frames:
    top = np.iinfo(frame.dtype).max
    return _digitised(level * top + rng.normal(0, max(noise_of(frame), top / 255), frame.shape), frame)


def _changed(frames: Frames, channels: Sequence[int], change: Callable[[Frames], Frames]) -> Frames:
    damaged = frames.copy()
    for channel in channels:
        damaged[channel] = change(frames[channel])
    return damaged


def _one(material: Material, rng: Rng) -> list[int]:
    return [int(rng.integers(len(material.frames)))]


def _light(material: Material, rng: Rng) -> list[int]:
    """All channels of one light."""
    chosen = rng.choice(material.lights)
    return [channel for channel, light in enumerate(material.lights) if light == chosen]


def _every(material: Material, rng: Rng) -> list[int]:
    return list(range(len(material.frames)))


Choose = Callable[[Material, Rng], list[int]]


def _swap(material: Material, rng: Rng) -> Frames:
    first, second = rng.choice(len(material.frames), 2, replace=False)
    order = list(range(len(material.frames)))
    order[first], order[second] = order[second], order[first]
    return material.frames[order]


def _swap_neighbours(material: Material, rng: Rng) -> Frames:
    first = int(rng.integers(len(material.frames) - 1))
    order = list(range(len(material.frames)))
    order[first : first + 2] = first + 1, first
    return material.frames[order]


def _dimmed(choose: Choose, gain: float) -> Callable[[Material, Rng], Frames]:
    return lambda m, rng: _changed(m.frames, choose(m, rng), lambda frame: _lit(frame, gain, rng))


def _missing(choose: Choose, level: float) -> Callable[[Material, Rng], Frames]:
    return lambda m, rng: _changed(m.frames, choose(m, rng), lambda frame: _flat(frame, level, rng))


def _tear(frames: Frames, channel: int, below: Frames, rng: Rng) -> None:
    line = int(rng.uniform(*TEAR) * frames.shape[1])
    frames[channel, line:] = below[line:]


def _torn_by_next_exposure(material: Material, rng: Rng) -> Frames:
    damaged, (channel,) = material.frames.copy(), _one(material, rng)
    _tear(damaged, channel, material.frames[(channel + 1) % len(damaged)], rng)
    return damaged


def _torn_by(panel: Callable[[Material], Frames], choose: Choose) -> Callable[[Material, Rng], Frames]:
    def damage(material: Material, rng: Rng) -> Frames:
        damaged = material.frames.copy()
        for channel in choose(material, rng):
            _tear(damaged, channel, panel(material)[channel], rng)
        return damaged

    return damage


def _repeat_one(material: Material, rng: Rng) -> Frames:
    damaged, (channel,) = material.frames.copy(), _one(material, rng)
    damaged[channel] = material.before[channel]
    return damaged


def _repeat_recoded(material: Material, rng: Rng) -> Frames:
    """The earlier set, 1 % brighter and rounded again: no byte needs to be the same, the noise is."""
    return np.stack([_digitised(frame * 1.01, frame) for frame in material.before])


def _blurred(choose: Choose, sigma_px: float) -> Callable[[Material, Rng], Frames]:
    def blur(frame: Frames, rng: Rng) -> Frames:
        soft = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE)
        return _digitised(soft + rng.normal(0, 1, frame.shape) * noise_of(frame), frame)

    return lambda m, rng: _changed(m.frames, choose(m, rng), lambda frame: blur(frame, rng))


def _moved(share: float, turn_deg: float = 0.0, later: bool = False) -> Callable[[Material, Rng], Frames]:
    """Shifted by a share of the width in any direction and turned either way; `later`: from some exposure on."""

    def damage(material: Material, rng: Rng) -> Frames:
        count, height, width = material.frames.shape
        angle, sign = rng.uniform(0, 2 * np.pi), rng.choice((-1, 1))
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), sign * turn_deg, 1.0)
        matrix[:, 2] += np.rint(share * width * np.array([np.cos(angle), np.sin(angle)]))
        how = cv2.INTER_CUBIC if turn_deg else cv2.INTER_NEAREST
        first = int(rng.integers(1, count)) if later else 0
        return _changed(
            material.frames,
            range(first, count),
            lambda frame: cv2.warpAffine(frame, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE),
        )

    return damage


CASES = (
    Case(Cause.CHANNEL_ORDER, "two channels swapped", _swap, 2),
    Case(Cause.CHANNEL_ORDER, "neighbours swapped", _swap_neighbours, 2),
    Case(Cause.CHANNEL_ORDER, "all one late", lambda m, rng: np.roll(m.frames, 1, axis=0), 2),
    Case(Cause.LAMP, "one frame dark", _missing(_one, DARK), 2),
    Case(Cause.LAMP, "one light missing", _missing(_light, DARK), 2),
    Case(Cause.LAMP, "one light at 50 %", _dimmed(_light, 0.5), 2),
    Case(Cause.LAMP, "one light at 70 %", _dimmed(_light, 0.7), 2),
    Case(Cause.LAMP, "one frame at 70 %", _dimmed(_one, 0.7), 2),
    Case(Cause.TORN, "next exposure below", _torn_by_next_exposure, 2),
    Case(Cause.TORN, "panel before below, one frame", _torn_by(lambda m: m.before, _one)),
    Case(Cause.TORN, "next panel below, one frame", _torn_by(lambda m: m.after, _one)),
    Case(Cause.TORN, "next panel below, all frames", _torn_by(lambda m: m.after, _every)),
    Case(Cause.REPEAT, "whole set", lambda m, rng: m.before.copy()),
    Case(Cause.REPEAT, "whole set, recoded 1 % brighter", _repeat_recoded),
    Case(Cause.REPEAT, "one frame", _repeat_one),
    Case(Cause.EXPOSURE, "1.6 times, all", _dimmed(_every, 1.6)),
    Case(Cause.EXPOSURE, "0.5 times, all", _dimmed(_every, 0.5)),
    Case(Cause.EXPOSURE, "1.6 times, one frame", _dimmed(_one, 1.6)),
    Case(Cause.FOCUS, "sigma 1.5 px, all", _blurred(_every, 1.5)),
    Case(Cause.FOCUS, "sigma 2.5 px, all", _blurred(_every, 2.5)),
    Case(Cause.FOCUS, "sigma 2.5 px, one frame", _blurred(_one, 2.5)),
    Case(Cause.CAMERA_MOVED, "3 % and 1 degree", _moved(0.03, 1.0)),
    Case(Cause.CAMERA_MOVED, "3 % and 2 degrees", _moved(0.03, 2.0)),
    Case(Cause.CAMERA_MOVED, "3 % between two exposures", _moved(0.03, 0.0, later=True), 2),
    Case(Cause.NO_PANEL, "empty field", _missing(_every, EMPTY)),
    Case(Cause.DISPLACED, "5 %", _moved(0.05)),
    Case(Cause.DISPLACED, "10 %", _moved(0.10)),
)
