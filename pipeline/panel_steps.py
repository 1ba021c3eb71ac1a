"""What the hand-shake does to one panel: fault it, doubt it, close it. Pure."""

from dataclasses import replace

from pipeline.decision import final
from pipeline.messages import Fault, Outcome
from pipeline.open_panels import Action, Clear, Panel, Publish, Record, State


def find(state: State, token: str) -> Panel | None:
    return next((panel for panel in state.panels if panel.token == token), None)


def put(state: State, panel: Panel) -> State:
    return replace(state, panels=tuple(panel if old.token == panel.token else old for old in state.panels))


def faulted(state: State, token: str, fault: Fault) -> State:
    panel = find(state, token)
    if panel is None or panel.fault or panel.written:
        return state
    return put(state, replace(panel, fault=fault))


def unwritten(state: State, token: str, fault: Fault) -> State:
    """The slot is still empty: the next decision is a reject."""
    panel = find(state, token)
    return put(state, replace(panel, written=None, fault=fault)) if panel else state


def contradicted(state: State, panel: Panel, fault: Fault) -> State:
    """News against a panel: a reject while nothing is written, a doubt about a pass that is."""
    if panel.written is Outcome.PASS:
        return put(state, replace(panel, doubt=panel.doubt or fault))
    return faulted(state, panel.token, fault)


def given_up(state: State, panel: Panel) -> tuple[State, list[Action]]:
    """The PLC will not say any more what became of the panel."""
    unknown = panel.fault if panel.fault in (Fault.CRASH, Fault.PLC_LOST, Fault.STOPPED) else Fault.UNACKNOWLEDGED
    state, closed = close(state, panel, Outcome.REJECT, unknown, now_ns=None)
    return state, [*closed, Clear(panel.slot)]


def close(
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
