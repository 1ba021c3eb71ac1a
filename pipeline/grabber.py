"""The camera's thread: frames go into ring slots as they are exposed, whether or not their trigger is known yet."""

import os
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from pipeline.association import FrameSeen
from pipeline.cameras import Camera, Exposure
from pipeline.errors import CameraError
from pipeline.frames import Ring
from pipeline.log import logger
from pipeline.messages import Fault

LOG = logger("capture")
GRAB_MS = 5  # arming waits for it at most
CLOSE_S = 1.0
MOST_FAILURES = 50  # sets lost one after the other: the camera is gone, and opened again by the next process


@dataclass(frozen=True)
class FilledSet:
    """One image set in a slot of the ring, number `index` since arming; only its first frames where more failed."""

    index: int
    slot: int
    shape: tuple[int, int, int]  # channels, height, width
    dtype: str
    exposed_ns: int
    rest: bool = False  # it was under way when the camera was armed anew; `index` counts from before


@dataclass
class _Filling:
    index: int
    slot: int | None
    first: Exposure | None = None
    offset: int = 0
    problem: Fault | None = None


class Grabber:
    """Grabs until closed. Owns a slot from acquiring it until the set is full; then whoever takes it owns it."""

    def __init__(self, camera: Camera, ring: Ring, channels: int) -> None:
        self._camera, self._ring, self._channels = camera, ring, channels
        self._out: deque[tuple[int, FilledSet | FrameSeen]] = deque()
        self._wanted, self._epoch, self._armed = 0, 0, 0  # arming asked for, begun, done
        self._keep: int | None = None
        self._end = threading.Event()
        self._died: Exception | None = None
        self._in_a_row = 0
        self.failures = 0
        self.exhausted = False
        self.turned_ns = time.monotonic_ns()  # when the last call to the camera returned
        self.wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="grabber", daemon=True)
        self._thread.start()

    def take(self) -> list[FilledSet | FrameSeen]:
        """What came since the last call, in order; from before the last `rearm` only the set that it was to keep.

        Raises:
            CameraError: the camera is gone; and whatever else ended the thread.
        """
        try:
            os.eventfd_read(self.wake)
        except BlockingIOError:
            return []
        if self._died:
            raise self._died
        found = [self._out.popleft() for _ in range(len(self._out))]
        return [valid for epoch, item in found if (valid := self._valid(epoch, item))]

    def _valid(self, epoch: int, item: FilledSet | FrameSeen) -> FilledSet | FrameSeen | None:
        if epoch == self._wanted:
            return item
        if isinstance(item, FilledSet) and (epoch, item.index) == (self._wanted - 1, self._keep):
            return replace(item, rest=True)  # its last frame came after `rearm`, and before the camera was armed
        if isinstance(item, FilledSet):
            self._ring.drop(item.slot)
        return None

    def rearm(self, keep: int | None = None) -> None:
        """Throw away what is under way and count anew; `keep`: give what there is of that set.

        Called again while `arming`, it gives up what was to be kept.
        """
        self._keep = keep
        self._wanted += 1

    @property
    def arming(self) -> bool:
        """True until the camera is armed as asked; what `rearm` is to keep has been given out then."""
        return self._armed != self._wanted

    def close(self) -> None:
        """End the thread; one whose camera does not return ends with the process."""
        self._end.set()
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            os.close(self.wake)

    def _run(self) -> None:
        try:
            self._grab_all()
        except Exception as error:  # a capture without its thread would look alive
            self._died = error
            os.eventfd_write(self.wake, 1)

    def _grab_all(self) -> None:
        self._camera.arm()
        expected, filling, given_up = 0, None, range(0)
        while not self._end.is_set():
            self.turned_ns = time.monotonic_ns()
            if self._epoch != self._wanted:
                keep, self._epoch = self._keep, self._wanted
                if filling and filling.index == keep:
                    self._give_part(filling, rest=True)
                else:
                    self._drop(filling)
                self._camera.arm()
                self._armed = self._epoch
                expected, filling, given_up = 0, None, range(0)
            filling = filling or self._start(expected)
            try:
                exposure = self._grab(filling)
            except CameraError as error:
                given_up = self._give_up(filling, expected, error)
                expected, filling = given_up.stop, None
                continue
            if exposure is None:
                self.exhausted = self._camera.exhausted()
                continue
            if exposure.counter in given_up:  # the rest of a lost set; the next frame goes over it
                continue
            seen = self._note(filling, exposure)
            if seen.counter == expected and seen.counter % self._channels == self._channels - 1:
                self._finish(filling)
                filling = None
            expected = seen.counter + 1
            self._give(seen)
        self._drop(filling)

    def _start(self, counter: int) -> _Filling:
        return _Filling(counter // self._channels, self._ring.acquire(time.monotonic_ns()))

    def _grab(self, filling: _Filling) -> Exposure | None:
        """The next frame, put behind those of its set."""
        self._retry_slot(filling)
        exposure = self._camera.grab(self._room(filling), GRAB_MS)
        if exposure is not None:
            self._in_a_row = 0
        return exposure

    def _room(self, filling: _Filling) -> memoryview:
        return memoryview(b"") if filling.slot is None else self._ring.room(filling.slot, filling.offset)

    def _give_up(self, filling: _Filling, expected: int, error: CameraError) -> range:
        """A lost frame costs its set and no other; returns the counters that are lost with it."""
        self.failures, self._in_a_row = self.failures + 1, self._in_a_row + 1
        LOG.warning("frame lost", extra={"why": str(error)})
        self._give_part(filling)
        if self._in_a_row > MOST_FAILURES:
            raise CameraError(f"{MOST_FAILURES} image sets lost one after the other: {error}") from error
        lost = range(expected, (filling.index + 1) * self._channels)
        for counter in lost:
            self._give(FrameSeen(counter, time.monotonic_ns(), Fault.CAMERA))
        return lost

    def _retry_slot(self, filling: _Filling) -> None:
        if filling.slot is None and filling.first is None:
            filling.slot = self._ring.acquire(time.monotonic_ns())

    def _note(self, filling: _Filling, exposure: Exposure) -> FrameSeen:
        """Count the frame into its set."""
        filling.first = filling.first or exposure
        size = prod(exposure.shape) * np.dtype(exposure.dtype).itemsize
        if filling.slot is None:
            filling.problem = filling.problem or Fault.RING_FULL
        elif size > self._room(filling).nbytes or (exposure.shape, exposure.dtype) != (
            filling.first.shape,
            filling.first.dtype,
        ):
            filling.problem = filling.problem or Fault.GEOMETRY
        elif filling.problem is None:  # behind a frame that is missing they would pass for other channels
            filling.offset += size
        return FrameSeen(exposure.counter, exposure.exposed_ns, filling.problem)

    def _finish(self, filling: _Filling) -> None:
        self._give_part(filling)

    def _give_part(self, filling: _Filling, *, rest: bool = False) -> None:
        """The frames that came in order; fewer than the channels only where a frame of the set has a problem."""
        first = filling.first
        if filling.slot is None or first is None or not filling.offset:
            self._drop(filling)
            return
        frames = filling.offset // (prod(first.shape) * np.dtype(first.dtype).itemsize)
        shape = (frames, *first.shape)
        self._give(FilledSet(filling.index, filling.slot, shape, first.dtype, first.exposed_ns, rest))

    def _drop(self, filling: _Filling | None) -> None:
        if filling and filling.slot is not None:
            self._ring.drop(filling.slot)

    def _give(self, item: FilledSet | FrameSeen) -> None:
        self._out.append((self._epoch, item))
        os.eventfd_write(self.wake, 1)
