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
from pipeline.ledger import Count, lines_since, recount
from pipeline.plcs import ACK_PASSED
from pipeline.simulation.plan import Plan

ALWAYS_FOUND = ("scratch", "dust", "dent", "stain")  # promised above this size; the rest is shown beside it
PROMISED_PX = 12


@dataclass(frozen=True)
class Truth:
    """What one physical panel really is; `kind` None is good, `size_px` nan is unknown."""

    kind: str | None
    size_px: float


def record_length(config: LineConfig) -> int:
    """Lines of the simulated PLC's record so far; 0 without one."""
    path = record_path(config)
    return len(path.read_text().splitlines()) if path.exists() else 0


def summarise(config: LineConfig, first_record: int, first_row: int) -> dict[str, Any]:
    """The keys of `takt run --json` for what came after those places in ledger and PLC record."""
    count = recount(lines_since(config.ledger, first_record), whole=first_record == 0)
    rows = list(_plc_rows(record_path(config), first_row)) if config.conveyor else []
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
        summary |= against_truth(config, rows)
    return summary


def reconciled(count: Count, rows: list[dict[str, Any]] | None) -> bool:
    """The chain holds, every trigger has one outcome, and the PLC's own record says the same of every panel."""
    if not count.intact or count.open or not count.balanced:
        return False
    if rows is None:
        return True
    ours = {seq: record["outcome"] == "PASS" for seq, record in count.outcomes.items()}
    theirs = {row["seq"]: row["ack_code"] == ACK_PASSED for row in rows}
    return ours == theirs


def latency(count: Count) -> dict[str, float | None]:
    """Trigger edge to the PLC's acknowledgement as the bridge saw both."""
    taken = [record["latency_ms"] for record in count.outcomes.values() if record["latency_ms"] is not None]
    if not taken:
        return {"median": None, "p99": None, "max": None}
    median, p99, most = np.percentile(taken, [50, 99, 100]).round(2).tolist()
    return {"median": median, "p99": p99, "max": most}


def against_truth(config: LineConfig, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Misses by kind and false rejects, where it is known what lay below the cameras."""
    truth_of = truths(config)
    known = [(truth, row) for row in rows if (truth := truth_of(row["panel"])) is not None]
    missed = [truth for truth, row in known if truth.kind and row["ack_code"] == ACK_PASSED]
    defective = [truth for truth, _ in known if truth.kind]
    refused = [row for truth, row in known if truth.kind is None and row["ack_code"] != ACK_PASSED]
    return {
        "missed": len(missed),
        "missed_by_kind": dict(sorted(Counter(str(truth.kind) for truth in missed).items())),
        "missed_promised": sum(truth.kind in ALWAYS_FOUND and truth.size_px > PROMISED_PX for truth in missed),
        "false_rejects": sum(row["fault"] == 0 for row in refused),
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


def _plc_rows(path: Path, first: int) -> Iterator[dict[str, Any]]:
    lines = path.read_text().splitlines()[first:] if path.exists() else []
    return (row for row in map(json.loads, lines) if "seq" in row)
