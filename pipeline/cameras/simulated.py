"""A camera that sees the simulated panels of a plan; the trigger wire says which one lies below it.

Panels are drawn once, at opening (about 30 ms a panel of 8 x 224 x 224); a grab adds noise and stamps the mark, so
that it costs what a copy costs. Equal settings give equal pixels: every frame follows from panel and channel.
"""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, Strict

from pipeline.cameras import Exposure
from pipeline.errors import CameraError
from pipeline.simulation import panel, watermark
from pipeline.simulation.panel import CHANNELS, LIGHTS, Frames, Look, noise_sigma
from pipeline.simulation.plan import Entry, Plan, derived_seed
from pipeline.simulation.shutter import EMPTY_FIELD, Faults, Shutter
from pipeline.simulation.wire import Listener

__all__ = ["CHANNELS", "Settings", "SimulatedCamera", "open_camera"]

_SLACK_PX = 256  # the noise field is larger than a frame by this: two frames with one and the same noise are rare


class Settings(BaseModel):
    """What passes below the camera (`plan`), how it looks (`look`), and what goes wrong (`faults`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    wire: Annotated[Path, Strict(False)]
    plan: Plan = Plan()
    look: Look = Look()
    exposure_ms: Annotated[float, Field(gt=0)] = 2.0  # of each channel, one after the other
    faults: Faults = Faults()


class SimulatedCamera:
    """Fulfils `Camera`; see `open_camera`."""

    def __init__(self, settings: Settings, channels: tuple[str, ...], listener: Listener) -> None:
        self._look, self._plan, self._channels = settings.look, settings.plan, channels
        self._shutter = Shutter(listener, len(channels), settings.exposure_ms, settings.faults)
        self._empty_at = frozenset(settings.faults.empty_fields)
        self._repeat_at = frozenset(settings.faults.repeat_frames)
        self._last: dict[int, int] = {}  # channel -> what was shown last
        self._lights = [panel.split_channel(name)[0] for name in channels]
        self._noise = {light: _noise(settings.look, light) for light in dict.fromkeys(self._lights)}
        self._pool = {entry: self._drawn(entry) for entry in settings.plan.entries()}
        self._empty = _without_offset(panel.empty(settings.look), settings.look)
        self._shape = (settings.look.height, settings.look.width)
        self._bytes = int(np.prod(self._shape)) * np.dtype(settings.look.dtype).itemsize

    def arm(self) -> None:
        self._shutter.arm()

    def grab(self, into: memoryview, timeout_ms: int) -> Exposure | None:
        shot = self._shutter.next(timeout_ms)
        if shot is None:
            return None
        if shot.fails:
            raise CameraError(f"camera lost {self._channels[shot.channel]} of panel {shot.panel}; check its cable")
        if into.nbytes >= self._bytes:
            pixels = np.frombuffer(into, self._look.dtype, math.prod(self._shape)).reshape(self._shape)
            self.picture(self._shown(shot.panel, shot.channel), shot.channel, pixels)
        return Exposure(shot.counter, shot.exposed_ns, self._shape, self._look.dtype)

    def exhausted(self) -> bool:
        return False

    def picture(self, index: int, channel: int, out: Frames) -> None:
        """Write what the camera sees of a panel in one channel to `out` [H, W]; index -1 is the empty field."""
        noise = self._noise[self._lights[channel]]
        row, column = divmod(derived_seed("noise", index, channel) % _SLACK_PX**2, _SLACK_PX)
        crop = noise[row : row + self._shape[0], column : column + self._shape[1]]
        cv2.add(self._scene(index, channel), crop, dst=out)
        watermark.stamp(out, watermark.EMPTY if index == EMPTY_FIELD else index, channel)

    def _shown(self, index: int, channel: int) -> int:
        before = self._last.get(channel, index)
        if (index, channel) in self._empty_at:
            shown = EMPTY_FIELD
        else:
            shown = before if (index, channel) in self._repeat_at else index
        self._last[channel] = shown
        return shown

    def _scene(self, index: int, channel: int) -> Frames:
        if index == EMPTY_FIELD:
            return self._empty
        return self._pool[self._plan.panel(index).entry][channel]

    def _drawn(self, entry: Entry) -> Frames:
        seed, defect = self._plan.drawing_seed(entry), self._plan.defect(entry)
        frames = panel.render(seed, self._look, self._channels, defect, noisy=False).frames
        return _without_offset(frames, self._look)


def gap_ms(settings: Settings) -> float:
    """From one exposure of a set to the next."""
    return settings.exposure_ms


@contextmanager
def open_camera(settings: Settings, channels: tuple[str, ...]) -> Iterator[SimulatedCamera]:
    """A camera at the end of `settings.wire`.

    Raises:
        UsageError: a channel is not one of `panel.CHANNELS`.
        CameraError: the wire cannot be connected.
    """
    try:
        wire = Listener(settings.wire)
    except OSError as error:
        raise CameraError(f"trigger wire {settings.wire} cannot be connected: {error}") from None
    with closing(wire):
        yield SimulatedCamera(settings, channels, wire)


def _offset(look: Look) -> int:
    """The noise's mean in counts: unsigned pixels hold no negative noise, so it is added to a darker scene."""
    brightest = max(light.level for light in LIGHTS.values())
    return math.ceil(4.5 * noise_sigma(brightest) * look.noise * _counts(look))


def _counts(look: Look) -> int:
    return 257 if look.dtype == "uint16" else 1


def _without_offset(frames: Frames, look: Look) -> Frames:
    return np.maximum(frames, _offset(look)) - frames.dtype.type(_offset(look))


def _noise(look: Look, light: str) -> Frames:
    rng = np.random.default_rng(derived_seed("noise field", light))
    size = (look.height + _SLACK_PX, look.width + _SLACK_PX)
    sigma = noise_sigma(LIGHTS[light].level) * look.noise * _counts(look)
    field = rng.standard_normal(size, np.float32) * np.float32(sigma) + np.float32(_offset(look) + 0.5)
    return np.clip(field, 0, 2 * _offset(look) + 1).astype(look.dtype)
