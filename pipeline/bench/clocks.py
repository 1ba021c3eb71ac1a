"""Whether this host's clocks ran evenly while something was measured."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

SET_S = 0.1  # what a time service slews in a run is less
SLEPT_S = 0.05


def _now() -> tuple[float, float, float]:
    """Wall, since boot with sleep, since boot without, seconds."""
    return time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic()


@dataclass
class Clocks:
    """Looks at the clocks when it is made, and again when asked."""

    began: tuple[float, float, float] = field(default_factory=_now)

    def said(self) -> Iterator[str]:
        """What is wrong with what was measured in between, a line each."""
        yield from told(self.began, _now())


def told(before: tuple[float, float, float], after: tuple[float, float, float]) -> Iterator[str]:
    """The same, of two looks."""
    wall, boot, steady = (late - early for late, early in zip(after, before, strict=True))
    if boot - steady > SLEPT_S:
        yield f"the machine slept for {boot - steady:.1f} s while it was measured: measure again"
    if abs(wall - boot) > SET_S:
        said = f"the wall clock was set by {wall - boot:+.1f} s while it was measured"
        yield f"{said}: no duration counts on it, but records carry its time; measure again"
