"""What a run came to: the ledger recounted, held against the simulated PLC's own record and against the truth."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import cameras
from pipeline.config import LineConfig
from pipeline.devices import camera_settings, record_path
from pipeline.ledger import lines_since, next_number
from pipeline.plcs import ACK_PASSED
from pipeline.recount import Count, newest, recount
from pipeline.simulation.plan import Plan

ALWAYS_FOUND = ("scratch", "dust", "dent", "stain")  # promised above this size; the rest is shown beside it
PROMISED_PX = 12


@dataclass(frozen=True)
class Truth:
    """What one physical panel really is; `kind` None is good, `size_px` nan is unknown."""

    kind: str | None
    size_px: float


@dataclass(frozen=True)
class Before:
    """Where ledger and PLC record stood when a run began, and the triggers that a crash had left open."""

    record: int = 0
    row: int = 0
    open: tuple[dict[str, Any], ...] = ()


def before(config: LineConfig) -> Before:
    """The beginning of a run that starts now."""
    path = record_path(config)
    rows = len(path.read_text().splitlines()) if path.exists() else 0
    return Before(next_number(config.ledger), rows, tuple(newest(config.ledger).open.values()))


def summarise(config: LineConfig, start: Before) -> dict[str, Any]:
    """The keys of `takt run --json` for the panels that were closed since `start`."""
    count = recount(lines_since(config.ledger, start.record), whole=start.record == 0, taken_over=start.open)
    rows = list(_plc_rows(record_path(config), start)) if config.conveyor else []
    summary: dict[str, Any] = {
        "triggers": count.triggers,
        "passed": count.passed,
        "rejected": count.rejected,
        "faults": dict(sorted(count.faults.items())),
        "reconciled": reconciled(count, rows if config.conveyor else None),
        "latency_ms": latency(count),
    }
    if config.conveyor:
        summary["plc"] = {"panels": len(rows), "passed": sum(row["ack_code"] == ACK_PASSED for row in rows)}
        summary |= against_truth(config, rows, count)
    return summary


def reconciled(count: Count, rows: list[dict[str, Any]] | None) -> bool:
    """The chain holds, every trigger has one outcome, and the PLC's own record says the same of every panel."""
    if not count.intact or count.open or not count.balanced:
        return False
    if rows is None:
        return True
    ours = {seq: record["outcome"] == "PASS" for seq, record in count.outcomes.items()}
    theirs = {row["seq"]: row["ack_code"] == ACK_PASSED for row in rows}
    folded = [theirs.pop(seq) for seq in theirs.keys() - ours.keys()]  # rejects that the ledger only counts
    return ours == theirs and len(folded) == count.folded and not any(folded)


def latency(count: Count) -> dict[str, float | None]:
    """Trigger edge to the PLC's acknowledgement as the bridge saw both."""
    taken = [record["latency_ms"] for record in count.outcomes.values() if record["latency_ms"] is not None]
    if not taken:
        return {"median": None, "p99": None, "max": None}
    median, p99, most = np.percentile(taken, [50, 99, 100]).round(2).tolist()
    return {"median": median, "p99": p99, "max": most}


def against_truth(config: LineConfig, rows: list[dict[str, Any]], count: Count) -> dict[str, Any]:
    """Misses by kind and false rejects, where it is known what lay below the cameras."""
    truth_of = truths(config)
    known = [(truth, row) for row in rows if (truth := truth_of(row["panel"])) is not None]
    missed = [truth for truth, row in known if truth.kind and row["ack_code"] == ACK_PASSED]
    defective = [truth for truth, _ in known if truth.kind]
    inspected = {seq for seq, record in count.outcomes.items() if not record["fault"]}
    refused = [row for truth, row in known if truth.kind is None and row["ack_code"] != ACK_PASSED]
    return {
        "missed": len(missed),
        "missed_by_kind": dict(sorted(Counter(str(truth.kind) for truth in missed).items())),
        "missed_promised": sum(truth.kind in ALWAYS_FOUND and truth.size_px > PROMISED_PX for truth in missed),
        "false_rejects": sum(row["seq"] in inspected for row in refused),
        "good": len(known) - len(defective),
        "defective": len(defective),
        "defective_by_kind": dict(sorted(Counter(str(truth.kind) for truth in defective).items())),
    }


def truths(config: LineConfig) -> Callable[[int], Truth | None]:
    """What the simulated or replayed panel of a number is; None where nobody knows."""
    camera = config.cameras[0]
    settings = camera_settings(config, camera)
    names = cameras.replayed(camera.kind, settings)
    if names is not None:
        return lambda panel: _labelled(names, panel)
    plan = getattr(settings, "plan", None)
    return (lambda panel: _planned(plan, panel)) if isinstance(plan, Plan) else (lambda panel: None)


def _labelled(names: list[str], panel: int) -> Truth | None:
    if panel >= len(names):
        return None
    kind = names[panel].partition("/")[0]
    return Truth(None if kind == "good" else kind, float("nan"))


def _planned(plan: Plan, panel: int) -> Truth:
    planned = plan.panel(panel)
    return Truth(planned.kind, planned.size_px)


def _plc_rows(path: Path, start: Before) -> Iterator[dict[str, Any]]:
    """The PLC's rows since `start`, and those of the triggers that were open then."""
    taken_over = {record["seq"] for record in start.open}
    lines = path.read_text().splitlines() if path.exists() else []
    for number, row in enumerate(map(json.loads, lines)):
        if "seq" in row and (number >= start.row or row["seq"] in taken_over):
            yield row
