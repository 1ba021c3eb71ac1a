"""The hand-shake with the PLC: what the bridge knows of every open panel, and what it does next.

Pure: no socket, no clock, no file. `step` takes the state and one event and gives the next state and the actions,
in order. Panels are forgotten once closed, so whatever comes for them later can only be recorded.
"""

from dataclasses import replace
from math import nan
from typing import Any

from pipeline.decision import decide, physical, result
from pipeline.messages import Captured, Fault, Outcome, Verdict
from pipeline.open_panels import (
    Action,
    CapturedSeen,
    Clear,
    Event,
    Expected,
    LedgerState,
    LinkLost,
    Panel,
    PlcSeen,
    Record,
    State,
    Stopping,
    Switched,
    Tick,
    Unrecorded,
    Unrouted,
    VerdictSeen,
    Write,
)
from pipeline.panel_steps import close, contradicted, faulted, find, given_up, put, unwritten
from pipeline.plcs import ACKS, SLOTS, SlotSeen
from pipeline.triggers import triggered

RECORDED = {"token", "inspector", "outcome", "fault", "digest", "recipe", "engine", "score", "limit", "batch"}


def step(state: State, event: Event) -> tuple[State, list[Action]]:
    """The next state and what to do, in order."""
    match event:
        case PlcSeen():
            state, closed = _acknowledged(state, event)
            state, opened = triggered(state, event)
            state, decided = _decide_all(state, event.now_ns)
            return state, [*closed, *opened, *decided]
        case CapturedSeen(captured):
            return _captured(state, captured)
        case VerdictSeen(verdict):
            return _judged(state, verdict)
        case Unrouted(token):
            return faulted(state, token, Fault.UNROUTABLE), []
        case Unrecorded(token, fault):
            return unwritten(state, token, fault), []
        case LinkLost():
            return _all_faulted(state, Fault.PLC_LOST), []
        case LedgerState(ok):
            state = replace(state, ledger_ok=ok)
            return (state if ok else _all_faulted(state, Fault.LEDGER)), []
        case Stopping():
            return _all_faulted(replace(state, stopping=True), Fault.STOPPED), []
        case Switched(number, expected):
            return _switched(state, number, expected)
        case Tick(now_ns):
            state, expired = _expire(state, now_ns)
            state, decided = _decide_all(state, now_ns)
            return state, [*expired, *decided]


def reopen(state: State, open_records: list[dict[str, Any]], now_ns: int) -> State:
    """After a restart: the ledger's open triggers are rejects unless the PLC says what became of them."""
    panels = tuple(
        Panel(
            slot=int(record["seq"]) % SLOTS,
            seen=SlotSeen(int(record["seq"]), record["panel_id"], int(record["recipe_no"]), 0, 0, 0),
            token=record["token"],
            edge_ns=now_ns,
            deadline_ns=now_ns,
            expected=_recorded(record),
            fault=Fault.CRASH,
            written=Outcome(record["intent"]) if record.get("intent") else None,
            reopened=True,
        )
        for record in open_records
    )
    return replace(state, panels=panels, triggers=state.triggers + len(panels))


def _recorded(record: dict[str, Any]) -> Expected | None:
    """What a trigger's record says that it was to be judged by; without bounds, since nothing is proven by it."""
    names = [str(record.get(name, "")) for name in ("recipe", "calibration", "engine")]
    return Expected(*names, low=nan, limit=nan) if all(names) else None


# --- recipes ---


def _switched(state: State, number: int, expected: Expected) -> tuple[State, list[Action]]:
    """For the triggers from here on; panels in flight keep the terms that they were triggered with."""
    before, terms = state.terms.recipes.get(number), state.terms
    what = {"number": number, "from": vars(before) if before else None, "to": vars(expected)}
    terms = replace(terms, recipes={**terms.recipes, number: expected})
    return replace(state, terms=terms), [Record("recipe", what)]


# --- what the cameras and the inspector say ---


def _all_faulted(state: State, fault: Fault) -> State:
    for panel in state.panels:
        state = faulted(state, panel.token, fault)
    return state


def _captured(state: State, captured: Captured) -> tuple[State, list[Action]]:
    what = captured.model_dump(include={"token", "camera", "frame_ids", "digest", "fault"})
    panel = find(state, captured.token)
    record = Record("captured", what | ({} if panel else {"late": True}))
    if panel is None:
        return state, [record]
    ours = captured.station == state.terms.station and captured.camera in state.terms.cameras
    if captured.fault or not ours or not captured.digest:
        return contradicted(state, panel, captured.fault or Fault.MISMATCH), [record]
    known = dict(panel.captured)
    if known.get(captured.camera, captured.digest) != captured.digest:
        return contradicted(state, panel, Fault.CONFLICT), [record]
    pairs = tuple((known | {captured.camera: captured.digest}).items())
    return put(state, replace(panel, captured=pairs)), [record]


def _judged(state: State, verdict: Verdict) -> tuple[State, list[Action]]:
    panel = find(state, verdict.token)
    late = panel is None or panel.written is not None
    what = verdict.model_dump(include=RECORDED | ({"timing"} if late else set()))
    record = Record("verdict", what | ({"late": True} if late else {}))
    if panel is None:
        return state, [record]
    if panel.verdict is None:
        return put(state, replace(panel, verdict=verdict)), [record]
    if _says(verdict) != _says(panel.verdict):
        return contradicted(state, panel, Fault.CONFLICT), [record]
    return state, [record]


def _says(verdict: Verdict) -> dict[str, Any]:
    """What two verdicts must agree on: all but who said it, when and in which company."""
    said = verdict.model_dump(exclude={"timing", "batch", "inspector"})
    return said | {"score": repr(verdict.score), "limit": repr(verdict.limit)}


# --- decisions ---


def _decide_all(state: State, now_ns: int) -> tuple[State, list[Action]]:
    actions: list[Action] = []
    for panel in state.panels:
        decision = None if panel.written else decide(panel, state.terms, now_ns)
        if decision is not None:
            outcome, fault = decision
            state = put(state, replace(panel, written=outcome, fault=fault))
            actions.append(
                Write(
                    panel.slot,
                    panel.token,
                    result(panel, outcome, fault, now_ns),
                    outcome,
                    fault,
                    panel.deadline_ns,
                )
            )
    return state, actions


# --- the end of a panel ---


def _acknowledged(state: State, event: PlcSeen) -> tuple[State, list[Action]]:
    actions: list[Action] = []
    for panel in state.panels:
        seen = event.slots[panel.slot]
        if seen.ack_seq != panel.seq or seen.ack_code not in ACKS:
            continue
        outcome, fault = physical(panel, seen.ack_code)
        actions.append(Record("ack", {"token": panel.token, "seq": panel.seq, "code": seen.ack_code}))
        state, closed = close(state, panel, outcome, fault, event.now_ns)
        actions += [*closed, Clear(panel.slot)]
    return state, actions


def _expire(state: State, now_ns: int) -> tuple[State, list[Action]]:
    """No acknowledgement: where the panel went is unknown."""
    actions: list[Action] = []
    for panel in state.panels:
        if now_ns > panel.deadline_ns + state.terms.margin_ns + state.terms.ack_ns:
            state, closed = given_up(state, panel)
            actions += closed
    return state, actions
