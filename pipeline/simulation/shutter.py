"""The shutter of a camera without hardware: pulses in, exposures out, at the instants a real one would have.

A pulse exposes every channel, one after the other. One that comes before the last exposure has ended is ignored,
as a camera ignores a trigger while it is busy; it is counted. Nothing here needs a thread: the instants follow
from the pulse's edge, and are the same whenever somebody looks.
"""

import time
from collections import deque
from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Strict

from pipeline.simulation.wire import Pulse

EMPTY_FIELD = -1  # the panel index of a pulse with nothing below the camera
Spot = Annotated[tuple[int, int], Strict(False)]  # panel, channel
Spots = Annotated[tuple[Spot, ...], Strict(False)]


class Faults(BaseModel):
    """What goes wrong on purpose, each at a (panel, channel)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    drop_frames: Spots = ()  # exposed and counted, lost on the way
    miss_exposures: Spots = ()  # neither exposed nor counted
    extra_frames: Spots = ()  # exposed twice, counted twice
    fail_at: Spots = ()  # counted; the grab raises CameraError
    empty_fields: Spots = ()  # exposed as if nothing lay below the camera
    repeat_frames: Spots = ()  # exposed and counted; the pixels are those of the panel seen before


@dataclass(frozen=True)
class Shot:
    """One exposure: which frame of which panel, and from when on it can be grabbed."""

    panel: int
    channel: int
    counter: int  # since arm()
    exposed_ns: int
    ready_ns: int
    fails: bool


class Source(Protocol):
    """Where pulses come from: a `wire.Listener`, or a clock."""

    def wait(self, timeout_ms: float) -> Pulse | None: ...

    def drain(self) -> None:
        """Forget the pulses that came so far."""
        ...


class Shutter:
    """Exposes `channels` frames at every pulse of `source`."""

    def __init__(self, source: Source, channels: int, exposure_ms: float, faults: Faults | None = None) -> None:
        self.ignored = 0  # pulses that came while busy
        self.latest = EMPTY_FIELD  # the highest panel that any pulse named
        self._source, self._channels, self._exposure_ns = source, channels, int(exposure_ms * 1e6)
        faults = faults or Faults()
        self._drops, self._misses = frozenset(faults.drop_frames), frozenset(faults.miss_exposures)
        self._extras, self._failures = frozenset(faults.extra_frames), frozenset(faults.fail_at)
        self._shots: deque[Shot] = deque()
        self._counter = 0
        self._busy_until_ns = 0

    @property
    def pending(self) -> bool:
        """True when exposures wait to be grabbed."""
        return bool(self._shots)

    def arm(self) -> None:
        """Throw away every exposure and pulse so far, count from 0."""
        self._source.drain()
        self._shots.clear()
        self._counter = 0
        self._busy_until_ns = 0

    def next(self, timeout_ms: float) -> Shot | None:
        """The oldest exposure, taken out, once it is ready; None when none is in time."""
        deadline_ns = time.monotonic_ns() + int(timeout_ms * 1e6)
        while not self._shots:
            pulse = self._source.wait((deadline_ns - time.monotonic_ns()) / 1e6)
            if pulse is None:
                return None
            self._expose(pulse)
        ready_ns = self._shots[0].ready_ns
        _sleep_until(min(ready_ns, deadline_ns))
        return self._shots.popleft() if ready_ns <= time.monotonic_ns() else None

    def put_back(self, shot: Shot) -> None:
        """Undo `next`: its pixels are not there yet."""
        self._shots.appendleft(shot)

    def discard(self, panel: int) -> None:
        """Throw away the waiting exposures of a panel; they stay counted."""
        while self._shots and self._shots[0].panel == panel:
            self._shots.popleft()

    def _expose(self, pulse: Pulse) -> None:
        self.latest = max(self.latest, pulse.panel)
        if pulse.edge_ns < self._busy_until_ns:
            self.ignored += 1
            return
        self._busy_until_ns = pulse.edge_ns
        for channel in range(self._channels):
            spot = (pulse.panel, channel)
            if spot in self._misses:
                self._busy_until_ns += self._exposure_ns
                continue
            for _ in range(1 + (spot in self._extras)):
                self._take(spot)

    def _take(self, spot: tuple[int, int]) -> None:
        begin_ns = self._busy_until_ns
        self._busy_until_ns = begin_ns + self._exposure_ns
        fails = spot in self._failures
        if spot not in self._drops:
            self._shots.append(Shot(*spot, self._counter, begin_ns, self._busy_until_ns, fails))
        self._counter += 1


def _sleep_until(instant_ns: int) -> None:
    remaining_ns = instant_ns - time.monotonic_ns()
    if remaining_ns > 0:
        time.sleep(remaining_ns / 1e9)
