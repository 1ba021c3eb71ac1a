"""`takt plc probe` accepts a PLC that keeps the contract, and exposes each PLC that leaves out a part of it."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from sloppy_plcs import (
    CopyOnly,
    NeverAcknowledges,
    NextSlot,
    NoCheckWord,
    NoCopy,
    NoHeart,
    NonZeroPasses,
    NoRecipe,
    NoSequence,
    NoState,
    NoWindow,
    PreviousSlot,
    RejectPasses,
    RejectsAll,
    RejectsOnLoss,
    SilencePasses,
    Sloppy,
    connected,
)
from typer.testing import CliRunner
from typer.testing import Result as Ran

from pipeline.bench import plc_commands, probe_cases, probe_report
from pipeline.bench.plc_probe import Patience, probe
from pipeline.bench.probe_cases import CASES, Case, Finding, When, judge, rounds
from pipeline.bench.storm import free_port
from pipeline.claim import claim
from pipeline.errors import ConfigError, PlcError, TaktError, UsageError
from pipeline.plcs import (
    ACK_PASSED,
    Result,
    ResultSeen,
    SlotSeen,
    modbus,
)
from pipeline.plcs.simulated import Vision, accepts
from pipeline.plcs.simulated.line import Line
from pipeline.plcs.simulated.server import Memory

pytestmark = pytest.mark.alone

WHOLE_MS = 400  # a window in which every case can be shown
PATIENCE = Patience(trigger_s=10, ack_ms=300)
PANEL = SlotSeen(trigger_seq=0x0001_0005, panel_id="P5", recipe_no=3, window_ms=WHOLE_MS, ack_seq=0, ack_code=0)


# --- the cases ---


def decided(case: Case, panel: SlotSeen = PANEL) -> int:
    """What the simulated PLC makes of a case in the panel's own slot."""
    empty = ResultSeen(Result(0, 0, 0, 0), 0, 0)
    own_slot = case.slot(panel.trigger_seq) == panel.trigger_seq % 4
    seen = case.result(panel) if case.result and own_slot else empty
    vision = Vision(alive=case.when is not When.HEART_LOST, state=int(case.state))
    opened = case.when is not When.LATE
    return accepts(seen, panel.trigger_seq, panel.recipe_no, window_open=opened, vision=vision)[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("seq", [0, 1, 4, 0xFFFF, 0x0001_0000, 0xFFFF_FFFF])
def test_only_the_good_pass_may_pass_under_rule_3(case, seq):
    ack_code = decided(case, replace(PANEL, trigger_seq=seq))
    assert (ack_code == ACK_PASSED) == case.passes == (case.name == "good pass")


def test_the_order_is_drawn_from_the_seed_and_every_case_comes_twice():
    assert rounds(1) == rounds(1) != rounds(2)
    assert sorted(case.name for case in rounds(7)) == sorted([case.name for case in CASES] * 2)


@pytest.mark.parametrize(("ack_code", "good_ok", "bad_ok"), [(0, False, False), (1, True, False), (2, False, True)])
def test_the_verdict_is_a_pass_for_the_good_one_and_an_acknowledged_reject_for_all_else(ack_code, good_ok, bad_ok):
    for case in CASES:
        assert judge(case, PANEL, ack_code, 1.0).ok is (good_ok if case.passes else bad_ok)
    assert not judge(CASES[0], PANEL, 9, 1.0).ok


# --- PLCs that leave something out ---


def named(*names: str) -> list[Case]:
    return [case for case in CASES if case.name in names]


def wrong(findings: list[Finding]) -> set[str]:
    return {finding.case for finding in findings if not finding.ok}


CODES = ("code 0x0001", "code 0xFFFF", "code 0x5A3D", "code 0x3C5A")
CHECKS = ("wrong check word", "check word, one bit")
STALE = ("stale pass", "wrong sequence")


@pytest.mark.parametrize(
    ("line", "exposing", "others"),
    [
        (NoCopy, {"torn, no copy", "torn, other copy"}, ("good pass", "torn, old payload")),
        (CopyOnly, {"torn, old payload"}, ("good pass", "torn, no copy")),
        (NoSequence, {*STALE}, ("good pass", "reject", "wrong check word")),
        (NoCheckWord, {*CHECKS}, ("good pass", "stale pass", "reject")),
        (NoRecipe, {"wrong recipe echo"}, ("good pass", "reject", *CHECKS)),
        (NoWindow, {"late pass", "silence", "code 0x0000"}, ("good pass",)),
        (NonZeroPasses, {*CODES}, ("good pass", "reject", *CHECKS)),
        (NoState, {"state Error"}, ("good pass", "reject")),
        (SilencePasses, {"silence", "late pass", "code 0x0000", "neighbour slot"}, ("good pass", "reject")),
        (PreviousSlot, {"good pass"}, ("reject", "silence")),
        (NextSlot, {"neighbour slot"}, ("good pass", "silence", "reject")),
        (RejectsAll, {"good pass"}, ("reject", "silence")),
        (Sloppy, set(), ("good pass", "reject", "late pass", "neighbour slot", "state Error", *STALE)),
    ],
)
def test_a_sloppy_plc_is_exposed_by_the_cases_made_for_it(line, exposing, others, tmp_path):
    with connected(line, tmp_path / "plc.jsonl") as plc:
        findings = probe(plc, named(*exposing, *others), PATIENCE)
    assert wrong(findings) == exposing


def test_a_plc_that_passes_rejects_is_exposed_even_between_the_cases(tmp_path):
    with connected(RejectPasses, tmp_path / "plc.jsonl") as plc:
        findings = probe(plc, named("reject", "silence"), PATIENCE)
    assert wrong(findings) == {"reject", "between the cases"}


def test_a_plc_that_is_deaf_to_the_heart_is_exposed(tmp_path):
    with connected(NoHeart, tmp_path / "plc.jsonl", window_ms=WHOLE_MS) as plc:
        findings = probe(plc, named("lost heartbeat", "good pass"), PATIENCE)
    assert wrong(findings) == {"lost heartbeat"}


def test_a_plc_that_rejects_at_once_when_the_vision_system_is_lost_is_right(tmp_path):
    with connected(RejectsOnLoss, tmp_path / "plc.jsonl", window_ms=WHOLE_MS) as plc:
        assert not wrong(probe(plc, named("lost heartbeat", "state Error", "good pass"), PATIENCE))


def test_a_plc_that_acknowledges_nothing_is_exposed(tmp_path):
    with connected(NeverAcknowledges, tmp_path / "plc.jsonl", takt_ms=100) as plc:
        findings = probe(plc, named("good pass"), PATIENCE)
    assert wrong(findings) >= {"good pass"}
    assert "never acknowledged" in findings[0].remark


def test_a_case_that_a_short_window_cannot_show_is_not_called_right(tmp_path):
    with connected(Line, tmp_path / "plc.jsonl", window_ms=100) as plc:
        findings = probe(plc, named("lost heartbeat", "good pass"), PATIENCE)
    assert wrong(findings) == {"lost heartbeat"}
    assert "set it to 360 or more" in next(finding.remark for finding in findings if not finding.ok)


def test_the_sequence_may_wrap_under_the_probe(tmp_path):
    with connected(Line, tmp_path / "plc.jsonl", first_seq=(1 << 32) - 40, takt_ms=10) as plc:
        findings = probe(plc, named("good pass", "torn, no copy", *STALE) * 2, PATIENCE)
    assert not wrong(findings)
    assert {finding.seq > 0xFFFF for finding in findings} == {True, False}
    assert 0 not in {finding.seq for finding in findings}, "its result_seq_copy is there before it is written"


def test_the_slots_are_left_empty_and_the_state_halted(tmp_path):
    memories: list[Memory] = []

    class Watched(Line):
        def __init__(self, settings, memory, *rest):
            super().__init__(settings, memory, *rest)
            memories.append(memory)

    with connected(Watched, tmp_path / "plc.jsonl") as plc:
        probe(plc, named("good pass", "neighbour slot"), PATIENCE)
    assert [memories[0].code(slot) for slot in range(4)] == [0] * 4
    assert memories[0].status().state == 2


# --- PLCs that are not there ---


def test_a_plc_that_triggers_nothing_is_one_clear_line(tmp_path):
    with connected(Line, tmp_path / "plc.jsonl", panels=1, first_seq=1, takt_ms=1) as plc:
        probe(plc, [], PATIENCE)
        with pytest.raises(PlcError, match=r"^the PLC triggered no panel in 1 s: start the conveyor[^\n]*$"):
            probe(plc, named("good pass") * 2, replace(PATIENCE, trigger_s=1))


class WrongSlot(Line):
    def _announce(self, slot, panel):
        super()._announce(slot, replace(panel, seq=panel.seq + 1))


def test_a_plc_that_uses_other_slots_is_one_clear_line(tmp_path):
    with (
        connected(WrongSlot, tmp_path / "plc.jsonl") as plc,
        pytest.raises(PlcError, match="takes slot sequence mod 4"),
    ):
        probe(plc, named("good pass"), PATIENCE)


# --- the command ---

LINE = """
format = 1
station = "front"
state_dir = "state"
recipes = {{ 1 = "recipe" }}
cameras = [{{ name = "top", kind = "simulated", channels = ["bright"] }}]
plc = {{ settings = {{ port = {port}, timeout_ms = 2000 }} }}
"""
CONVEYOR = f"conveyor = {{ settings = {{ takt_ms = 20, window_ms = {WHOLE_MS} }} }}\n"


@pytest.fixture
def line(tmp_path: Path) -> Path:
    path = tmp_path / "line.toml"
    path.write_text(LINE.format(port=free_port()))
    return path


def run(*arguments: object) -> Ran:
    app = typer.Typer()
    app.callback()(lambda: None)
    plc_commands.register(app)
    return CliRunner().invoke(app, ["plc", "probe", *(str(argument) for argument in arguments)])


def refused(kind: type[TaktError], ran: Ran) -> str:
    """The one line of an error."""
    assert isinstance(ran.exception, kind), ran.output
    assert "\n" not in str(ran.exception)
    return str(ran.exception)


def test_the_simulated_plc_answers_every_case_right(line, tmp_path):
    line.write_text(line.read_text() + CONVEYOR)
    ran = run(line, "--json", tmp_path / "found.json", "--report", tmp_path / "record.html", "--seed", 3)
    assert ran.exit_code == 0, ran.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["answers"], found["wrong"], found["accepted"]) == (2 * len(CASES), 0, True)
    assert (found["station"], found["seed"], found["simulated"]) == ("front", 3, True)
    assert {case["case"]: case["ack_code"] for case in found["cases"]}["silence"] == 3
    page = (tmp_path / "record.html").read_text()
    assert "127.0.0.1" in page
    assert all(finding["written"].split("'")[0] in page for finding in found["cases"])
    assert ran.output.count("right ") >= 2 * len(CASES)


def test_an_absent_plc_is_one_line_and_exit_status_3(line):
    ran = run(line)
    assert "Connection refused" in refused(PlcError, ran)
    assert PlcError.exit_status == 3


def test_a_running_line_is_left_alone(line):
    with claim(plc_commands.load(line)):
        assert "running already" in refused(ConfigError, run(line))


def test_a_port_in_use_is_one_line(line):
    line.write_text(line.read_text() + CONVEYOR)
    port = int(line.read_text().partition("port = ")[2].partition(",")[0])
    with socket.create_server(("127.0.0.1", port)):
        assert "is in use" in refused(PlcError, run(line))


class Plain(modbus.ModbusPlc):
    """A driver that writes right results only."""

    write_as_is = None  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]


def test_a_driver_that_cannot_write_wrong_results_is_named():
    with pytest.raises(UsageError, match="'odd' cannot write a wrong result"):
        plc_commands._probing(Plain(modbus.Settings()), "odd")


# --- the record ---


def test_the_record_shows_what_was_wrong_and_escapes_what_the_plc_says():
    occasion = probe_report.Occasion("2026-01-02", "front", "modbus, port 502", False, 0, "1.0")
    bad = judge(CASES[1], replace(PANEL, panel_id="<b>&"), ACK_PASSED, 12.0)
    page = probe_report.page(occasion, [judge(CASES[0], PANEL, ACK_PASSED, 3.0), bad])
    assert "1 of 2 answers WRONG (reject)" in page
    assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in page
    assert "WRONG: PASSED" in page


def test_a_line_of_the_table_names_case_acknowledgement_and_time():
    said = probe_report.line(judge(CASES[0], PANEL, ACK_PASSED, 3.2))
    assert said.split() == ["right", "good", "pass", "1", "passed", "3", *probe_cases.CASES[0].written.split()]
