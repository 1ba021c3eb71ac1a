"""The ledger recounted: what its lines alone say, trusting no process of the line."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.anchors import Anchor, anchor_of
from pipeline.ledger import FORMAT, GENESIS, STEPS, ledger_files, line_hash, tail
from pipeline.messages import Fault, Outcome
from pipeline.plcs import SLOTS

Names = tuple[str, str, str]  # recipe, calibration, engine


@dataclass
class Count:
    """What the records say. `faults` and `rejected` are disjoint; `open` has a trigger and no outcome yet."""

    records: int = 0
    triggers: int = 0
    passed: int = 0
    rejected: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    intact: bool = True
    first_broken: str | None = None
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[int, dict[str, Any]] = field(default_factory=dict)  # by the PLC's sequence
    folded: int = 0  # of the triggers: rejects that were only counted, while the disk was full
    left_out: int = 0  # records of details that were not written then
    last_seq: int | None = None  # of the newest trigger
    shown: dict[int, tuple[int, str]] = field(default_factory=dict)  # slot: sequence, token until it is acknowledged
    in_force: dict[int, Names] | None = None  # by the PLC's number; None: no start stands in what was read
    first: int | None = None  # number of the first record, where it is one
    broken_at: int | None = None  # how many lines stand before the first broken one
    anchors: list[Anchor] = field(default_factory=list)
    hashes: dict[int, str] = field(default_factory=dict)  # of the records before anchors, by number

    @property
    def balanced(self) -> bool:
        """triggers = passed + rejected by inspection + rejected by named fault."""
        return self.triggers == self.passed + self.rejected + sum(self.faults.values())


def newest(folder: Path) -> Count:
    """The end of the ledger recounted: which triggers are open, and the newest one's sequence.

    Only the end is read, since a start must not take longer the fuller the day's file is; so the other counts are
    those of the end alone, and nothing is said of whether the ledger is intact.
    """
    ends = [(file.name, line) for file in ledger_files(folder)[-2:] for line in tail(file).splitlines(keepends=True)]
    return recount(ends, whole=False)


def recount(
    lines: Iterable[tuple[str, bytes]],
    *,
    whole: bool = True,
    taken_over: Iterable[dict[str, Any]] = (),
    anchors: Iterable[Anchor] = (),
    keep_outcomes: bool = True,
) -> Count:
    """Re-hash the chain and count triggers and outcomes.

    `whole`: the first line must be the ledger's first. `taken_over` are triggers from before the first line that
    were open then: they count as if they stood here. The hashes that `anchors` speak of are kept for `anchors.check`.
    Without `keep_outcomes` they are counted and forgotten, so that months of files take no more memory than a day's.
    """
    wanted = {anchor.records - 1 for anchor in anchors}
    count = Count()
    for record in taken_over:
        _count(count, record)
    previous, number = GENESIS if whole else None, 0 if whole else None
    for place, line in lines:
        count.records += 1
        record = _parsed(line)
        problem = _broken(record, previous, number)
        if problem is None and record is not None:
            problem = _count(count, record)
            if not keep_outcomes:
                count.outcomes.clear()
            if record["step"] == "anchor" and previous is not None:
                count.anchors.append(anchor_of(record))
                count.hashes[record["n"] - 1] = previous
        if problem and count.intact:
            count.intact, count.first_broken = False, f"{place}: {problem}"
            count.broken_at = count.records - 1
        previous = line_hash(line)
        number = None if record is None else int(record["n"]) + 1
        if record is not None and record["n"] in wanted:
            count.hashes.setdefault(record["n"], previous)
        if record is not None and count.records == 1:
            count.first = record["n"]
    if count.intact and not count.balanced and not count.open:
        count.intact, count.first_broken = False, "the counts do not add up"
    return count


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and {"n", "step", "prev"} <= record.keys() and isinstance(record["n"], int)
    return record if known and _complete(record) else None


def _complete(record: dict[str, Any]) -> bool:
    """What is counted has the fields that counting needs."""
    if record["step"] == "anchor":
        return all(isinstance(record.get(name), str) for name in ("station", "wall", "prev", "signature"))
    if record["step"] == "folded":
        return _adds_up(record)
    if record["step"] not in ("trigger", "intent", "outcome"):
        return isinstance(record["step"], str) and isinstance(record.get("format", 0), int)
    named = isinstance(record.get("token"), str) and isinstance(record.get("seq"), int)
    if record["step"] == "trigger":
        return named
    return named and record.get("outcome") in tuple(Outcome) and record.get("fault") in (None, *Fault)


def _adds_up(record: dict[str, Any]) -> bool:
    """As many rejects as triggers, by known names; a PASS is never folded."""
    faults = record.get("faults")
    if not isinstance(faults, dict) or not faults.keys() <= set(Fault):
        return False
    named = ("triggers", "rejected", "left_out")
    if any(type(number) is not int or number < 0 for number in (*map(record.get, named), *faults.values())):
        return False
    return record["triggers"] == record["rejected"] + sum(faults.values())


def _broken(record: dict[str, Any] | None, previous: str | None, number: int | None) -> str | None:
    if record is None:
        return "not a record"
    if previous is not None and record["prev"] != previous:
        return "does not follow the record before it"
    if number is not None and record["n"] != number:
        return f"is number {record['n']}, expected {number}"
    if record["step"] not in STEPS:
        return f"unknown step {record['step']!r}"
    if record["step"] == "file" and record.get("format", 0) > FORMAT:
        return f"format {record['format']} is newer than {FORMAT}: update takt"
    return None


def _count(count: Count, record: dict[str, Any]) -> str | None:
    """Add one record; what it says must be possible."""
    if record["step"] in ("start", "recipe"):
        return _follow(count, record)
    if record["step"] == "trigger":
        count.triggers += 1
        if record["token"] in count.open:
            return "the same trigger twice"
        count.open[record["token"]] = record
        count.last_seq = record["seq"]
        if not record.get("skipped"):
            count.shown[record["seq"] % SLOTS] = (record["seq"], record["token"])
        return _of_another_recipe(count, record)
    if record["step"] == "folded":
        return _add_folded(count, record)
    if record["step"] == "intent" and record["token"] in count.open:
        count.open[record["token"]]["intent"] = record["outcome"]
    if record["step"] != "outcome":
        return None
    trigger = count.open.pop(record["token"], None)
    if trigger is None:
        return "an outcome without an open trigger"
    if "recipe" in trigger and _names(record) != _names(trigger):
        return "an outcome of another recipe or engine than its trigger's"
    count.outcomes[record["seq"]] = record
    if record.get("acknowledged") and count.shown.get(record["seq"] % SLOTS) == (record["seq"], record["token"]):
        count.shown[record["seq"] % SLOTS] = (record["seq"], "")
    if record.get("fault"):
        count.faults[Fault(record["fault"]).value] += 1
    elif record["outcome"] == Outcome.PASS:
        count.passed += 1
    else:
        count.rejected += 1
    return None


def _follow(count: Count, record: dict[str, Any]) -> str | None:
    """Which recipe answers to which number of the PLC, from one start of a bridge to the next."""
    if record["step"] == "start":
        terms = record.get("terms")
        count.in_force = _told(terms) if isinstance(terms, dict) else None
        return None
    number, before, after = record.get("number"), record.get("from"), record.get("to")
    if not isinstance(number, int) or not isinstance(after, dict) or not isinstance(before, dict | None):
        return "a swap of nothing that can be followed"
    if count.in_force is None:
        return None
    if count.in_force.get(number) != (_names(before) if before else None):
        return "a swap from a recipe that was not in force"
    count.in_force[number] = _names(after)
    return None


def _told(terms: dict[str, Any]) -> dict[int, Names]:
    pairs = terms.items()
    return {int(number): _names(one) for number, one in pairs if number.isdecimal() and isinstance(one, dict)}


def _names(record: dict[str, Any]) -> Names:
    return (str(record.get("recipe", "")), str(record.get("calibration", "")), str(record.get("engine", "")))


def _of_another_recipe(count: Count, trigger: dict[str, Any]) -> str | None:
    """Nothing where what was in force is not known, or where an older ledger names no recipe with its triggers."""
    if count.in_force is None or "recipe" not in trigger:
        return None
    known = count.in_force.get(trigger.get("recipe_no", -1), ("", "", ""))
    return None if _names(trigger) == known else "a trigger for a recipe or engine that was not in force"


def _add_folded(count: Count, record: dict[str, Any]) -> None:
    count.triggers += record["triggers"]
    count.folded += record["triggers"]
    count.left_out += record["left_out"]
    count.rejected += record["rejected"]
    count.faults.update(record["faults"])
