"""A camera, its panels and their triggers, in simulated time."""

from pipeline.association import (
    Event,
    FrameSeen,
    Paired,
    Rearm,
    Refused,
    Result,
    Rules,
    State,
    Tick,
    TriggerSeen,
    step,
)
from pipeline.messages import Fault

MS = 1_000_000
TAKT_MS, CHANNELS = 500, 3
RULES = Rules(CHANNELS, early_ns=50 * MS, exposure_ns=300 * MS, settle_ns=100 * MS, quiet_ns=10 * MS)
WRONG = Fault.ASSOCIATION


class Camera:
    """Drives the association: panel n passes at n * TAKT_MS, its frames are exposed 5 ms apart from there on."""

    def __init__(self, first_seq: int = 0) -> None:
        self.state, self.first_seq = State(RULES), first_seq
        self.counter, self.results, self.rearmed = 0, [], 0

    def tell(self, event: Event) -> list[Result]:
        self.state, results = step(self.state, event)
        for result in results:
            if isinstance(result, Rearm):
                self.rearmed, self.counter = self.rearmed + 1, 0
            else:
                self.results.append(result)
        return results

    def announce(self, panel: int) -> None:
        seq = (self.first_seq + panel) % (1 << 32)
        self.tell(TriggerSeen(str(panel), seq, round(panel * TAKT_MS * MS)))

    def frame(self, at_ms: float, problem: Fault | None = None) -> None:
        seen = FrameSeen(self.counter, round(at_ms * MS), problem)
        self.counter += 1  # by the camera; arming anew, which this frame may cause, comes after it
        self.tell(seen)

    def frames(self, panel: int, count: int = CHANNELS) -> None:
        """Those of a set, up to the one that makes the camera arm anew."""
        armed = self.rearmed
        for channel in range(count):
            if self.rearmed == armed:
                self.frame(panel * TAKT_MS + 5 * channel)

    def clean(self, *panels: int) -> None:
        """Panels at which nothing is wrong."""
        for panel in panels:
            self.tick(panel * TAKT_MS - 1)
            self.announce(panel)
            self.frames(panel)
            self.tick(panel * TAKT_MS + 300)

    def tick(self, at_ms: float) -> None:
        self.tell(Tick(round(at_ms * MS)))

    def said(self) -> list[tuple[str, Fault | None]]:
        """Token and fault, None for a confirmed set, in order."""
        told = [result for result in self.results if not isinstance(result, Paired)]
        return [(result.token, result.fault if isinstance(result, Refused) else None) for result in told]


def good(*panels: int) -> list[tuple[str, None]]:
    return [(str(panel), None) for panel in panels]


def wrong(*panels: int, fault: Fault = WRONG) -> list[tuple[str, Fault]]:
    return [(str(panel), fault) for panel in panels]
