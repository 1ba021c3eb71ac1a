"""A station's settings, rings and sockets for tests that run a stage's loop inside the test, and a camera by script."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.bus import Bus, Port, Received
from pipeline.cameras import Exposure
from pipeline.config import LineConfig
from pipeline.evidence import POOL, pool_shape
from pipeline.frames import create_ring, remove_ring

CHANNELS = ("bright", "dark")
SHAPE = (30, 40)


def pixels(seed: int, shape: tuple[int, ...] = SHAPE, dtype: str = "uint8") -> NDArray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def settings(folder: Path, **camera: Any) -> LineConfig:
    top = {"name": "top", "kind": "simulated", "channels": CHANNELS, "slots": 3, "slot_mb": 0.01} | camera
    return LineConfig.model_validate(
        {
            "format": 1,
            "station": "cell_1",
            "state_dir": str(folder / "state"),
            "recipes": {"1": "recipe"},
            "cameras": [top],
            "archive": {"slots": 2},
        }
    )


@contextmanager
def rings(config: LineConfig) -> Iterator[None]:
    """The memory and the folder of sockets that the supervisor makes."""
    config.run_dir.mkdir(parents=True)
    names = [config.ring(camera.name) for camera in config.cameras]
    for camera, name in zip(config.cameras, names, strict=True):
        create_ring(name, camera.slots, int(camera.slot_mb * 1e6))
    create_ring(config.ring(POOL), *pool_shape(config))
    try:
        yield
    finally:
        for name in [*names, config.ring(POOL)]:
            remove_ring(name)
        for left in config.run_dir.iterdir():
            left.unlink()
        config.run_dir.rmdir()


class ScriptedCamera:
    """Gives the frames, and raises the errors, that the test puts in; fulfils `Camera`."""

    def __init__(self) -> None:
        self._script: queue.Queue[tuple[int, NDArray | Exception]] = queue.Queue()
        self._counter = 0
        self.armed = 0
        self._free, self._stuck = threading.Event(), threading.Event()
        self._free.set()

    @contextmanager
    def stuck(self) -> Iterator[None]:
        """Inside, a grab is under way that does not return, whatever is exposed."""
        self._stuck.clear()
        self._free.clear()
        try:
            assert self._stuck.wait(5)
            yield
        finally:
            self._free.set()

    def expose(self, *frames: NDArray | Exception, at_ns: int | None = None) -> None:
        for frame in frames:
            self._script.put((at_ns or time.monotonic_ns(), frame))

    def skip(self, frames: int) -> None:
        """So many get lost on their way; for a test of a camera that gives none at the time."""
        self._counter += frames

    def arm(self) -> None:
        while not self._script.empty():
            self._script.get()
        self._counter, self.armed = 0, self.armed + 1

    def grab(self, into: memoryview, timeout_ms: int) -> Exposure | None:
        if not self._free.is_set():
            self._stuck.set()
            self._free.wait()
        try:
            exposed_ns, frame = self._script.get(timeout=timeout_ms / 1000)
        except queue.Empty:
            return None
        self._counter += 1
        if isinstance(frame, Exception):
            raise frame
        if frame.nbytes <= len(into):
            into[: frame.nbytes] = frame.tobytes()
        return Exposure(self._counter - 1, exposed_ns, frame.shape, str(frame.dtype))

    def exhausted(self) -> bool:
        return False


def until(condition: Callable[[], Any], timeout_s: float = 5.0) -> Any:
    """What `condition` gives, once that is something."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "timed out"
    return found


def one(bus: Bus, port: Port, turn: Callable[[], None] = lambda: None) -> Received:
    """The next message on `port`; `turn` is run while it does not come."""

    def look() -> list[Received]:
        turn()
        bus.poll(1)
        return port.drain(1)

    return until(look)[0]
