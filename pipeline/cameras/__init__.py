"""Cameras: one file a kind. A file holds `Settings`, a pydantic model, and `open_camera(settings, channels)`."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from engines import plugins


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


def open_camera(kind: str, settings: dict, channels: tuple[str, ...]) -> AbstractContextManager[Camera]:
    """The camera `kind` with its own settings, which are checked here."""
    module = plugins.load("pipeline.cameras", kind)
    return module.open_camera(module.Settings.model_validate(settings), channels)


def takes_wire(kind: str) -> bool:
    """True for cameras that a simulated trigger wire can fire."""
    return "wire" in plugins.load("pipeline.cameras", kind).Settings.model_fields
