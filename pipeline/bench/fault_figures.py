"""What a storm came to: the figures of `takt bench faults --json`. The checker's own stand apart from the ledger's."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from calibration.rates import upper_bound
from pipeline.bench import storm as storms
from pipeline.bench.checker import Checker, Findings
from pipeline.bench.storm import Storm
from pipeline.config import LineConfig
from pipeline.ledger import ledger_files, read_lines
from pipeline.messages import FAULTS
from pipeline.recount import Count, recount

NAMES = {text.number: fault.value for fault, text in FAULTS.items()} | {0: "PLC_WINDOW"}


@dataclass
class Course:
    """What a run leaves for the summary."""

    ended: str = "finished"
    began_ns: int = 0
    seconds: float = 0.0
    relayed: dict[str, Any] = field(default_factory=dict)
    struck: list[dict[str, Any]] = field(default_factory=list)
    restarts: Counter[str] = field(default_factory=Counter)
    counters: dict[str, dict[str, float]] = field(default_factory=dict)
    unreadable: int = 0  # folders of pictures


def figures(config: LineConfig, storm: Storm, checker: Checker, course: Course) -> dict[str, Any]:
    """The content of `--json FILE`. The three that must be 0 come from the checker alone; so does `plc`."""
    found = checker.findings()
    count = recount(read_lines(ledger_files(config.ledger)))
    return {
        "triggers": found.triggers,
        "passed": count.passed,
        "rejected": count.rejected,
        "faults": dict(sorted(count.faults.items())),
        "difference": found.difference,
        "wrong_pass": found.wrong_pass,
        "mixed_sets": found.mixed_sets,
        "upper95": bounds(found),
        "wrong": found.wrong,
        "plc": plc_figures(found),
        "checked": _checked(found, course),
        "ledger": ledger_figures(count, checker),
        "injected": {
            "messages": dict(sorted(course.relayed.get("faults", {}).items())),
            "pixels": dict(sorted(_pixels_injected(storm, found.triggers).items())),
            "processes": course.struck,
        },
        "messages": course.relayed.get("messages", {}),
        "restarts": dict(course.restarts),
        "unasked_restarts": course.restarts.total() - sum(one["kind"] == "kill" for one in course.struck),
        "stages": course.counters,
        "ended": course.ended,
        "seconds": course.seconds,
        "storm": storm.model_dump(),
    }


def bounds(found: Findings) -> dict[str, dict[str, float | int]]:
    """Counts with the rate that is not exceeded with 95 % confidence (0 in n: about 3/n)."""
    counted = {
        "difference": (found.difference, found.triggers),
        "wrong_pass_of_passed": (found.wrong_pass, found.passed),
        "wrong_pass_of_defective": (found.wrong_pass, found.defective),
        "mixed_sets": (found.mixed_sets, found.sets_seen),
    }
    return {name: {"k": k, "n": n, "upper95": upper_bound(min(k, n), n)} for name, (k, n) in counted.items()}


def plc_figures(found: Findings) -> dict[str, Any]:
    """What the PLC's own record says."""
    return {
        "passed": found.passed,
        "rejected": found.rejected,
        "faults": {NAMES.get(number, str(number)): n for number, n in sorted(found.faults.items())},
        "good": found.good,
        "defective": found.defective,
        "in_flight": dict(sorted(found.in_flight.items())),
    }


def _checked(found: Findings, course: Course) -> dict[str, int]:
    dropped = course.counters.get("inspector", {}).get("evidence_dropped", 0)
    return {
        "passes_with_pictures": found.passes_seen,
        "passes_without_pictures": found.passed - found.passes_seen,
        "sets_with_pictures": found.sets_seen,
        "unlabelled": found.unlabelled,
        "unreadable": course.unreadable,
        "evidence_dropped": int(dropped),
    }


def ledger_figures(count: Count, checker: Checker) -> dict[str, Any]:
    """Our own record beside the PLC's: where it claims to know, it must say the same."""
    theirs = {row["seq"]: row["ack_code"] == 1 for row in checker.decisions()}
    ours = count.outcomes
    differing = [seq for seq, record in ours.items() if (record["outcome"] == "PASS") != theirs.get(seq)]
    claimed = [seq for seq in differing if ours[seq]["acknowledged"]]
    return {
        "intact": count.intact,
        "first_broken": count.first_broken,
        "triggers": count.triggers,
        "open": len(count.open),
        "missing": len(theirs.keys() - ours.keys()),
        "contradicts_plc": len(claimed),
        "unknown_there": sum(not record["acknowledged"] for record in ours.values()),
        "passed_though_unknown": len(differing) - len(claimed),
    }


def _pixels_injected(storm: Storm, triggers: int) -> dict[str, int]:
    """Faults that lay in the panels triggered, by kind; an empty field counts once."""
    hit: dict[str, set[int | tuple[str, int, int]]] = {}
    for camera, spots in storms.pixel_faults(storm).items():
        for kind, places in spots.items():
            whole = kind == "empty_fields"
            there = {panel if whole else (camera, panel, channel) for panel, channel in places if panel < triggers}
            hit.setdefault(kind, set()).update(there)
    return {kind: len(places) for kind, places in hit.items()}


def is_clean(figures: dict[str, Any]) -> bool:
    """True when the checker found nothing and our own record agrees with the PLC's."""
    ledger = figures["ledger"]
    ours = ledger["intact"] and not (ledger["open"] or ledger["missing"] or ledger["contradicts_plc"])
    theirs = not (figures["difference"] or figures["wrong_pass"] or figures["mixed_sets"])
    return theirs and ours and figures["ended"] in ("finished", "interrupted")
