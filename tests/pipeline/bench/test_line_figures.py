"""The figures of a line, from timelines."""

from typing import Any

import pytest

from pipeline.bench.line_figures import WORST, figures, is_sustained, samples
from pipeline.bench.spread import P99_FROM
from pipeline.bench.timeline import Run, Timeline

RUN = Run(takt_ms=100, window_ms=800, exposure_ms=4, panels=3)
USUAL = {"exposure": 8.0, "carrier": 1.0, "check": 2.0, "network": 40.0, "decide": 1.0, "plc_write": 2.0, "ack": 1.0}


def panel(number: int, outcome: str = "PASS", batch: int = 1, **stages: Any) -> Timeline:
    spent = USUAL | stages
    latency_ms = sum(spent.values()) if outcome in ("PASS", "REJECT") else 800.0
    return Timeline(number, f"P{number}", outcome, number * 100.0, latency_ms, spent, batch)


def of(panels: list[Timeline]) -> dict[str, Any]:
    return figures(panels, RUN)


def test_the_worst_ten_are_told_with_the_stage_that_held_them_up() -> None:
    run = [panel(n) for n in range(50)]
    run[17] = panel(17, carrier=400.0)
    run[30] = panel(30, plc_write=90.0)
    worst = of(run)["worst"]
    assert len(worst) == WORST
    assert [(one["panel"], one["held_up_in"]) for one in worst[:2]] == [(17, "carrier"), (30, "plc_write")]
    assert worst[0]["stages"]["carrier"] == 400


@pytest.mark.parametrize(("missing", "kept"), [(0, True), (1, True), (2, False)])
def test_a_takt_is_sustained_while_one_in_a_hundred_panels_is_missing(missing: int, kept: bool) -> None:
    run = [panel(n, "LATE" if n < missing else "PASS") for n in range(100)]
    found = of(run)
    assert (found["sustained"], found["late"]) == (kept, missing)
    assert found["sustained_panels_per_min"] == (600 if kept else None)


def test_a_panel_inspected_after_the_deadline_is_none_inside_it() -> None:
    assert not is_sustained([panel(0, network=5000.0)], 800)
    assert not is_sustained([], 800)


@pytest.mark.parametrize(
    ("stages", "name"),
    [({"network": 90.0}, "network"), ({"exposure": 99.0}, "exposure"), ({"plc_write": 80.0}, "plc_write")],
)
def test_the_bottleneck_is_the_longest_stage_of_the_busiest_resource(stages: dict[str, Any], name: str) -> None:
    found = of([panel(n, **stages) for n in range(20)])
    assert found["bottleneck"] == name


def test_panels_of_one_batch_share_the_inspectors_time() -> None:
    alone, together = of([panel(n) for n in range(8)]), of([panel(n, batch=4) for n in range(8)])
    assert together["busy"]["inspector"] == pytest.approx(alone["busy"]["inspector"] / 4, abs=1e-3)


def test_overhead_is_what_lies_between_network_and_decision_and_names_its_parts() -> None:
    found = of([panel(n) for n in range(20)])["overhead_ms"]
    assert found["median"] == pytest.approx(1 + 1 + 2 + 1)
    assert found["parts"] == {"carrier": 1, "decide": 1, "plc_write": 2, "ack": 1}


def test_percentiles_of_stages_need_as_many_panels_as_those_of_the_whole() -> None:
    few, many = of([panel(n) for n in range(50)]), of([panel(n) for n in range(P99_FROM)])
    assert (few["latency_ms"]["p99"], few["stages"]["network"]["p99"]) == (None, None)
    assert (many["latency_ms"]["p99"], many["stages"]["network"]["p99"]) == (55, 40)


def test_samples_are_in_order_and_a_run_without_a_result_has_figures() -> None:
    found = samples([panel(n, network=float(n)) for n in range(5)])
    assert found["stages"]["network"] == [0, 1, 2, 3, 4]
    assert found["due_ms"] == [0, 100, 200, 300, 400]
    nothing = of([panel(n, "LATE") for n in range(3)])
    assert (nothing["bottleneck"], nothing["stages"], nothing["sustained"]) == ("", {}, False)
