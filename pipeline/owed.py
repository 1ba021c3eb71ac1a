"""Records that could not be written yet, kept within bounds: details are left out first, then panels are folded.

What is folded is a reject, its trigger and its outcome both among the records that are owed: a count of them stands
in one record, so that triggers and outcomes still add up. A PASS keeps its own records always. Pure.
"""

import json
from collections.abc import Sequence
from typing import Any

from pipeline.messages import Fault, Outcome

Record = dict[str, Any]
NEVER_LEFT_OUT = ("file", "start", "recipe", "folded", "trigger", "outcome")


def size_of(record: Record) -> int:
    """Bytes of the record in the ledger, without its number and hash."""
    return len(json.dumps(record, separators=(",", ":"), default=str))


def within(records: Sequence[Record], most_bytes: int, wall: str) -> list[Record]:
    """The records in at most `most_bytes`, as far as leaving out details and folding the oldest panels goes.

    `wall` is the time now, for the record that says what is missing; it stands before the panels that are left.
    """
    closed = {record["token"] for record in records if record["step"] == "outcome"}
    kept = [record for record in records if _needed(record, closed)]
    panels = _oldest_panels(kept, sum(map(size_of, kept)) - most_bytes)
    left = [record for record in kept if record["step"] != "folded" and record.get("token") not in panels]
    before = [record for record in kept if record["step"] == "folded"]
    gone = [record for record in kept if record["step"] == "outcome" and record["token"] in panels]
    if len(records) == len(kept) and not gone:
        return list(records)
    note = _note([*before, *map(_counted, gone)], len(records) - len(kept), wall)
    at = int(bool(left) and left[0]["step"] == "file")  # a file opens with its own record
    return [*left[:at], note, *left[at:]]


def _needed(record: Record, closed: set[str]) -> bool:
    """The intent of an open panel says what it may have been told when the bridge is started again."""
    return record["step"] in NEVER_LEFT_OUT or (record["step"] == "intent" and record["token"] not in closed)


def _oldest_panels(records: Sequence[Record], over_bytes: int) -> set[str]:
    """Tokens of the oldest rejects, triggered and closed here, whose records are as large as that."""
    triggers = {record["token"]: record for record in records if record["step"] == "trigger"}
    found: set[str] = set()
    for record in records:
        if over_bytes <= 0:
            break
        if record["step"] == "outcome" and record["outcome"] != Outcome.PASS and record["token"] in triggers:
            found.add(record["token"])
            over_bytes -= size_of(record) + size_of(triggers[record["token"]])
    return found


def _counted(outcome: Record) -> Record:
    """One outcome as a count."""
    fault = outcome.get("fault")
    return {
        "triggers": 1,
        "rejected": int(not fault),
        "faults": {Fault(fault).value: 1} if fault else {},
        "left_out": 0,
        "first_seq": outcome["seq"],
        "last_seq": outcome["seq"],
    }


def _note(counts: Sequence[Record], left_out: int, wall: str) -> Record:
    """One record for all that is folded or left out."""
    faults: dict[str, int] = {}
    for count in counts:
        for name, number in count["faults"].items():
            faults[name] = faults.get(name, 0) + number
    totals = {name: sum(count[name] for count in counts) for name in ("triggers", "rejected", "left_out")}
    panels = [count for count in counts if count["triggers"]]
    return {
        "step": "folded",
        "wall": wall,
        **totals,
        "left_out": totals["left_out"] + left_out,
        "faults": faults,
        "first_seq": panels[0]["first_seq"] if panels else None,
        "last_seq": panels[-1]["last_seq"] if panels else None,
    }
