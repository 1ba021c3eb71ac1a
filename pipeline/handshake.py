"""The hand-shake with the PLC: what the bridge knows of every open panel, and what it does next.

Pure: no socket, no clock, no file. `step` takes the state and one event and gives the next state and the actions,
in order. Panels are forgotten once closed, so whatever comes for them later can only be recorded.
"""

from dataclasses import replace
from typing import Any

from pipeline.decision import decide, final, physical, result
from pipeline.messages import Captured, Fault, Outcome, Trigger, Verdict
from pipeline.open_panels import (
    Action,
    CapturedSeen,
    Clear,
    Event,
    LedgerState,
    LinkLost,
    Panel,
    PlcSeen,
    Publish,
    Record,
    Route,
    State,
    Stopping,
    Terms,
    Tick,
    Unrecorded,
    Unrouted,
    VerdictSeen,
    Write,
)
from pipeline.plcs import ACK_PASSED, ACK_REJECTED, ACK_TIMED_OUT, SLOTS, SlotSeen

WRAP = 1 << 32
LONGEST_JUMP = 4096  # a larger one is a PLC that counts anew, not that many missed panels
ACKS = (ACK_PASSED, ACK_REJECTED, ACK_TIMED_OUT)


def step(state: State, event: Event) -> tuple[State, list[Action]]:
    """The next state and what to do, in order."""
    match event:
        case PlcSeen():
            state, closed = _acknowledged(state, event)
            state, opened = _triggered(state, event)
            state, decided = _decide_all(state, event.now_ns)
            return state, [*closed, *opened, *decided]
        case CapturedSeen(captured):
            return _captured(state, captured)
        case VerdictSeen(verdict):
            return _judged(state, verdict)
        case Unrouted(token):
            return _faulted(state, token, Fault.UNROUTABLE), []
        case Unrecorded(token, fault):
            return _unwritten(state, token, fault), []
        case LinkLost():
            return _all_faulted(state, Fault.PLC_LOST), []
        case LedgerState(ok):
            state = replace(state, ledger_ok=ok)
            return (state if ok else _all_faulted(state, Fault.LEDGER)), []
        case Stopping():
            return _all_faulted(replace(state, stopping=True), Fault.STOPPED), []
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
            fault=Fault.CRASH,
            written=Outcome(record["intent"]) if record.get("intent") else None,
            reopened=True,
        )
        for record in open_records
    )
    return replace(state, panels=panels, triggers=state.triggers + len(panels))


# --- triggers ---


def _ahead(seq: int, last: int) -> int:
    """How far `seq` lies ahead of `last`, negative when behind."""
    return (seq - last + WRAP // 2) % WRAP - WRAP // 2


def _triggered(state: State, event: PlcSeen) -> tuple[State, list[Action]]:
    last = event.slots[0].trigger_seq if state.last_seq is None else state.last_seq
    furthest = max(_ahead(slot.trigger_seq, last) for slot in event.slots)
    newest = (last + furthest) % WRAP
    if state.last_seq is None:
        return _too_old(replace(state, last_seq=newest), event)
    if not 0 <= furthest <= LONGEST_JUMP:
        return _counts_anew(state, event, newest)
    new = [slot for slot in event.slots if _ahead(slot.trigger_seq, last) > 0]
    new.sort(key=lambda slot: _ahead(slot.trigger_seq, last))
    before = [last, *(slot.trigger_seq for slot in new)]
    actions: list[Action] = []
    for previous, seen, token in zip(before, new, event.tokens, strict=False):
        state, missed = _missed(state, previous, seen, event.now_ns)
        state, opened = _opened(state, seen, token, event)
        actions += [*missed, *opened]
    return state, actions


def _counts_anew(state: State, event: PlcSeen, newest: int) -> tuple[State, list[Action]]:
    """The PLC's count went back or leapt: it was restarted. What it waits for already is too old to be inspected."""
    jump = {"event": "the PLC counts anew", "from": state.last_seq, "to": newest}
    state, closed = _too_old(replace(state, last_seq=newest), event)
    return state, [Record("state", jump), *closed]


def _too_old(state: State, event: PlcSeen) -> tuple[State, list[Action]]:
    """What the PLC waits for already, at the first look, has an outcome of its own too."""
    actions: list[Action] = []
    ours = {panel.seq for panel in state.panels}
    for seen in event.slots:
        if seen.trigger_seq != seen.ack_seq and seen.trigger_seq not in ours:
            state, closed = _ghost(state, seen, event.now_ns)
            actions += closed
    return state, actions


def _missed(state: State, last: int, seen: SlotSeen, now_ns: int) -> tuple[State, list[Action]]:
    """Each skipped number is a trigger with an outcome of its own."""
    actions: list[Action] = []
    for step_on in range(1, _ahead(seen.trigger_seq, last)):
        state, closed = _ghost(state, SlotSeen((last + step_on) % WRAP, "", seen.recipe_no, 0, 0, 0), now_ns)
        actions += closed
    return state, actions


def _ghost(state: State, seen: SlotSeen, now_ns: int) -> tuple[State, list[Action]]:
    """A trigger that was never taken up; its name holds the time, because a restarted PLC uses its numbers again."""
    ghost = Panel(seen.trigger_seq % SLOTS, seen, f"missed-{seen.trigger_seq}-{now_ns}", 0, 0)
    state, closed = _close(
        replace(state, triggers=state.triggers + 1), ghost, Outcome.REJECT, Fault.MISSED_TRIGGER, None
    )
    return state, [Record("trigger", _identity(ghost)), *closed]


def _opened(state: State, seen: SlotSeen, token: str, event: PlcSeen) -> tuple[State, list[Action]]:
    terms, slot = state.terms, seen.trigger_seq % SLOTS
    actions: list[Action] = []
    for left in [panel for panel in state.panels if panel.slot == slot]:
        state, given_up = _given_up(state, left)
        actions += given_up
    patience = min(terms.window_ns, seen.window_ms * 1_000_000) if seen.window_ms else terms.window_ns
    panel = Panel(slot, seen, token, event.now_ns, event.now_ns + patience - terms.margin_ns, event.inspector or "")
    panel = replace(panel, fault=_fault_at_start(state, panel, event))
    state = replace(state, last_seq=seen.trigger_seq, panels=(*state.panels, panel), triggers=state.triggers + 1)
    actions.append(Record("trigger", _identity(panel)))
    if panel.fault is None:
        actions.append(Route(_trigger(terms, panel)))
    return state, actions


def _fault_at_start(state: State, panel: Panel, event: PlcSeen) -> Fault | None:
    if state.stopping:
        return Fault.STOPPED
    if not state.ledger_ok:
        return Fault.LEDGER
    if panel.seen.recipe_no not in state.terms.recipes:
        return Fault.RECIPE
    if event.now_ns - event.since_ns > state.terms.early_ns:
        return Fault.ASSOCIATION  # seen so late that the next panel's exposure may look like this one's
    return None if panel.inspector else Fault.UNROUTABLE


def _trigger(terms: Terms, panel: Panel) -> Trigger:
    return Trigger(
        station=terms.station,
        token=panel.token,
        seq=panel.seq,
        panel_id=panel.seen.panel_id,
        recipe_no=panel.seen.recipe_no,
        recipe=terms.recipes[panel.seen.recipe_no].recipe,
        inspector=panel.inspector,
        cameras=terms.cameras,
        edge_ns=panel.edge_ns,
        window_ms=max(panel.deadline_ns - panel.edge_ns, 0) // 1_000_000,
    )


def _identity(panel: Panel) -> dict[str, Any]:
    return {
        "token": panel.token,
        "seq": panel.seq,
        "panel_id": panel.seen.panel_id,
        "recipe_no": panel.seen.recipe_no,
        "edge_ns": panel.edge_ns,
    }


# --- what the cameras and the inspector say ---


def _find(state: State, token: str) -> Panel | None:
    return next((panel for panel in state.panels if panel.token == token), None)


def _put(state: State, panel: Panel) -> State:
    return replace(state, panels=tuple(panel if old.token == panel.token else old for old in state.panels))


def _faulted(state: State, token: str, fault: Fault) -> State:
    panel = _find(state, token)
    if panel is None or panel.fault or panel.written:
        return state
    return _put(state, replace(panel, fault=fault))


def _unwritten(state: State, token: str, fault: Fault) -> State:
    """The slot is still empty: the next decision is a reject."""
    panel = _find(state, token)
    return _put(state, replace(panel, written=None, fault=fault)) if panel else state


def _contradicted(state: State, panel: Panel, fault: Fault) -> State:
    """News against a panel: a reject while nothing is written, a doubt about a pass that is."""
    if panel.written is Outcome.PASS:
        return _put(state, replace(panel, doubt=panel.doubt or fault))
    return _faulted(state, panel.token, fault)


def _all_faulted(state: State, fault: Fault) -> State:
    for panel in state.panels:
        state = _faulted(state, panel.token, fault)
    return state


def _captured(state: State, captured: Captured) -> tuple[State, list[Action]]:
    what = captured.model_dump(include={"token", "camera", "frame_ids", "digest", "fault"})
    panel = _find(state, captured.token)
    record = Record("captured", what | ({} if panel else {"late": True}))
    if panel is None:
        return state, [record]
    ours = captured.station == state.terms.station and captured.camera in state.terms.cameras
    if captured.fault or not ours or not captured.digest:
        return _contradicted(state, panel, captured.fault or Fault.MISMATCH), [record]
    known = dict(panel.captured)
    if known.get(captured.camera, captured.digest) != captured.digest:
        return _contradicted(state, panel, Fault.CONFLICT), [record]
    pairs = tuple((known | {captured.camera: captured.digest}).items())
    return _put(state, replace(panel, captured=pairs)), [record]


def _judged(state: State, verdict: Verdict) -> tuple[State, list[Action]]:
    panel = _find(state, verdict.token)
    what = verdict.model_dump(include={"token", "inspector", "outcome", "fault", "digest", "score", "limit", "batch"})
    record = Record("verdict", what | ({"late": True} if panel is None or panel.written else {}))
    if panel is None:
        return state, [record]
    if panel.verdict is None:
        return _put(state, replace(panel, verdict=verdict)), [record]
    if _says(verdict) != _says(panel.verdict):
        return _contradicted(state, panel, Fault.CONFLICT), [record]
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
            state = _put(state, replace(panel, written=outcome, fault=fault))
            actions.append(
                Write(
                    panel.slot,
                    panel.token,
                    result(panel, outcome, fault, state.terms, now_ns),
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
        state, closed = _close(state, panel, outcome, fault, event.now_ns)
        actions += [*closed, Clear(panel.slot)]
    return state, actions


def _expire(state: State, now_ns: int) -> tuple[State, list[Action]]:
    """No acknowledgement: where the panel went is unknown."""
    actions: list[Action] = []
    for panel in state.panels:
        if now_ns > panel.deadline_ns + state.terms.margin_ns + state.terms.ack_ns:
            state, given_up = _given_up(state, panel)
            actions += given_up
    return state, actions


def _given_up(state: State, panel: Panel) -> tuple[State, list[Action]]:
    """The PLC will not say any more what became of the panel."""
    unknown = panel.fault if panel.fault in (Fault.CRASH, Fault.PLC_LOST, Fault.STOPPED) else Fault.UNACKNOWLEDGED
    state, closed = _close(state, panel, Outcome.REJECT, unknown, now_ns=None)
    return state, [*closed, Clear(panel.slot)]


def _close(
    state: State, panel: Panel, outcome: Outcome, fault: Fault | None, now_ns: int | None
) -> tuple[State, list[Action]]:
    """The panel's one outcome. `now_ns` is None where the PLC did not say what became of it."""
    said = final(state.terms, panel, outcome, fault, now_ns)
    passed = outcome is Outcome.PASS
    state = replace(
        state,
        panels=tuple(other for other in state.panels if other.token != panel.token),
        passed=state.passed + passed,
        rejected=state.rejected + (not passed),
    )
    what = said.model_dump(exclude={"station", "defects"}) | {"token": panel.token, "edge_ns": panel.edge_ns}
    if panel.verdict is not None:
        shown = panel.verdict.model_dump(include={"defects", "timing", "batch"}, mode="json")
        what |= shown
    return state, [Record("outcome", what), Publish(said)]
