"""What one open panel becomes. Pure; PASS is proven here or not at all."""

from dataclasses import replace
from math import isfinite

from pipeline.messages import FAULTS, Fault, FinalOutcome, Outcome, Verdict
from pipeline.open_panels import Expected, Panel, Terms
from pipeline.plcs import ACK_PASSED, ACK_REJECTED, PASS_CODE, REJECT_CODE, Result


def belongs(verdict: Verdict, panel: Panel, terms: Terms, expected: Expected) -> bool:
    """True only if this verdict is of this panel: by its inspector, same pixels, recipe, calibration and engine."""
    return (
        verdict.token == panel.token
        and verdict.station == terms.station
        and verdict.inspector == panel.inspector
        and (verdict.recipe, verdict.calibration, verdict.engine)
        == (expected.recipe, expected.calibration, expected.engine)
        and verdict.digest == panel.digest(terms.cameras)
    )


def proves(verdict: Verdict, panel: Panel, terms: Terms) -> bool:
    """True only if this verdict passes this panel: it is of this panel, and its score is in bounds."""
    expected = panel.expected  # of its trigger: what has taken over since then passes none of the panels before
    return (
        expected is not None
        and belongs(verdict, panel, terms, expected)
        and verdict.outcome is Outcome.PASS
        and verdict.fault is None
        and isfinite(verdict.score)
        and verdict.limit == expected.limit
        and expected.low <= verdict.score <= expected.limit
    )


def decide(panel: Panel, terms: Terms, now_ns: int) -> tuple[Outcome, Fault | None] | None:
    """What to write now, or None while there is still something to wait for.

    A reject for a defect is held to the same as a pass: a verdict on an incomplete set or of another panel is a fault
    and no defect of the product.
    """
    complete = panel.digest(terms.cameras) is not None
    if panel.fault:
        return Outcome.REJECT, panel.fault
    if now_ns >= panel.deadline_ns:
        return Outcome.REJECT, Fault.LATE if complete else Fault.NOT_CAPTURED
    verdict = panel.verdict
    if verdict is None:
        return None
    if verdict.fault:
        return Outcome.REJECT, verdict.fault
    if not complete:
        return None
    expected = panel.expected
    if verdict.outcome is Outcome.REJECT and expected is not None and belongs(verdict, panel, terms, expected):
        return Outcome.REJECT, None
    return (Outcome.PASS, None) if proves(verdict, panel, terms) else (Outcome.REJECT, Fault.MISMATCH)


def _u16(value: float) -> int:
    return min(max(round(value), 0), 0xFFFF) if isfinite(value) else 0xFFFF


def result(panel: Panel, outcome: Outcome, fault: Fault | None, now_ns: int) -> Result:
    """What the PLC reads; lengths in 0.1 mm and areas in 0.01 mm2 where the recipe knows its scale, else 0."""
    expected = panel.expected
    verdict = panel.verdict
    plain = Result(
        seq=panel.seq,
        code=PASS_CODE if outcome is Outcome.PASS else REJECT_CODE,
        fault=FAULTS[fault].number if fault else 0,
        recipe_echo=panel.seen.recipe_no,
        latency_ms=_u16((now_ns - panel.edge_ns) / 1e6),
        engine_hash16=int(expected.engine[:4], 16) if expected else 0,
    )
    if verdict is None:
        return plain
    plain = replace(plain, score_x1000=_u16(verdict.score * 1000), defect_count=_u16(len(verdict.defects)))
    if not verdict.defects or expected is None or expected.mm_per_px is None:
        return plain
    worst, mm = max(verdict.defects, key=lambda defect: defect.peak), expected.mm_per_px
    return replace(
        plain,
        x_mm10=_u16((worst.x + worst.width / 2) * mm * 10),
        y_mm10=_u16((worst.y + worst.height / 2) * mm * 10),
        area_mm2_100=_u16(worst.area_px * mm * mm * 100),
    )


def physical(panel: Panel, code: int) -> tuple[Outcome, Fault | None]:
    """What the PLC did, and under which name it is counted.

    A reject "by result" (ack 2) where no result was written contradicts what is known here: the panel is a reject all
    the same, under the fault that it has already, else as `CONFLICT`. Its own window's end (ack 3) is `LATE`.
    """
    if code == ACK_PASSED:
        return Outcome.PASS, panel.doubt if panel.written is Outcome.PASS else Fault.CONFLICT
    if panel.reopened:
        return Outcome.REJECT, Fault.CRASH
    if panel.written is Outcome.PASS:
        return Outcome.REJECT, Fault.REFUSED if code == ACK_REJECTED else Fault.LATE
    if code != ACK_REJECTED:
        return Outcome.REJECT, panel.fault or Fault.LATE
    return Outcome.REJECT, panel.fault if panel.written else panel.fault or Fault.CONFLICT


def final(terms: Terms, panel: Panel, outcome: Outcome, fault: Fault | None, now_ns: int | None) -> FinalOutcome:
    """The panel's record for everybody else; `now_ns` is None where the PLC did not say what became of it."""
    verdict = panel.verdict
    expected = panel.expected
    known = now_ns is not None
    return FinalOutcome(
        station=terms.station,
        token="" if panel.token.startswith("missed-") else panel.token,
        seq=panel.seq,
        panel_id=panel.seen.panel_id,
        outcome=outcome,
        fault=fault,
        acknowledged=known,
        score=verdict.score if verdict else float("nan"),
        limit=verdict.limit if verdict else float("nan"),
        defects=verdict.defects if verdict else (),
        recipe=expected.recipe if expected else "",
        calibration=expected.calibration if expected else "",
        engine=expected.engine if expected else "",
        latency_ms=(now_ns - panel.edge_ns) / 1e6 if known and not panel.reopened else float("nan"),
    )
