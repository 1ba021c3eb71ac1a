"""The bridge: triggers out of the PLC, results into it, everything into the ledger. The thinking is in `handshake`."""

import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any

from engines import recipe as recipes
from engines.build import engine_key
from engines.station import IDENTITY
from pipeline import plcs
from pipeline.bus import Bus
from pipeline.config import LineConfig
from pipeline.errors import LedgerError, PlcError
from pipeline.handshake import reopen, step
from pipeline.ledger import Ledger, ledger_files, read_lines, recount
from pipeline.log import logger
from pipeline.messages import Captured, Outcome, Presence, Verdict
from pipeline.open_panels import (
    Action,
    CapturedSeen,
    Clear,
    Event,
    Expected,
    LedgerState,
    LineState,
    LinkLost,
    PlcSeen,
    Publish,
    Record,
    Route,
    State,
    Stopping,
    Terms,
    Tick,
    Unrouted,
    VerdictSeen,
    Write,
)
from pipeline.plcs import SLOTS, LineStatus, Plc
from pipeline.stage import Life
from pipeline.stages import inspectors

LOG = logger("plc_bridge")
BEAT_NS = 50_000_000
RETRY_NS = 250_000_000
MS = 1_000_000


def main(config: LineConfig, part: str, life: Life, bus: Bus) -> None:
    """Serve the PLC until asked to stop and every open panel is closed."""
    with (
        plcs.connect(config.plc.kind, config.plc.settings) as plc,
        Ledger(config.ledger, config.station) as ledger,
    ):
        bridge = Bridge(config, bus, plc, ledger, opening_state(config))
        bridge.ledger.record("start", terms=_terms_record(bridge.state.terms))
        while not life.stopping:
            bus.poll(config.timing.poll_ms)
            bridge.turn(time.monotonic_ns())
            life.tell(*bridge.health(), bridge.counters())
        bridge.wind_up(life)


def terms_of(config: LineConfig) -> Terms:
    """What every panel is held against, known from the recipes on disk and not from the inspector."""
    engine, timing = config.engine, config.timing
    expected = {}
    for number, path in config.recipe_paths().items():
        recipe = recipes.load(path)
        key = engine_key(recipe, engine.runtime, engine.precision)
        expected[number] = Expected(recipe.hash, IDENTITY.hash, key.hash, recipe.manifest.mm_per_px)
    cameras = tuple(camera.name for camera in config.cameras)
    window = (timing.window_ms * MS, timing.margin_ms * MS, timing.ack_ms * MS)
    return Terms(config.station, cameras, expected, *window)


def _terms_record(terms: Terms) -> dict[str, Any]:
    return {str(number): vars(expected) for number, expected in terms.recipes.items()}


def opening_state(config: LineConfig) -> State:
    """The state to start with: triggers that the last bridge left open are taken up again."""
    state = State(terms_of(config))
    newest = ledger_files(config.ledger)[-2:]  # no panel stays open for longer than a day
    count = recount(read_lines(newest), whole=False)
    if not count.records:
        return state
    if not count.intact:
        LOG.error("the ledger is broken", extra={"at": count.first_broken})
    state = replace(state, last_seq=count.last_seq)
    return reopen(state, list(count.open.values()), time.monotonic_ns())


@dataclass
class Seen:
    """The last sign of life of a stage."""

    presence: Presence
    at_ns: int


@dataclass
class Bridge:
    """What the bridge holds between two turns of its loop."""

    config: LineConfig
    bus: Bus
    plc: Plc
    ledger: Ledger
    state: State
    peers: dict[str, Seen] = field(default_factory=dict)
    linked: bool = False
    link_text: str = ""
    was_ready: bool = False
    line_state: LineState = LineState.PREOPERATIONAL
    halting: bool = False
    alarms: int = 0
    _beat: int = 0
    _beat_ns: int = 0
    _retry_ns: int = 0

    def __post_init__(self) -> None:
        self.control = self.bus.router(self.config.socket("control"), ["captured", "verdicts", "presence"])
        self.outcomes = self.bus.pub(self.config.bus.outcomes, "outcomes")

    # --- the loop ---

    def turn(self, now_ns: int) -> None:
        """One look at everything."""
        for received in self.control.drain():
            match received.message:
                case Presence() as presence if presence.stage == received.source:
                    self.peers[presence.stage] = Seen(presence, now_ns)
                case Captured() as captured:
                    self._step(CapturedSeen(captured))
                case Verdict() as verdict:
                    self._step(VerdictSeen(verdict))
        self._step(Tick(time.monotonic_ns()))
        self._look_at_plc()
        self._beat_if_due(time.monotonic_ns())

    def wind_up(self, life: Life) -> None:
        """Reject what is open, wait for the acknowledgements, leave the PLC's slots empty and the state halted."""
        self.halting = True
        patience_ns = (self.config.timing.ack_ms + 100) * MS
        end_ns = time.monotonic_ns() + patience_ns
        self._beat_if_due(time.monotonic_ns())  # a PLC that knows the state places nothing from here on
        self._look_at_plc()  # what it placed before that
        self._step(Stopping())
        while self.state.panels and self.linked and time.monotonic_ns() < end_ns:
            self.bus.poll(self.config.timing.poll_ms)
            self.turn(time.monotonic_ns())
            life.tell("waiting", "closing open panels", self.counters())
        self._step(Tick(time.monotonic_ns() + (self.config.timing.window_ms + self.config.timing.ack_ms) * MS))
        self._beat_ns = 0
        self._beat_if_due(time.monotonic_ns())
        self._record("state", event="stop")

    def health(self) -> tuple[str, str]:
        if not self.linked:
            return "waiting", f"waiting for the PLC: {self.link_text}"
        if not self.state.ledger_ok:
            return "error", "the ledger cannot be written"
        missing = self._missing(time.monotonic_ns())
        return ("waiting", f"waiting for {', '.join(missing)}") if missing else ("ready", self.line_state.name)

    def counters(self) -> dict[str, int | float]:
        state = self.state
        return {
            "triggers": state.triggers,
            "passed": state.passed,
            "not_passed": state.rejected,
            "open": len(state.panels),
            "alarms": self.alarms,
            "messages_dropped": sum(self.control.dropped.values()),
        }

    # --- hand-shake ---

    def _step(self, event: Event) -> None:
        self.state, actions = step(self.state, event)
        for action in actions:
            self._perform(action)

    def _perform(self, action: Action) -> None:
        match action:
            case Record(name, what):
                self._record(name, **what)
            case Route(trigger):
                routes = [f"capture_{camera}" for camera in trigger.cameras] + [trigger.inspector]
                sent = [self.control.send("triggers", trigger, to=name) for name in routes]
                if all(sent):
                    self._record("routed", token=trigger.token, to=routes)
                else:
                    self._step(Unrouted(trigger.token))
            case Write():
                self._write(action)
            case Clear(slot):
                self._guarded(lambda: self.plc.clear(slot))
            case Publish(outcome):
                self.alarms += not outcome.acknowledged
                self.outcomes.send("outcomes", outcome)

    def _write(self, write: Write) -> None:
        """Intent, PLC, written. A pass whose intent could not be recorded is not written."""
        result = write.result
        intent = {"token": write.token, "seq": result.seq, "outcome": write.outcome, "fault": write.fault}
        if not self._record("intent", **intent) and write.outcome is Outcome.PASS:
            return  # the PLC's own window rejects it
        if self._guarded(lambda: self.plc.write(write.slot, result)):
            self._record("written", token=write.token, seq=result.seq, code=result.code)

    def _record(self, name: str, **what: Any) -> bool:
        try:
            self.ledger.record(name, **what)
        except LedgerError as error:
            if self.state.ledger_ok:
                LOG.error(str(error))
                self.state, _ = step(self.state, LedgerState(ok=False))
            return False
        if not self.state.ledger_ok:
            self.state, _ = step(self.state, LedgerState(ok=True))
        return True

    # --- the PLC ---

    def _look_at_plc(self) -> None:
        if not self.linked and not self._link():
            return
        try:
            image = self.plc.read()
        except PlcError as error:
            self._lost(error)
            return
        tokens = tuple(secrets.token_hex(16) for _ in range(SLOTS))
        self._step(PlcSeen(image.slots, time.monotonic_ns(), tokens, self._least_loaded()))

    def _link(self) -> bool:
        now = time.monotonic_ns()
        if now < self._retry_ns:
            return False
        self._retry_ns = now + RETRY_NS
        try:
            self.plc.reconnect()
            open_slots = {panel.slot for panel in self.state.panels}
            for slot in set(range(SLOTS)) - open_slots:
                self.plc.clear(slot)
        except PlcError as error:
            self.link_text = str(error)
            return False
        self.linked = True
        LOG.info("PLC connected")
        self._record("state", event="PLC connected")
        return True

    def _lost(self, error: PlcError) -> None:
        self.linked, self.link_text = False, str(error)
        self._retry_ns = time.monotonic_ns() + RETRY_NS
        LOG.error("PLC lost", extra={"why": str(error)})
        self._record("state", event="PLC lost")
        self._step(LinkLost())

    def _guarded(self, call: Any) -> bool:
        if not self.linked:
            return False
        try:
            call()
        except PlcError as error:
            self._lost(error)
            return False
        return True

    def _beat_if_due(self, now_ns: int) -> None:
        """20 Hz, and only while an inspector's last loop turn is young; the state is written in any case."""
        state = self._line_state(now_ns)
        if state is self.line_state and now_ns - self._beat_ns < BEAT_NS:
            return
        self._beat_ns = now_ns
        if state is not self.line_state:
            LOG.info("line state", extra={"state": state.name})
            self._record("state", event="line state", state=state.name)
        self.line_state = state
        self._beat = (self._beat + bool(self._inspectors(now_ns))) & 0xFFFF
        counts = (self.state.triggers, self.state.passed, self.state.rejected)
        self._guarded(lambda: self.plc.status(LineStatus(self._beat, int(state), *counts)))

    # --- who is there ---

    def _young(self, name: str, now_ns: int) -> bool:
        seen = self.peers.get(name)
        return seen is not None and seen.presence.ready and now_ns - seen.at_ns < self.config.timing.stall_ms * MS

    def _inspectors(self, now_ns: int) -> list[str]:
        return [name for name in inspectors(self.config) if self._young(name, now_ns)]

    def _missing(self, now_ns: int) -> list[str]:
        captures = [f"capture_{camera.name}" for camera in self.config.cameras]
        missing = [name for name in captures if not self._young(name, now_ns)]
        return missing if self._inspectors(now_ns) else ["inspector", *missing]

    def _least_loaded(self) -> str | None:
        there = self._inspectors(time.monotonic_ns())
        return max(there, key=lambda name: self.peers[name].presence.credits, default=None)

    def _line_state(self, now_ns: int) -> LineState:
        if self.halting:
            return LineState.HALTED
        if not self.state.ledger_ok:
            return LineState.ERROR
        if self._missing(now_ns):
            return LineState.ERROR if self.was_ready else LineState.INITIALIZED
        self.was_ready = True
        return LineState.CONTINUOUS_EXECUTION if self.state.triggers else LineState.READY
