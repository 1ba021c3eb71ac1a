"""The bridge: triggers out of the PLC, results into it, everything into the ledger. The thinking is in `handshake`."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline import plcs
from pipeline.bridge_metrics import TimedPlc, counters, note, reading
from pipeline.bus import Bus, Port, Received
from pipeline.config import LineConfig
from pipeline.errors import LedgerError, PlcError
from pipeline.handshake import step
from pipeline.keys import MachineKey, machine_key
from pipeline.ledger import Ledger
from pipeline.log import logger
from pipeline.messages import Captured, Fault, Health, Outcome, Presence, Verdict
from pipeline.metrics import Metrics, Reading
from pipeline.open_panels import (
    Action,
    CapturedSeen,
    Clear,
    Event,
    LedgerState,
    LineState,
    LinkLost,
    PlcSeen,
    Publish,
    Record,
    Route,
    State,
    Stopping,
    Tick,
    Unrecorded,
    Unrouted,
    VerdictSeen,
    Write,
)
from pipeline.opening import opening_state, terms_record
from pipeline.peers import Peers, waits_for
from pipeline.plcs import SLOTS, LineStatus, Plc
from pipeline.stage import Life
from pipeline.stages import connecting
from pipeline.swaps import Swaps, needed

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
        watched = TimedPlc(plc, life.metrics)
        bridge = Bridge(config, bus, watched, ledger, opening_state(config), machine_key(config.state), life.metrics)
        life.metrics.read(bridge.reading)
        bridge.open()
        while not life.stopping:
            bus.poll(bridge.pause_ms(time.monotonic_ns()))
            bridge.turn(time.monotonic_ns())
            life.tell(*bridge.health(), bridge.counters())
        bridge.wind_up(life)


@dataclass
class Bridge:
    """What the bridge holds between two turns of its loop."""

    config: LineConfig
    bus: Bus
    plc: Plc
    ledger: Ledger
    state: State
    key: MachineKey
    metrics: Metrics = field(default_factory=Metrics)
    peers: Peers = field(init=False)
    swaps: Swaps = field(init=False)
    linked: bool = False
    link_text: str = ""
    was_ready: bool = False
    line_state: LineState = LineState.PREOPERATIONAL
    halting: bool = False
    alarms: int = 0
    _beat: int = 0
    _beat_ns: int = 0
    _retry_ns: int = 0
    _looked_ns: int = 0  # when the last look at the PLC that succeeded began
    _look_due_ns: int = 0
    _ledger_ns: int = 0

    def __post_init__(self) -> None:
        self.peers = Peers(self.config)
        self.swaps = Swaps(self.config, self.metrics)
        names = frozenset(connecting(self.config))
        self.control = self.bus.router(self.config.bridge_socket, ["captured", "verdicts", "presence"], names)
        self.outcomes = self.bus.pub(self.config.bus.outcomes, "outcomes")
        self.archive: Port | None = None
        if self.config.archive.required:
            self.archive = self.bus.sub([self.config.socket("health-archiver")], "health")

    # --- the loop ---

    def open(self) -> None:
        """The first records; a ledger that cannot be written keeps the line from being ready, not from starting."""
        self.swaps.open(self.state)
        self._record("start", terms=terms_record(self.state.terms))
        self._keep_ledger(time.monotonic_ns())

    def pause_ms(self, now_ns: int) -> int:
        """How long there is nothing to do unless something comes."""
        return max(0, -((now_ns - self._look_due_ns) // MS))

    def turn(self, now_ns: int) -> None:
        """Everything that came, and a look at the PLC where one is due: messages alone ask for none."""
        for received in self.control.drain():
            self._heard(received, now_ns)
        for name in self.peers.fallen():
            self._fell(name)
        for received in self.archive.drain() if self.archive else ():
            if isinstance(received.message, Health):
                self.peers.archives(received.message, now_ns)
        self._step(Tick(time.monotonic_ns()))
        self._swap(time.monotonic_ns())
        if time.monotonic_ns() >= self._look_due_ns:
            self._look_at_plc()
            self._look_due_ns = time.monotonic_ns() + self.config.timing.poll_ms * MS
        self._beat_if_due(time.monotonic_ns())
        self._keep_ledger(time.monotonic_ns())

    def _heard(self, received: Received, now_ns: int) -> None:
        """A stage speaks for itself alone."""
        match received.message:
            case Presence() as presence if presence.stage == received.source:
                self.peers.heard(presence, now_ns)
            case Captured() as captured if received.source == f"capture_{captured.camera}":
                self._step(CapturedSeen(captured))
            case Verdict() as verdict if received.source == verdict.inspector:
                self._step(VerdictSeen(verdict))
            case _:
                self.control.refuse(received, f"{received.topic} of another stage")

    def _swap(self, now_ns: int) -> None:
        """Between two looks at the PLC: what takes over does so for the triggers of the next one."""
        self.peers.needed = needed(self.state.terms.recipes.values())
        for switched in self.swaps.turn(now_ns, self.peers.ready(now_ns)):
            self._step(switched)
            self.peers.needed = needed(self.state.terms.recipes.values())
        self.swaps.tell(self.control, self.state, now_ns)

    def _fell(self, name: str) -> None:
        """A process has ended: the PLC hears it first, and the panels that wait for its word are rejects now."""
        LOG.error("stage lost", extra={"which": name})
        self.swaps.fell(name)
        self._beat_if_due(time.monotonic_ns())
        for panel in self.state.panels:
            if waits_for(panel, name):
                self._step(Unrouted(panel.token))

    def wind_up(self, life: Life) -> None:
        """Reject what is open, wait for the acknowledgements, leave the PLC's slots empty and the state halted."""
        self.halting = True
        patience_ns = (self.config.timing.ack_ms + 100) * MS
        end_ns = time.monotonic_ns() + patience_ns
        self._beat_if_due(time.monotonic_ns())  # a PLC that knows the state places nothing from here on
        self._look_at_plc()  # what it placed before that
        self._step(Stopping())
        while self.state.panels and self.linked and time.monotonic_ns() < end_ns:
            self.bus.poll(self.pause_ms(time.monotonic_ns()))
            self.turn(time.monotonic_ns())
            life.tell("waiting", "closing open panels", self.counters())
        self._step(Tick(time.monotonic_ns() + (self.config.timing.window_ms + self.config.timing.ack_ms) * MS))
        self._beat_ns = 0
        self._beat_if_due(time.monotonic_ns())
        self._record("state", event="stop")
        self._keep_ledger(end_ns, due=True)

    def health(self) -> tuple[str, str]:
        if not self.linked:
            return "waiting", f"waiting for the PLC: {self.link_text}"
        if not self.state.ledger_ok:
            return "error", "the ledger cannot be written"
        missing = self.peers.missing(time.monotonic_ns())
        return ("waiting", f"waiting for {', '.join(missing)}") if missing else ("ready", self.line_state.name)

    def counters(self) -> dict[str, int | float]:
        counted = {"alarms": self.alarms, "messages_dropped": self.control.dropped.total()}
        refused = sum(self.bus.door.refused.values()) if self.bus.door else 0
        return counters(self.state) | counted | {"clients_refused": refused}

    def reading(self) -> Reading:
        """What a scrape finds."""
        more: Reading = {"alarms": self.alarms, "ledger_owed": self.ledger.owed}
        now_ns = time.monotonic_ns()
        return {**reading(self.state, self.line_state, now_ns), **more, "peer_age": self.peers.ages_s(now_ns)}

    # --- hand-shake ---

    def _step(self, event: Event) -> None:
        self.state, actions = step(self.state, event)
        for action in actions:
            self._perform(action)

    def _perform(self, action: Action) -> None:
        note(self.metrics, action, time.monotonic_ns())
        match action:
            case Record(name, what):
                self._record(name, **what)
            case Route(trigger):
                routes = [f"capture_{camera}" for camera in trigger.cameras]
                routes += [trigger.inspector] if trigger.inspector else []
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
                self.alarms += not outcome.acknowledged or (
                    outcome.outcome is Outcome.PASS and outcome.fault is not None
                )
                self.outcomes.send("outcomes", outcome)

    def _write(self, write: Write) -> None:
        """Intent, PLC, written. A pass whose intent could not be recorded is not written: the panel is a reject."""
        result = write.result
        if write.outcome is Outcome.PASS and time.monotonic_ns() >= write.deadline_ns:
            return self._step(Unrecorded(write.token, Fault.LATE))  # the writes before it took the time
        intent = {"token": write.token, "seq": result.seq, "outcome": write.outcome, "fault": write.fault}
        if not self._record("intent", **intent) and write.outcome is Outcome.PASS:
            return self._step(Unrecorded(write.token))
        self._look_due_ns = 0  # its answer comes at once
        if self._guarded(lambda: self.plc.write(write.slot, result)):
            self._record("written", token=write.token, seq=result.seq, code=result.code)
        return None

    def _record(self, name: str, **what: Any) -> bool:
        return self._recorded(lambda: self.ledger.record(name, **what))

    def _recorded(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except LedgerError as error:
            if self.state.ledger_ok:
                LOG.error(str(error))
                self.state, _ = step(self.state, LedgerState(ok=False))
            return False
        if not self.state.ledger_ok:
            LOG.info("the ledger can be written again")
            self.state, _ = step(self.state, LedgerState(ok=True))
        return True

    def _keep_ledger(self, now_ns: int, *, due: bool = False) -> None:
        """Sign the ledger now and then; while it cannot be written, look whether it can again."""
        pause_ns = self.config.archive.anchor_s * 1000 * MS if self.state.ledger_ok else RETRY_NS
        if due or now_ns - self._ledger_ns > pause_ns:
            self._ledger_ns = now_ns
            self._recorded(lambda: self.ledger.anchor(self.key.sign))

    # --- the PLC ---

    def _look_at_plc(self) -> None:
        if not self.linked and not self._link():
            return
        since_ns, began_ns = self._looked_ns, time.monotonic_ns()
        try:
            image = self.plc.read()
        except PlcError as error:
            self._lost(error)
            return
        self._looked_ns = began_ns
        tokens, now_ns = tuple(secrets.token_hex(16) for _ in range(SLOTS)), time.monotonic_ns()
        self._step(PlcSeen(image.slots, now_ns, tokens, self.peers.assigned(now_ns), since_ns))

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
        self._beat = (self._beat + bool(self.peers.inspectors(now_ns))) & 0xFFFF
        counts = (self.state.triggers, self.state.passed, self.state.rejected)
        self._guarded(lambda: self.plc.status(LineStatus(self._beat, int(state), *counts)))

    def _line_state(self, now_ns: int) -> LineState:
        if self.halting:
            return LineState.HALTED
        if not self.state.ledger_ok:
            return LineState.ERROR
        if self.peers.missing(now_ns):
            return LineState.ERROR if self.was_ready else LineState.INITIALIZED
        self.was_ready = True
        return LineState.CONTINUOUS_EXECUTION if self.state.triggers else LineState.READY
