"""A finding, or the lack of one, as the verdict that the bridge reads. Pure."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from engines.decide import Problem
from engines.detector import Detector, Finding
from engines.laps import NETWORK, PREPARE, STITCH
from pipeline.messages import Defect, Fault, LowMask, Outcome, Timing, Trigger, Verdict
from pipeline.metrics import Metrics

MOST_DEFECTS = 64
PROBLEMS = {
    Problem.NOT_FINITE: Fault.ENGINE,
    Problem.NOT_COVERED: Fault.ENGINE,
    Problem.IMPLAUSIBLE: Fault.IMPLAUSIBLE,
}


@dataclass(frozen=True)
class Judged:
    """What binds a verdict to its panel, and when its parts were done."""

    trigger: Trigger
    inspector: str
    digest: str
    started_ns: int
    joined_ns: int
    network_ns: int
    ready_ns: int = 0
    checked_ns: int = 0
    laps: Mapping[str, int] = field(default_factory=dict)  # of the detector; empty where it did not run


def verdict_of(
    judged: Judged, detector: Detector | None, finding: Finding | None, fault: Fault | None, batch: int
) -> Verdict:
    """PASS only where a finding passed and nothing else is known against the panel."""
    if finding is not None and finding.problem is not None:
        fault = fault or PROBLEMS[finding.problem]
    passed = finding is not None and finding.passed and fault is None
    return Verdict(
        station=judged.trigger.station,
        token=judged.trigger.token,
        inspector=judged.inspector,
        outcome=Outcome.PASS if passed else Outcome.REJECT,
        fault=fault,
        digest=judged.digest,
        recipe=detector.recipe_hash if detector else "",
        calibration=detector.calibration_hash if detector else "",
        engine=detector.engine_hash if detector else "",
        score=finding.score if finding else math.nan,
        limit=finding.limit if finding else math.nan,
        defects=_defects(finding),
        mask=_mask(finding),
        batch=batch,
        timing=_timing(judged),
    )


def _timing(judged: Judged) -> Timing:
    return Timing(
        joined_ns=judged.joined_ns,
        started_ns=judged.started_ns,
        network_ns=judged.network_ns,
        decided_ns=time.monotonic_ns(),
        ready_ns=judged.ready_ns,
        checked_ns=judged.checked_ns,
        prepare_took_ns=judged.laps.get(PREPARE, 0),
        run_took_ns=judged.laps.get(NETWORK, 0),
        stitch_took_ns=judged.laps.get(STITCH, 0),
    )


def note(metrics: Metrics, verdict: Verdict) -> None:
    """Count its fault and the times of its steps."""
    if verdict.fault:
        metrics.count("set_faults", verdict.fault)
    taken, ends = verdict.timing, {"wait": verdict.timing.started_ns, "inspect": verdict.timing.network_ns}
    began_ns = taken.joined_ns
    for step, end_ns in (ends | {"decide": taken.decided_ns}).items():
        if end_ns:  # 0: the network did not run
            metrics.observe("step_seconds", (end_ns - began_ns) / 1e9, step)
            began_ns = end_ns


def _defects(finding: Finding | None) -> tuple[Defect, ...]:
    if finding is None or finding.passed:
        return ()
    return tuple(
        Defect(
            x=found.x,
            y=found.y,
            width=found.width,
            height=found.height,
            area_px=found.area_px,
            peak=found.peak,
            channels=found.channels,
        )
        for found in finding.defects[:MOST_DEFECTS]
    )


def _mask(finding: Finding | None) -> LowMask | None:
    if finding is None or finding.passed:
        return None
    low = finding.low_mask
    return LowMask(height=low.height, width=low.width, bits=low.bits)
