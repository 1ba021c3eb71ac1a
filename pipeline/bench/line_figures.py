"""The figures of a line from the timelines of its panels: percentiles, the worst ones, what is busy, what holds it up.

Pure.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.bench.spread import P99_FROM, noise_floor, spread
from pipeline.bench.timeline import STAGES, Run, Timeline

WORST = 10
MOST_MISSING = 0.01  # of the panels of a takt that counts as sustained: their p99 is inside the deadline
MOST_SAMPLES = 4_000  # of one stage, kept for comparisons
INSPECTION = ("check", "prepare", "network", "stitch", "decide")  # one inspector does one batch at a time
RESOURCES = {"camera": ("exposure",), "inspector": INSPECTION, "bridge": ("plc_write",)}
PIXELS = ("belt", "exposure", "readout", "queue", "check", "prepare", "network")  # the rest is the line's own way
Figures = dict[str, Any]


def figures(found: Sequence[Timeline], run: Run) -> Figures:
    """The keys of `takt bench line --json` that follow from one run."""
    inspected = [one for one in found if one.inspected]
    latency = [one.latency_ms for one in found]
    busy = utilisation(inspected, run.takt_ms)
    kept = is_sustained(found, run.window_ms)
    return {
        "takt_ms": run.takt_ms,
        "window_ms": run.window_ms,
        "panels": len(found),
        "late": sum(one.late for one in found),
        "outcomes": dict(sorted(Counter(one.outcome for one in found).items())),
        "latency_ms": spread(latency),
        "stages": {name: spread(ms) for name, ms in by_stage(inspected).items()},
        "overhead_ms": overhead(inspected),
        "busy": busy,
        "bottleneck": bottleneck(inspected, busy),
        "sustained": kept,
        "sustained_panels_per_min": round(60_000 / run.takt_ms, 2) if kept else None,
        "worst": worst(found),
        "noise_floor": noise(latency),
    }


def samples(found: Sequence[Timeline]) -> Figures:
    """What a comparison needs: every latency in order, and those of each stage, thinned evenly."""
    stages = by_stage([one for one in found if one.inspected])
    every = {name: ms[:: max(1, len(ms) // MOST_SAMPLES)] for name, ms in stages.items()}
    return {
        "latency_ms": [round(one.latency_ms, 3) for one in found],
        "due_ms": [round(one.due_ms, 1) for one in found],
        "stages": {name: [round(each, 3) for each in ms] for name, ms in every.items()},
    }


def by_stage(inspected: Sequence[Timeline]) -> dict[str, list[float]]:
    """Milliseconds of every panel, by stage, in the order of the way."""
    return {
        name: [one.stages[name] for one in inspected if name in one.stages]
        for name in STAGES
        if any(name in one.stages for one in inspected)
    }


def is_sustained(found: Sequence[Timeline], window_ms: float) -> bool:
    """Ninety-nine of a hundred panels had an inspection's result inside the deadline."""
    missing = sum(not one.inspected or one.latency_ms > window_ms for one in found)
    return bool(found) and missing <= MOST_MISSING * len(found)


def utilisation(inspected: Sequence[Timeline], takt_ms: float) -> dict[str, float]:
    """Which share of the takt each resource works for a panel; above 1 it cannot follow."""
    found = {}
    for resource, stages in RESOURCES.items():
        spent = [_spent(one, stages) / (max(one.batch, 1) if resource == "inspector" else 1) for one in inspected]
        found[resource] = round(float(np.mean(spent)) / takt_ms, 4) if spent else 0.0
    return found


def bottleneck(inspected: Sequence[Timeline], busy: Mapping[str, float]) -> str:
    """The longest stage of the busiest resource; empty where nothing was inspected."""
    if not inspected:
        return ""
    stages = RESOURCES[max(busy, key=lambda name: busy[name])]
    return max(stages, key=lambda stage: sum(one.stages.get(stage, 0.0) for one in inspected))


def overhead(inspected: Sequence[Timeline]) -> Figures:
    """The line's own way: without belt, exposures, queue, pixel work and network; and what it consists of."""
    own = [name for name in STAGES if name not in PIXELS]
    total = [_spent(one, own) for one in inspected]
    parts = {name: spread(ms)["median"] for name, ms in by_stage(inspected).items() if name in own}
    return spread(total) | {"parts": parts}


def worst(found: Sequence[Timeline]) -> list[Figures]:
    """The ten panels that took longest, each with the stage that took most beyond its usual time."""
    usual = {name: float(np.median(ms)) for name, ms in by_stage([one for one in found if one.inspected]).items()}
    ranked = sorted(found, key=lambda one: -max(one.latency_ms, sum(one.stages.values())))
    return [_told(one, usual) for one in ranked[:WORST]]


def _told(one: Timeline, usual: Mapping[str, float]) -> Figures:
    beyond = {name: ms - usual.get(name, 0.0) for name, ms in one.stages.items()}
    return {
        "panel": one.panel,
        "panel_id": one.panel_id,
        "outcome": one.outcome,
        "due_s": round(one.due_ms / 1000, 3),
        "latency_ms": round(one.latency_ms, 3),
        "held_up_in": max(beyond, key=lambda name: beyond[name]) if beyond else "",
        "stages": {name: round(ms, 3) for name, ms in one.stages.items()},
    }


def noise(latency: Sequence[float]) -> Figures:
    """By what share the figures of parts of this run differ; None of too few panels."""
    enough = {"median": 20, "p99": P99_FROM}
    return {
        name: round(noise_floor([latency], name), 4) if len(latency) >= least else None
        for name, least in enough.items()
    }


def _spent(one: Timeline, stages: Sequence[str]) -> float:
    return sum(one.stages.get(name, 0.0) for name in stages)
