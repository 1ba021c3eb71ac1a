"""What a run came to: the ledger's count is believed only where the PLC's record and the chain agree with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from line.toy_line import camera

from pipeline.config import LineConfig, load
from pipeline.devices import record_path
from pipeline.ledger import Ledger
from pipeline.run import exit_status
from pipeline.simulation.plan import Plan
from pipeline.summary import Before, before, summarise

PLAN = {"kinds": ["dust"], "defective_share": 0.5, "pool_good": 1, "defect_scale": 3.0}


@pytest.fixture
def config(line_file: Callable[..., Path]) -> LineConfig:
    return load(line_file(cameras=[camera("top", plan=PLAN)]))


def write(config: LineConfig, panels: list[tuple[str, str | None, int]], first: int = 1) -> None:
    """A ledger and a PLC record: one (outcome, fault, PLC's ack code) a panel."""
    config.state.mkdir(exist_ok=True)
    with Ledger(config.ledger, "toy") as ledger, record_path(config).open("a") as plc:
        for seq, (outcome, fault, ack) in enumerate(panels, first):
            token = f"{seq:032x}"
            ledger.record("trigger", token=token, seq=seq, panel_id=f"P{seq}", recipe_no=1)
            ledger.record("outcome", token=token, seq=seq, outcome=outcome, fault=fault, latency_ms=float(seq))
            row = {"seq": seq, "panel": seq - 1, "ack_code": ack, "fault": 0}  # silence carries no fault
            plc.write(json.dumps(row) + "\n")
        plc.write(json.dumps({"end": "finished"}) + "\n")


PASSED, REJECTED, LATE = ("PASS", None, 1), ("REJECT", None, 2), ("REJECT", "LATE", 3)


def honest(config: LineConfig, panels: int) -> list[tuple[str, str | None, int]]:
    """What a perfect line would have said."""
    plan = Plan.model_validate(config.cameras[0].settings["plan"])
    return [PASSED if plan.panel(index).kind is None else REJECTED for index in range(panels)]


def test_a_perfect_run(config: LineConfig) -> None:
    write(config, honest(config, 20))
    summary = summarise(config, Before())
    assert {name: summary[name] for name in ("triggers", "passed", "rejected", "faults", "reconciled")} == {
        "triggers": 20, "passed": 10, "rejected": 10, "faults": {}, "reconciled": True,
    }  # fmt: skip
    assert (summary["missed"], summary["false_rejects"], summary["good"], summary["defective"]) == (0, 0, 10, 10)
    assert summary["latency_ms"] == {"median": 10.5, "p99": 19.81, "max": 20.0}
    assert exit_status(summary | {"interrupted": False}) == 0


def test_misses_and_false_rejects_are_counted_against_the_truth(config: LineConfig) -> None:
    panels = honest(config, 20)
    good, defective = panels.index(PASSED), panels.index(REJECTED)
    panels[good], panels[defective] = REJECTED, PASSED
    write(config, panels)
    summary = summarise(config, Before())
    assert (summary["missed"], summary["missed_by_kind"], summary["false_rejects"]) == (1, {"dust": 1}, 1)
    assert summary["reconciled"]


def test_a_fault_is_neither_a_reject_nor_a_false_reject(config: LineConfig) -> None:
    panels = honest(config, 20)
    panels[panels.index(PASSED)] = LATE
    write(config, panels)
    summary = summarise(config, Before())
    assert (summary["passed"], summary["rejected"], summary["faults"]) == (9, 10, {"LATE": 1})
    assert (summary["false_rejects"], summary["reconciled"]) == (0, True)
    assert exit_status(summary | {"interrupted": False}) == 1


@pytest.mark.parametrize("ack", [2, 3, 0])
def test_a_pass_that_the_plc_did_not_give_is_not_reconciled(config: LineConfig, ack: int) -> None:
    panels: list[Any] = honest(config, 10)
    panels[panels.index(PASSED)] = ("PASS", None, ack)
    write(config, panels)
    assert not summarise(config, Before())["reconciled"]


def test_a_panel_that_only_the_plc_knows_is_not_reconciled(config: LineConfig) -> None:
    write(config, honest(config, 10))
    with record_path(config).open("a") as plc:
        plc.write(json.dumps({"seq": 11, "panel": 10, "ack_code": 3, "fault": 0}) + "\n")
    assert not summarise(config, Before())["reconciled"]


@pytest.mark.parametrize(("ack", "counted", "agrees"), [(2, 1, True), (1, 1, False), (2, 2, False), (2, 0, False)])
def test_a_folded_reject_is_one_that_the_plc_rejected(config: LineConfig, ack: int, counted: int, agrees: bool) -> None:
    """The ledger only counts what it could not hold while its disk was full."""
    write(config, honest(config, 10))
    with Ledger(config.ledger, "toy") as ledger:
        ledger.record("folded", triggers=counted, rejected=0, left_out=3, faults={"LEDGER": counted})
    with record_path(config).open("a") as plc:
        plc.write(json.dumps({"seq": 11, "panel": 10, "ack_code": ack, "fault": 0}) + "\n")
    assert summarise(config, Before())["reconciled"] is agrees


def test_an_open_trigger_is_not_reconciled(config: LineConfig) -> None:
    write(config, honest(config, 10))
    with Ledger(config.ledger, "toy") as ledger:
        ledger.record("trigger", token="f" * 32, seq=11, panel_id="P11", recipe_no=1)
    assert not summarise(config, Before())["reconciled"]


def test_a_changed_record_is_not_reconciled(config: LineConfig) -> None:
    write(config, honest(config, 10))
    file = next(config.ledger.iterdir())
    file.write_bytes(file.read_bytes().replace(b'"panel_id":"P3"', b'"panel_id":"P4"'))
    assert not summarise(config, Before())["reconciled"]


def test_only_the_run_itself_is_summed_up(config: LineConfig) -> None:
    """An earlier run's panels, and what was wrong with them, stay out."""
    write(config, [("PASS", None, 3)] * 4)
    start = before(config)
    assert start == Before(record=9, row=5)
    write(config, [REJECTED] * 3, first=5)
    summary = summarise(config, start)
    assert (summary["triggers"], summary["rejected"], summary["plc"]["panels"]) == (3, 3, 3)
    assert summary["reconciled"]


def test_a_panel_that_a_crash_left_open_is_summed_up_where_it_is_closed(config: LineConfig) -> None:
    """The PLC's row may be older than the run, or come with it: as lost, where the PLC went down too."""
    write(config, [REJECTED] * 2)
    for seq, ack in ((3, 2), (4, 0)):
        with Ledger(config.ledger, "toy") as ledger:
            ledger.record("trigger", token=f"{seq:032x}", seq=seq, panel_id=f"P{seq}", recipe_no=1)
        if ack:
            with record_path(config).open("a") as plc:
                plc.write(json.dumps({"seq": seq, "panel": seq - 1, "ack_code": ack, "fault": 0}) + "\n")
    start = before(config)
    assert [record["seq"] for record in start.open] == [3, 4]
    with Ledger(config.ledger, "toy") as ledger, record_path(config).open("a") as plc:
        for seq in (3, 4):
            token = f"{seq:032x}"
            ledger.record("outcome", token=token, seq=seq, outcome="REJECT", fault="CRASH", latency_ms=None)
        plc.write(json.dumps({"seq": 4, "panel": 3, "ack_code": 0, "fault": 0}) + "\n")
    write(config, [REJECTED], first=5)
    summary = summarise(config, start)
    assert (summary["triggers"], summary["rejected"], summary["faults"]) == (3, 1, {"CRASH": 2})
    assert (summary["reconciled"], summary["plc"]["panels"]) == (True, 3)


def test_panels_stopped_by_ctrl_c_are_no_failure_and_others_are() -> None:
    summary = {"reconciled": True, "faults": {"STOPPED": 1}}
    assert exit_status(summary | {"interrupted": True}) == 0
    assert exit_status(summary | {"interrupted": False}) == 1
    assert exit_status(summary | {"interrupted": True, "faults": {"STOPPED": 1, "LATE": 1}}) == 1
    assert exit_status(summary | {"interrupted": True, "reconciled": False}) == 1


def test_a_run_without_a_panel(config: LineConfig) -> None:
    write(config, [])
    summary = summarise(config, Before())
    assert (summary["triggers"], summary["reconciled"], summary["latency_ms"]["median"]) == (0, True, None)
