"""Cameras: one file a kind. A file holds `Settings`, a pydantic model, and `open_camera(settings, channels)`.

It may name in `CHANNELS` those that it can deliver; a new line file then starts with them.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from engines import plugins
from engines.settings import checked


@dataclass(frozen=True)
class Exposure:
    """What the camera says of one frame."""

    counter: int  # frames since arm(), counted by the camera, from 0
    exposed_ns: int  # start of the exposure, this host's monotonic clock
    shape: tuple[int, int]  # height, width
    dtype: str  # "uint8" or "uint16"


class Camera(Protocol):
    """A triggered camera with its lights: every trigger edge exposes one frame per channel, in order.

    Used by one thread. Entering the context opens the device; leaving it closes it.
    """

    def arm(self) -> None:
        """Throw away what was exposed so far and count frames from 0 again."""
        ...

    def grab(self, into: memoryview, timeout_ms: int) -> Exposure | None:
        """Put the next frame's pixels, rows without gaps, at the start of `into`; None when none came in time.

        A frame is never kept back for a later call than the one that could have had it. A frame larger than
        `into` is described but not written.

        Raises:
            CameraError: this frame is lost; the camera has counted it.
        """
        ...

    def exhausted(self) -> bool:
        """True when no frame can ever come again (a replay at its end)."""
        ...


def settings_of(kind: str, raw: Mapping[str, Any], under: Callable[[Path], Path], wire: Path | None) -> BaseModel:
    """The checked settings of a `kind` of camera: paths taken from the line file's folder, `wire` where it takes one.

    Raises:
        UsageError: there is no such kind, or a setting is unknown or wrong.
    """
    model = plugins.load("pipeline.cameras", kind).Settings
    wired = {"wire": wire} if wire is not None and "wire" in model.model_fields else {}
    settings = checked(model, {**wired, **raw}, f"camera {kind}")
    return settings.model_copy(update={name: _placed(value, under) for name, value in settings})


def _placed(value: Any, under: Callable[[Path], Path]) -> Any:
    if isinstance(value, Path):
        return under(value)
    return tuple(_placed(part, under) for part in value) if isinstance(value, tuple) else value


def open_camera(kind: str, settings: BaseModel, channels: tuple[str, ...]) -> AbstractContextManager[Camera]:
    """The camera `kind`."""
    return plugins.load("pipeline.cameras", kind).open_camera(settings, channels)


def gap_ms(kind: str, settings: BaseModel) -> float | None:
    """From the begin of one exposure of a set to that of the next, which is also when it ends; None: not known.

    A kind of camera that knows it has a function `gap_ms(settings)`.
    """
    module = plugins.load("pipeline.cameras", kind)
    return module.gap_ms(settings) if hasattr(module, "gap_ms") else None


def replayed(kind: str, settings: BaseModel) -> list[str] | None:
    """Names of the panels, `<defect>/<panel>`, that a camera replays; None for one that looks at the world."""
    module = plugins.load("pipeline.cameras", kind)
    return module.panels_of(settings) if hasattr(module, "panels_of") else None
