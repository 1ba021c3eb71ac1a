"""What the hand-shake knows and says: the open panels, the events that reach it, the actions it asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from pipeline.frames import combined_digest
from pipeline.messages import Captured, Fault, FinalOutcome, Outcome, Trigger, Verdict
from pipeline.plcs import SLOTS, Result, SlotSeen


class LineState(IntEnum):
    """Numbered as in OPC 40100-1."""

    PREOPERATIONAL = 1
    HALTED = 2
    ERROR = 3
    INITIALIZED = 5
    READY = 6
    SINGLE_EXECUTION = 7
    CONTINUOUS_EXECUTION = 8


@dataclass(frozen=True)
class Expected:
    """What the bridge knows of a recipe from elsewhere than the inspector."""

    recipe: str
    calibration: str
    engine: str
    low: float  # a pass scores from here
    limit: float  # to here
    mm_per_px: float | None = None


@dataclass(frozen=True)
class Terms:
    """What the line file and the recipes fix. Times in nanoseconds, from the trigger edge.

    `recipes` are those of the next trigger: a panel in flight keeps what it was triggered with.
    """

    station: str
    cameras: tuple[str, ...]
    recipes: Mapping[int, Expected]
    window_ns: int
    margin_ns: int
    ack_ns: int
    early_ns: int  # an edge that may be older than this when it is seen belongs to no exposure for certain
    exposure_ns: int  # all exposures of a panel begin within this after its edge
    takt_ns: int  # the least time between two edges


@dataclass(frozen=True)
class Panel:
    """One open trigger. `written` is what was put into the slot."""

    slot: int
    seen: SlotSeen
    token: str
    edge_ns: int
    deadline_ns: int  # a PASS is written before this, or never
    expected: Expected | None  # the terms of its trigger, to its end; None: the number was not known then
    inspector: str | None = None
    captured: tuple[tuple[str, str], ...] = ()  # camera, digest
    verdict: Verdict | None = None
    fault: Fault | None = None
    written: Outcome | None = None
    doubt: Fault | None = None  # what came to light after a PASS was written; the PLC may have acted on it already
    reopened: bool = False  # open when the bridge started; nothing is known of it but what the PLC says

    @property
    def seq(self) -> int:
        return self.seen.trigger_seq

    def digest(self, cameras: tuple[str, ...]) -> str | None:
        """Of all sets, or None while one is missing."""
        by_camera = dict(self.captured)
        if any(camera not in by_camera for camera in cameras):
            return None
        return combined_digest([by_camera[camera] for camera in cameras])


@dataclass(frozen=True)
class Shown:
    """What a slot showed at the last look: its trigger, and whether the PLC still waited for that one's result."""

    seq: int
    waited: bool


@dataclass(frozen=True)
class Edge:
    """A trigger's edge: it came after the look that began at `since_ns`, and was there in the one at `seen_ns`."""

    token: str
    since_ns: int
    seen_ns: int


@dataclass(frozen=True)
class State:
    """Everything the bridge must remember."""

    terms: Terms
    last_seq: int | None = None  # of the newest trigger
    shown: tuple[Shown | None, ...] = (None,) * SLOTS
    newest: Edge | None = None
    panels: tuple[Panel, ...] = ()
    triggers: int = 0
    passed: int = 0
    rejected: int = 0  # by inspection or by fault: what did not pass
    ledger_ok: bool = True
    stopping: bool = False


# --- events ---


@dataclass(frozen=True)
class PlcSeen:
    """The PLC's slots were read; `tokens` are four fresh ones, `inspector` the least loaded one, if any.

    What is new in them came after `since_ns`, when the look before this one began.
    """

    slots: tuple[SlotSeen, ...]
    now_ns: int
    tokens: tuple[str, ...]
    inspector: str | None
    since_ns: int


@dataclass(frozen=True)
class CapturedSeen:
    captured: Captured


@dataclass(frozen=True)
class VerdictSeen:
    verdict: Verdict


@dataclass(frozen=True)
class Unrouted:
    """A trigger did not reach a camera or the inspector."""

    token: str


@dataclass(frozen=True)
class Unrecorded:
    """A pass was not written: its intent could not be recorded, or its time was over; the slot is still empty."""

    token: str
    fault: Fault = Fault.LEDGER


@dataclass(frozen=True)
class LinkLost:
    """The PLC cannot be reached."""


@dataclass(frozen=True)
class LedgerState:
    """Whether records can be written; while they cannot, nothing passes."""

    ok: bool


@dataclass(frozen=True)
class Stopping:
    """The line is being stopped: every open panel is a reject."""


@dataclass(frozen=True)
class Switched:
    """Another recipe answers to a number of the PLC, for the triggers from here on."""

    number: int
    expected: Expected


@dataclass(frozen=True)
class Tick:
    now_ns: int


# --- actions ---


@dataclass(frozen=True)
class Record:
    step: str
    what: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """Announce the panel to the cameras and, if it has one, to its inspector."""

    trigger: Trigger


@dataclass(frozen=True)
class Write:
    """Put the result into the slot: an intent record first, a written record after."""

    slot: int
    token: str
    result: Result
    outcome: Outcome
    fault: Fault | None
    deadline_ns: int  # a PASS that could not be written before is void


@dataclass(frozen=True)
class Clear:
    slot: int


@dataclass(frozen=True)
class Publish:
    outcome: FinalOutcome


Event = (
    PlcSeen | CapturedSeen | VerdictSeen | Unrouted | Unrecorded | LinkLost | LedgerState | Stopping | Switched | Tick
)
Action = Record | Route | Write | Clear | Publish
