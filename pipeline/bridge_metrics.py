"""What the bridge counts: of the hand-shake's actions, of its state, and of every call to the PLC."""

import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.errors import PlcError
from pipeline.messages import FinalOutcome
from pipeline.metrics import Metrics, Reading
from pipeline.open_panels import Action, LineState, Publish, Record, State, Write
from pipeline.plcs import LineStatus, Plc, PlcImage, Result

GRACE_NS = 1_000_000_000  # a bridge that did not turn for so long leaves panels open
PASSING = (LineState.READY, LineState.CONTINUOUS_EXECUTION)
Given = TypeVar("Given")


def note(metrics: Metrics, action: Action, now_ns: int) -> None:
    """Count an action that is about to be performed."""
    match action:
        case Publish(outcome):
            metrics.count("outcomes", outcome.outcome, outcome.fault or "")
            _note_latency(metrics, outcome)
        case Write() if now_ns >= action.deadline_ns:
            metrics.count("deadline_misses")
        case Record("verdict", what) if what.get("late"):
            metrics.count("late_verdicts")


def _note_latency(metrics: Metrics, outcome: FinalOutcome) -> None:
    if outcome.latency_ms == outcome.latency_ms:  # nan: not acknowledged
        metrics.observe("latency_seconds", outcome.latency_ms / 1000)


def counters(state: State) -> dict[str, int | float]:
    """For its health."""
    return {
        "triggers": state.triggers,
        "passed": state.passed,
        "not_passed": state.rejected,
        "open": len(state.panels),
    }


def reading(state: State, line_state: LineState, now_ns: int) -> Reading:
    """One state, so that triggers, outcomes and open panels belong together."""
    patience_ns = state.terms.margin_ns + state.terms.ack_ns + GRACE_NS
    return {
        "triggers": state.triggers,
        "open": len(state.panels),
        "overdue": sum(now_ns > panel.deadline_ns + patience_ns for panel in state.panels),
        "ledger_ok": state.ledger_ok,
        "line_ready": line_state in PASSING,
        "line_state": int(line_state),
    }


class TimedPlc:
    """A PLC whose calls are timed, and whose heartbeat and ours are watched; fulfils `Plc`."""

    def __init__(self, plc: Plc, metrics: Metrics) -> None:
        self._plc, self._metrics = plc, metrics
        self._answers = False
        self._theirs, self._ours = Beat(), Beat()
        metrics.read(self._reading)

    def _reading(self) -> Reading:
        return {"plc_linked": self._answers, "plc_beat_age": self._theirs.age_s(), "beat_age": self._ours.age_s()}

    def read(self) -> PlcImage:
        image = self._timed("read", self._plc.read)
        self._answers = True
        self._theirs.seen(image.heartbeat)
        return image

    def clear(self, slot: int) -> None:
        self._timed("clear", lambda: self._plc.clear(slot))

    def write(self, slot: int, result: Result) -> None:
        self._timed("write", lambda: self._plc.write(slot, result))

    def status(self, status: LineStatus) -> None:
        self._timed("status", lambda: self._plc.status(status))
        self._ours.seen(status.heartbeat)

    def reconnect(self) -> None:
        self._timed("reconnect", self._plc.reconnect)

    def _timed(self, call: str, ask: Callable[[], Given]) -> Given:
        began_ns = time.monotonic_ns()
        try:
            return ask()
        except PlcError:
            if self._answers:
                self._metrics.count("plc_losses")
            self._answers = False
            raise
        finally:
            self._metrics.observe("plc_seconds", (time.monotonic_ns() - began_ns) / 1e9, call)


class Beat:
    """A heartbeat: how long ago it changed, or how long nothing was heard of it yet."""

    def __init__(self) -> None:
        self._value, self._changed_s = -1, time.monotonic()

    def seen(self, value: int) -> None:
        if value != self._value:
            self._value, self._changed_s = value, time.monotonic()

    def age_s(self) -> float:
        return time.monotonic() - self._changed_s
