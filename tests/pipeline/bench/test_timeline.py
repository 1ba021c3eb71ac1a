"""From a ledger's records and the PLC's rows to where each panel's time went."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bench.timeline import MS, STAGES, Run, Timeline, timelines

RUN = Run(takt_ms=100, window_ms=800, exposure_ms=4, panels=3)
START_NS = 5_000 * MS
STAMPS: tuple[str, ...] = ("ready", "joined", "started", "checked", "decided", "heard", "confirmed", "written")
INSTANTS: dict[str, float] = dict(zip(STAMPS, (9.0, 11.0, 12.0, 14.0, 44.0, 46.0, 45.0, 50.0), strict=True))


def row(panel: int, late_ms: float = 0.0, took_ms: float = 52.0, ack_code: int = 1) -> dict[str, Any]:
    """The PLC's own: `took_ms` from its edge, which came `late_ms` after it was due."""
    edge_ns = START_NS + panel * 100 * MS + round(late_ms * MS)
    return {
        "seq": panel + 1,
        "panel": panel,
        "panel_id": f"P{panel}",
        "trigger_ns": edge_ns,
        "latency_ms": took_ms,
        "ack_code": ack_code,
    }


def records(panel: int, at: Mapping[str, float] = INSTANTS, **outcome: Any) -> list[dict[str, Any]]:
    """The ledger's; `at`: milliseconds after the panel was due."""
    base_ns, token = START_NS + panel * 100 * MS, f"t{panel}"
    ns = {name: base_ns + round(ms * MS) for name, ms in at.items()}
    timing = {f"{name}_ns": ns[name] for name in ("ready", "joined", "started", "checked", "decided") if name in ns}
    timing |= {"prepare_took_ns": 3 * MS, "run_took_ns": 20 * MS, "stitch_took_ns": 1 * MS, "network_ns": 0}
    ends = [("verdict", "heard"), ("captured", "confirmed"), ("written", "written")]
    told = [{"step": step, "token": token, "at_ns": ns[name]} for step, name in ends if name in ns]
    said = {"outcome": "PASS", "fault": None, "timing": timing if "decided" in at else None, "batch": 1} | outcome
    trigger = {"step": "trigger", "token": token, "seq": panel + 1, "at_ns": base_ns}
    return [trigger, *told, {"step": "outcome", "token": token, "seq": panel + 1, "at_ns": 0, **said}]


def of(panels: list[tuple[dict[str, Any], list[dict[str, Any]]]], run: Run = RUN) -> list[Timeline]:
    return timelines([each for _, told in panels for each in told], [one for one, _ in panels], run)


def test_the_stages_of_a_panel_add_up_to_its_time_from_when_it_was_due() -> None:
    found = of([(row(n), records(n)) for n in range(3)])
    assert [one.latency_ms for one in found] == [52, 52, 52]
    assert [sum(one.stages.values()) for one in found] == pytest.approx([52, 52, 52])
    assert found[0].stages == pytest.approx(
        dict(zip([*STAGES][:14], (0, 4, 5, 0, 3, 2, 3, 20, 1, 6, 2, 0, 4, 2), strict=True))
    )


def test_a_belt_that_lags_costs_the_panel_time_and_not_the_line() -> None:
    late = records(1, {name: ms + 30 for name, ms in INSTANTS.items()})
    found = of([(row(0), records(0)), (row(1, late_ms=30), late), (row(2), records(2))])
    assert found[1].latency_ms == pytest.approx(82)
    assert found[1].stages["belt"] == pytest.approx(30)


def test_a_panel_that_found_no_slot_is_late_and_takes_the_window() -> None:
    found = of([(row(0), records(0)), (row(2), records(2))])
    assert (found[1].outcome, found[1].late, found[1].latency_ms, found[1].stages) == ("NO_SLOT", True, 800, {})


@pytest.mark.parametrize("fault", ["LATE", "NOT_CAPTURED"])
def test_a_reject_for_its_time_counts_as_the_window_although_the_plc_had_it_before(fault: str) -> None:
    found = of([(row(0, took_ms=760, ack_code=2), records(0, outcome="REJECT", fault=fault, timing=None))], RUN)
    assert (found[0].outcome, found[0].late, found[0].latency_ms) == (fault, True, 800)


def test_another_fault_is_not_late_and_no_result_either() -> None:
    one = of([(row(0, took_ms=20, ack_code=2), records(0, outcome="REJECT", fault="CORRUPT"))])[0]
    assert (one.late, one.inspected, one.latency_ms) == (False, False, 800)


def test_the_plcs_own_time_out_goes_before_what_the_line_believes() -> None:
    assert of([(row(0, took_ms=800, ack_code=3), records(0))])[0].outcome == "LATE"


def test_a_verdict_that_came_late_still_tells_where_the_time_went() -> None:
    late = {name: ms + 1000 for name, ms in INSTANTS.items() if name not in ("ready", "joined", "written")}
    told = records(0, {"ready": 9, "joined": 11, **late}, outcome="REJECT", fault="LATE")
    timing = told[-1]["timing"]
    told[-1]["timing"] = None
    told[1] |= {"timing": timing, "late": True}
    one = of([(row(0, took_ms=760, ack_code=2), told)])[0]
    assert one.stages["carrier"] == pytest.approx(1003)
    assert "ack" not in one.stages


def test_what_lies_there_while_the_inspector_is_busy_waits_in_its_queue() -> None:
    busy = records(0, INSTANTS | {"decided": 130})
    waiting = records(1, {name: ms + (30 if name not in ("ready", "joined") else 0) for name, ms in INSTANTS.items()})
    found = of([(row(0, took_ms=140), busy), (row(1, took_ms=90), waiting), (row(2), records(2))])
    assert [one.stages["queue"] for one in found] == pytest.approx([0, 21, 0])
    assert found[1].stages["carrier"] == pytest.approx(12)


def test_a_panel_without_a_verdict_waited_for_one() -> None:
    told = records(0, {"confirmed": 20, "written": 760}, outcome="REJECT", fault="LATE")
    one = of([(row(0, took_ms=761, ack_code=2), told)])[0]
    assert one.stages == pytest.approx({"belt": 0, "unanswered": 761})


def test_panels_that_the_lines_end_caught_are_left_out() -> None:
    found = of([(row(0), records(0)), (row(1, ack_code=2), records(1, outcome="REJECT", fault="STOPPED"))])
    assert [one.outcome for one in found] == ["PASS", "NO_SLOT"]
    assert of([], RUN) == []


@given(st.lists(st.floats(0, 200), min_size=8, max_size=8), st.floats(0, 50), st.floats(1, 400))
def test_stages_are_never_negative_and_add_up_whatever_the_stamps_are(
    stamps: list[float], late_ms: float, took_ms: float
) -> None:
    at = dict(zip(STAMPS, stamps, strict=True))
    one = of([(row(0, late_ms, took_ms), records(0, at))])[0]
    # the schedule begins with the first panel that was placed
    assert min(one.stages.values()) >= 0
    assert sum(one.stages.values()) == pytest.approx(one.latency_ms, abs=1e-3)
