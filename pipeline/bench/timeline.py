"""Where each panel's time went, from the ledger's records and the PLC's own rows. Pure.

Open loop: panel n was due n takts after the first, and its time counts from then, whatever became of the panels before
it. Stamps are of one host's monotonic clock. A panel that no inspection judged in time took at least the window.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.messages import Fault
from pipeline.plcs import ACK_PASSED, ACK_REJECTED

MS = 1_000_000
STAGES = {  # in the order of the way; what ends there
    "belt": "due -> trigger edge: the simulated belt lags behind its schedule; no part of the line",
    "exposure": "edge -> last exposure's end, as the camera's settings say",
    "readout": "-> the set lies in the ring and is known to be this trigger's",
    "queue": "-> the inspector has done with the batch before",
    "carrier": "-> its batch begins: digest, message, the last camera's set held",
    "check": "-> digests compared, integrity of the raw frames checked",
    "prepare": "-> corrected and gathered into the batch",
    "network": "-> the network has answered, copies to its device and back inside",
    "stitch": "-> golden defect verified, maps of tiles put together",
    "decide": "-> mask, defects, verdict",
    "publish": "-> the bridge has the verdict",
    "confirm": "-> the bridge has every camera's word that the set is whole",
    "plc_write": "-> intent recorded, result written to the PLC",
    "ack": "-> the PLC has decided",
    "unanswered": "no verdict came: edge -> the PLC's decision",
}
NO_SLOT = "NO_SLOT"
TIMES_OUT = {Fault.LATE.value, Fault.NOT_CAPTURED.value, NO_SLOT}
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """What was asked of the belt. `exposure_ms`: all exposures of a set; `panels` that were due."""

    takt_ms: float
    window_ms: float
    exposure_ms: float
    panels: int


@dataclass(frozen=True)
class Timeline:
    """One panel that was due. `stages` add up to what it took, as far as stamps tell."""

    panel: int
    panel_id: str
    outcome: str  # PASS, REJECT, a fault's name or NO_SLOT
    due_ms: float  # since the first one
    latency_ms: float  # due -> the PLC's decision; without an inspection's result at least the window
    stages: Mapping[str, float]  # ms
    batch: int = 0

    @property
    def inspected(self) -> bool:
        return self.outcome in ("PASS", "REJECT")

    @property
    def late(self) -> bool:
        """Its time ran out; other faults are no question of speed."""
        return self.outcome in TIMES_OUT


@dataclass
class _Marks:
    """What the ledger says of one trigger; nanoseconds, 0: not told."""

    timing: Record = field(default_factory=dict)
    heard_ns: int = 0
    confirmed_ns: int = 0
    written_ns: int = 0
    freed_ns: int = 0  # the inspector had done with the batch before
    outcome: Record = field(default_factory=dict)


def timelines(records: Iterable[Record], rows: Sequence[Record], run: Run) -> list[Timeline]:
    """Of every panel that was due, in order. A panel that the line's end caught is left out."""
    placed = {row["panel"]: row for row in rows if "seq" in row}
    if not placed:
        return []
    first = min(placed)
    began_ns = placed[first]["trigger_ns"] - round(first * run.takt_ms * MS)
    marks = _marked(records)
    _queued(marks.values())
    each = (_timeline(n, placed.get(n), began_ns, marks, run) for n in range(first, run.panels))
    return [one for one in each if one.outcome != Fault.STOPPED]


def _marked(records: Iterable[Record]) -> dict[int, _Marks]:
    """By the PLC's sequence."""
    tokens: dict[str, _Marks] = {}
    found: dict[int, _Marks] = {}
    for record in records:
        if record["step"] == "trigger":
            tokens[record["token"]] = found[record["seq"]] = _Marks()
        elif marks := tokens.get(record.get("token", "")):
            _note(marks, record)
    return found


def _queued(marks: Iterable[_Marks]) -> None:
    """Note since when the inspector was free for each panel; what lay there before that waited in its queue."""
    judged = [one for one in marks if one.timing]
    decided = sorted({one.timing["decided_ns"] for one in judged})
    for one in judged:
        before = bisect_right(decided, one.timing["started_ns"])
        one.freed_ns = decided[before - 1] if before else 0


def _note(marks: _Marks, record: Record) -> None:
    match record["step"]:
        case "verdict":
            marks.heard_ns = marks.heard_ns or record["at_ns"]
            marks.timing = marks.timing or record.get("timing") or {}
        case "captured":
            marks.confirmed_ns = record["at_ns"]
        case "written":
            marks.written_ns = record["at_ns"]
        case "outcome":
            marks.outcome = record
            marks.timing = record.get("timing") or marks.timing


def _timeline(panel: int, row: Record | None, began_ns: int, marks: Mapping[int, _Marks], run: Run) -> Timeline:
    due_ns = began_ns + round(panel * run.takt_ms * MS)
    due_ms = (due_ns - began_ns) / MS
    if row is None:
        return Timeline(panel, "", NO_SLOT, due_ms, run.window_ms, {})
    known = marks.get(row["seq"], _Marks())
    acked_ns = row["trigger_ns"] + round((row["latency_ms"] or run.window_ms) * MS)
    outcome = _outcome(row, known.outcome)
    inspected = outcome in ("PASS", "REJECT")
    ends = _ends(row["trigger_ns"], run, known) + ([("ack", acked_ns)] if inspected else [])
    if not known.timing and not inspected:
        ends = [("belt", row["trigger_ns"]), ("unanswered", acked_ns)]
    took_ms = (acked_ns - due_ns) / MS
    stages = _spans(due_ns, ends, acked_ns if inspected else None)
    latency_ms = took_ms if inspected else max(took_ms, run.window_ms)
    return Timeline(panel, row["panel_id"], outcome, due_ms, latency_ms, stages, int(known.outcome.get("batch") or 0))


def _outcome(row: Record, outcome: Record) -> str:
    """The fault where there is one; the PLC's own time-out goes before what we believe."""
    if fault := outcome.get("fault"):
        return str(fault)
    if not outcome or row["ack_code"] not in (ACK_PASSED, ACK_REJECTED):
        return Fault.LATE.value
    return "PASS" if row["ack_code"] == ACK_PASSED else "REJECT"


def _ends(edge_ns: int, run: Run, known: _Marks) -> list[tuple[str, int]]:
    """When each stage ended, in the order of the way; 0: not told."""
    told = {"prepare_took_ns": 0, "run_took_ns": 0, "stitch_took_ns": 0, "ready_ns": 0, "checked_ns": 0}
    timing = told | {"started_ns": 0, "decided_ns": 0} | dict(known.timing)
    checked_ns, ready_ns = timing["checked_ns"], timing["ready_ns"]
    prepared_ns = checked_ns and checked_ns + timing["prepare_took_ns"]
    ran_ns = checked_ns and prepared_ns + timing["run_took_ns"]
    return [
        ("belt", edge_ns),
        ("exposure", ready_ns and min(ready_ns, edge_ns + round(run.exposure_ms * MS))),
        ("readout", ready_ns),
        ("queue", ready_ns and max(ready_ns, known.freed_ns)),
        ("carrier", timing["started_ns"]),
        ("check", checked_ns),
        ("prepare", prepared_ns),
        ("network", ran_ns),
        ("stitch", checked_ns and ran_ns + timing["stitch_took_ns"]),
        ("decide", timing["decided_ns"]),
        ("publish", known.heard_ns),
        ("confirm", known.confirmed_ns),
        ("plc_write", known.written_ns),
    ]


def _spans(due_ns: int, ends: Sequence[tuple[str, int]], last_ns: int | None) -> dict[str, float]:
    """Milliseconds by stage; they add up to the last end, since no stage ends before the one before it did."""
    found, at_ns = {}, due_ns
    for name, end_ns in ends:
        if not end_ns:  # not told: the next stage has its time
            continue
        end_ns = max(end_ns if last_ns is None else min(end_ns, last_ns), at_ns)
        found[name], at_ns = (end_ns - at_ns) / MS, end_ns
    return found
