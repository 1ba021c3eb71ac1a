"""What the hand-shake's tests drive: a bridge without sockets and a PLC of four slots, both in simulated time."""

from dataclasses import dataclass, field, replace
from math import nan
from typing import Any

from pipeline.frames import combined_digest
from pipeline.handshake import step
from pipeline.messages import Captured, Defect, Fault, FinalOutcome, Outcome, Timing, Trigger, Verdict
from pipeline.open_panels import (
    Action,
    CapturedSeen,
    Clear,
    Event,
    Expected,
    PlcSeen,
    Publish,
    Record,
    Route,
    Shown,
    State,
    Switched,
    Terms,
    Tick,
    VerdictSeen,
    Write,
)
from pipeline.plcs import SLOTS, SlotSeen

MS = 1_000_000
STATION, INSPECTOR, CAMERAS = "cell_1", "inspector", ("top", "side")
RECIPE_NO, OTHER_NO = 3, 4
EXPECTED = Expected("recipe-a", "calibration-a", "ab12ef" * 5, low=0.1, limit=0.5, mm_per_px=0.05)
OTHER = Expected("recipe-b", "calibration-b", "0c0c0c" * 5, low=0.1, limit=0.5)
NEW = {"recipe": OTHER.recipe, "calibration": OTHER.calibration, "engine": OTHER.engine}  # a verdict by `OTHER`
KNOWN = {RECIPE_NO: EXPECTED, OTHER_NO: OTHER}
TERMS = Terms(STATION, CAMERAS, KNOWN, 1000 * MS, 40 * MS, 500 * MS, 100 * MS, 0, 0)  # panels may follow at once
DEADLINE_MS, GIVE_UP_MS = 960, 1501  # of a panel that was triggered at 0


def digest_of(token: str, camera: str) -> str:
    """The digest of the set that this camera took of this panel."""
    return f"{CAMERAS.index(camera) + 1}{token[1:]}"


def captured(token: str, camera: str, **changes: Any) -> Captured:
    said = Captured(
        station=STATION,
        token=token,
        camera=camera,
        frame_ids=(0, 1),
        digest=digest_of(token, camera),
        exposed_ns=0,
        ready_ns=0,
    )
    return said.model_copy(update=changes)


def verdict(token: str, **changes: Any) -> Verdict:
    """A good panel, found good by the expected network; `changes` make it something else."""
    said = Verdict(
        station=STATION,
        token=token,
        inspector=INSPECTOR,
        outcome=Outcome.PASS,
        fault=None,
        digest=combined_digest([digest_of(token, camera) for camera in CAMERAS]),
        recipe=EXPECTED.recipe,
        calibration=EXPECTED.calibration,
        engine=EXPECTED.engine,
        score=0.2,
        limit=0.5,
        defects=(),
        mask=None,
        batch=1,
        timing=Timing(joined_ns=0, started_ns=0, network_ns=0, decided_ns=0),
    )
    return said.model_copy(update=changes)


SCRATCH = Defect(x=100, y=40, width=20, height=10, area_px=150, peak=0.9)
BAD = {"outcome": Outcome.REJECT, "score": 0.9, "defects": (SCRATCH,)}
NO_ANSWER = {"outcome": Outcome.REJECT, "fault": Fault.ENGINE, "score": nan}


@dataclass
class Desk:
    """A bridge's state, its actions so far, a PLC's four slots, and a clock that only the test moves."""

    terms: Terms = TERMS
    first_seq: int = 0
    inspector: str | None = INSPECTOR
    now_ns: int = 0
    actions: list[Action] = field(default_factory=list)
    drawn: int = 0
    gap_ms: float = 0  # from the look before to this one

    def __post_init__(self) -> None:
        self.slots = [SlotSeen((self.first_seq - back) % (1 << 32), "", 0, 0, 0, 0) for back in range(SLOTS)]
        self.slots.sort(key=lambda slot: slot.trigger_seq % SLOTS)
        self.slots = [replace(slot, ack_seq=slot.trigger_seq) for slot in self.slots]
        shown = tuple(Shown(slot.trigger_seq, waited=False) for slot in self.slots)
        self.state = State(self.terms, last_seq=self.first_seq, shown=shown)

    def tell(self, event: Event) -> list[Action]:
        self.state, actions = step(self.state, event)
        self.actions += actions
        return actions

    def switch(self, expected: Expected, number: int = RECIPE_NO) -> None:
        """Another recipe takes over."""
        self.tell(Switched(number, expected))

    def look(self) -> list[Action]:
        """The bridge reads the PLC."""
        tokens = tuple(f"0{self.drawn + number:031x}" for number in range(SLOTS))
        self.drawn += SLOTS
        since_ns = self.now_ns - round(self.gap_ms * MS)
        return self.tell(PlcSeen(tuple(self.slots), self.now_ns, tokens, self.inspector, since_ns))

    def wait(self, ms: float) -> list[Action]:
        self.now_ns += round(ms * MS)
        return self.tell(Tick(self.now_ns))

    def trigger(self, seq: int, *, recipe_no: int = RECIPE_NO, window_ms: int = 1000, look: bool = True) -> str:
        """The PLC triggers; the token that the bridge drew, empty when it drew none."""
        before = self.slots[seq % SLOTS]
        self.slots[seq % SLOTS] = SlotSeen(seq, f"panel-{seq}", recipe_no, window_ms, before.ack_seq, before.ack_code)
        if look:
            self.look()
        return next((panel.token for panel in self.state.panels if panel.seq == seq), "")

    def ack(self, seq: int, code: int) -> list[Action]:
        """The PLC says what it did with a panel."""
        self.slots[seq % SLOTS] = replace(self.slots[seq % SLOTS], ack_seq=seq, ack_code=code)
        return self.look()

    def capture(self, token: str, *cameras: str) -> None:
        for camera in cameras or self.terms.cameras:
            self.tell(CapturedSeen(captured(token, camera)))

    def judge(self, token: str, **changes: Any) -> list[Action]:
        """A verdict comes, and the bridge takes its next turn."""
        return [*self.tell(VerdictSeen(verdict(token, **changes))), *self.wait(1)]

    def inspected(self, seq: int, **changes: Any) -> str:
        """A panel whose sets and whose verdict came."""
        token = self.trigger(seq)
        self.capture(token)
        self.judge(token, **changes)
        return token

    # --- what came of it ---

    def writes(self) -> list[Write]:
        return [action for action in self.actions if isinstance(action, Write)]

    def written(self) -> list[tuple[Outcome, Fault | None]]:
        return [(write.outcome, write.fault) for write in self.writes()]

    def records(self, step_name: str) -> list[dict[str, Any]]:
        return [action.what for action in self.actions if isinstance(action, Record) and action.step == step_name]

    def finals(self) -> list[FinalOutcome]:
        return [action.outcome for action in self.actions if isinstance(action, Publish)]

    def outcomes(self) -> list[tuple[int, Outcome, Fault | None, bool]]:
        """Sequence, outcome, fault, acknowledged: of every closed panel, in the order of closing."""
        return [(final.seq, final.outcome, final.fault, final.acknowledged) for final in self.finals()]

    def routed(self) -> list[Trigger]:
        return [action.trigger for action in self.actions if isinstance(action, Route)]

    def cleared(self) -> list[int]:
        return [action.slot for action in self.actions if isinstance(action, Clear)]
