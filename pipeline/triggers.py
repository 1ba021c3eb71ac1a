"""Triggers as the PLC's slots show them: what is new, what was skipped, what cannot be inspected. Pure.

A trigger is new when its slot shows another number than at the last look, whatever number that is, or when it waits
again for what was decided: so every one has its record, also from a PLC that was restarted and counts anew.
"""

from dataclasses import replace
from typing import Any

from pipeline.messages import Fault, Outcome, Trigger
from pipeline.open_panels import Action, Edge, Panel, PlcSeen, Record, Route, Shown, State, Terms
from pipeline.panel_steps import close, contradicted, find, given_up
from pipeline.plcs import ACKS, SLOTS, SlotSeen

WRAP = 1 << 32
LONGEST_JUMP = 4096  # a larger one is a PLC that counts anew, not that many missed panels


def ahead(seq: int, last: int) -> int:
    """How far `seq` lies ahead of `last`, negative when behind."""
    return (seq - last + WRAP // 2) % WRAP - WRAP // 2


def triggered(state: State, event: PlcSeen) -> tuple[State, list[Action]]:
    """Take up what is new in the slots, in the order of the PLC's count."""
    shown, last = state.shown, state.last_seq
    state = replace(state, shown=tuple(Shown(seen.trigger_seq, _waits(seen)) for seen in event.slots))
    if last is None:
        return _too_old(state, event)
    new = [seen for before, seen in zip(shown, event.slots, strict=True) if _is_new(last, before, seen)]
    on = [seen for seen in new if 0 < ahead(seen.trigger_seq, last) <= LONGEST_JUMP]
    on.sort(key=lambda seen: ahead(seen.trigger_seq, last))
    anew = [seen for seen in new if seen not in on]
    actions: list[Action] = []
    previous = [last, *(seen.trigger_seq for seen in on)]
    for seen, token, before in zip(on, event.tokens, previous, strict=False):
        state, missed = _missed(state, seen, before, event.now_ns)
        state, opened = _opened(state, seen, token, event)
        actions += [*missed, *opened]
    state, counted = _counts_anew(state, anew, event, event.tokens[len(on) :])
    return state, actions + counted


def _waits(seen: SlotSeen) -> bool:
    return seen.trigger_seq != seen.ack_seq


def _holds(seen: SlotSeen) -> bool:
    """A trigger, decided or not; False for a slot that was emptied."""
    return _waits(seen) or seen.ack_code in ACKS


def _is_new(last: int, shown: Shown | None, seen: SlotSeen) -> bool:
    if shown is None:  # not known from before: all up to the last number was taken up
        distance = ahead(seen.trigger_seq, last)
        return distance > 0 or (distance <= -SLOTS and _waits(seen))
    return seen.trigger_seq != shown.seq or (_waits(seen) and not shown.waited)


def _counts_anew(
    state: State, anew: list[SlotSeen], event: PlcSeen, tokens: tuple[str, ...]
) -> tuple[State, list[Action]]:
    """The PLC's count went back or leapt: it was restarted. No camera counts as it does, so nothing of it passes."""
    if not anew:
        return state, []

    def place(seen: SlotSeen) -> int:
        return ahead(seen.trigger_seq, anew[0].trigger_seq)

    newest = max(anew, key=place).trigger_seq
    actions: list[Action] = [Record("state", {"event": "the PLC counts anew", "from": state.last_seq, "to": newest})]
    for seen, token in zip(sorted(filter(_holds, anew), key=place), tokens, strict=False):
        state, opened = _opened(state, seen, token, event, Fault.ASSOCIATION)
        actions += opened
    return replace(state, last_seq=newest), actions


def _too_old(state: State, event: PlcSeen) -> tuple[State, list[Action]]:
    """What the PLC waits for already, at the very first look, has an outcome of its own too."""
    first = event.slots[0].trigger_seq
    newest = max((seen.trigger_seq for seen in event.slots), key=lambda seq: ahead(seq, first))
    state, actions = replace(state, last_seq=newest), []
    for seen in filter(_waits, event.slots):
        state, closed = _ghost(state, seen, event.now_ns, {})
        state = replace(state, newest=Edge("", event.since_ns, event.now_ns))
        actions += closed
    return state, actions


def _missed(state: State, seen: SlotSeen, last: int, now_ns: int) -> tuple[State, list[Action]]:
    """Each skipped number is a trigger with an outcome of its own; no slot showed it."""
    actions: list[Action] = []
    for step_on in range(1, ahead(seen.trigger_seq, last)):
        skipped = SlotSeen((last + step_on) % WRAP, "", seen.recipe_no, 0, 0, 0)
        state, closed = _ghost(state, skipped, now_ns, {"skipped": True})
        actions += closed
    return state, actions


def _ghost(state: State, seen: SlotSeen, now_ns: int, why: dict[str, Any]) -> tuple[State, list[Action]]:
    """A trigger that was never taken up; its name holds the time, because a restarted PLC uses its numbers again."""
    token, expected = f"missed-{seen.trigger_seq}-{now_ns}", state.terms.recipes.get(seen.recipe_no)
    ghost = Panel(seen.trigger_seq % SLOTS, seen, token, 0, 0, expected)
    state, closed = close(
        replace(state, triggers=state.triggers + 1), ghost, Outcome.REJECT, Fault.MISSED_TRIGGER, None
    )
    return state, [Record("trigger", _identity(ghost) | why), *closed]


def _opened(
    state: State, seen: SlotSeen, token: str, event: PlcSeen, fault: Fault | None = None
) -> tuple[State, list[Action]]:
    terms, slot = state.terms, seen.trigger_seq % SLOTS
    actions: list[Action] = []
    for left in [panel for panel in state.panels if panel.slot == slot]:
        state, closed = given_up(state, left)
        actions += closed
    patience = min(terms.window_ns, seen.window_ms * 1_000_000) if seen.window_ms else terms.window_ns
    deadline_ns, expected = event.now_ns + patience - terms.margin_ns, terms.recipes.get(seen.recipe_no)
    panel = Panel(slot, seen, token, event.now_ns, deadline_ns, expected, event.inspector)
    panel = replace(panel, fault=fault or _fault_at_start(state, panel, event))
    state = _parted(state, event)
    newest = Edge(token, event.since_ns, event.now_ns)
    panels = (*state.panels, panel)
    state = replace(state, last_seq=seen.trigger_seq, newest=newest, panels=panels, triggers=state.triggers + 1)
    actions.append(Record("trigger", _identity(panel)))
    if panel.fault is not Fault.ASSOCIATION:  # its frames are taken too, else they would be its neighbours' surplus
        actions.append(Route(_trigger(terms, panel)))
    return state, actions


def _fault_at_start(state: State, panel: Panel, event: PlcSeen) -> Fault | None:
    if _is_too_near(state, event):
        return Fault.ASSOCIATION
    if event.now_ns - event.since_ns > state.terms.early_ns:
        return Fault.ASSOCIATION  # seen so late that the next panel's exposure may look like this one's
    if state.stopping:
        return Fault.STOPPED
    if not state.ledger_ok:
        return Fault.LEDGER
    if panel.expected is None:
        return Fault.RECIPE
    return None if panel.inspector else Fault.UNROUTABLE


def _is_too_near(state: State, event: PlcSeen) -> bool:
    """The panel before is so near that the pictures of the two may be mixed up.

    Each edge lies between two looks. Too near is what may have come while the other's exposures last, and what came
    within `takt_ns` for certain if their windows overlap.
    """
    terms, before = state.terms, state.newest
    if before is None:
        return False
    overlap = event.now_ns - before.seen_ns <= terms.early_ns + terms.exposure_ns
    within_takt = event.now_ns - before.since_ns < terms.takt_ns
    return event.since_ns < before.seen_ns + terms.exposure_ns or (within_takt and overlap)


def _parted(state: State, event: PlcSeen) -> State:
    """The panel before one that follows too near is no better off."""
    before = find(state, state.newest.token) if state.newest else None
    if before is None or not _is_too_near(state, event):
        return state
    return contradicted(state, before, Fault.ASSOCIATION)


def _trigger(terms: Terms, panel: Panel) -> Trigger:
    """The announcement; a panel that is a reject already has no inspector, and its frames go nowhere."""
    expected = panel.expected
    return Trigger(
        station=terms.station,
        token=panel.token,
        seq=panel.seq,
        panel_id=panel.seen.panel_id,
        recipe_no=panel.seen.recipe_no,
        recipe=expected.recipe if expected else "",
        inspector=None if panel.fault else panel.inspector,
        cameras=terms.cameras,
        edge_ns=panel.edge_ns,
        window_ms=max(panel.deadline_ns - panel.edge_ns, 0) // 1_000_000,
    )


def _identity(panel: Panel) -> dict[str, Any]:
    """Which panel, and what it is to be judged by."""
    return {
        "token": panel.token,
        "seq": panel.seq,
        "panel_id": panel.seen.panel_id,
        "recipe_no": panel.seen.recipe_no,
        "edge_ns": panel.edge_ns,
        "recipe": panel.expected.recipe if panel.expected else "",
        "calibration": panel.expected.calibration if panel.expected else "",
        "engine": panel.expected.engine if panel.expected else "",
    }
