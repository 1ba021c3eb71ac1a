"""The contract with the PLC, rule by rule, without a PLC."""

from dataclasses import replace
from math import inf, nan

import pytest
from handshake_parts import (
    BAD,
    CAMERAS,
    DEADLINE_MS,
    EXPECTED,
    GIVE_UP_MS,
    NO_ANSWER,
    OTHER,
    OTHER_NO,
    TERMS,
    Desk,
    captured,
    verdict,
)

from pipeline.messages import FAULTS, Fault, Outcome
from pipeline.open_panels import (
    CapturedSeen,
    Record,
    VerdictSeen,
)
from pipeline.plcs import ACK_PASSED, ACK_REJECTED, ACK_TIMED_OUT, REJECT_CODE

PASSED, REJECTED = (Outcome.PASS, None), (Outcome.REJECT, None)


def faulted(fault: Fault) -> tuple[Outcome, Fault]:
    return Outcome.REJECT, fault


# --- the good case ---


def test_a_good_panel_is_announced_written_and_closed_by_the_ack():
    desk = Desk()
    token = desk.trigger(1)
    assert [trigger.token for trigger in desk.routed()] == [token]
    desk.capture(token)
    assert desk.writes() == []  # no verdict yet: nothing is written, and nothing is not a pass
    desk.wait(50)
    desk.judge(token)
    assert desk.written() == [PASSED]
    assert desk.finals() == []  # what is written is not yet what the PLC did
    desk.wait(19)
    desk.ack(1, ACK_PASSED)
    assert desk.outcomes() == [(1, Outcome.PASS, None, True)]
    assert desk.finals()[0].latency_ms == pytest.approx(70)
    assert desk.cleared() == [1]
    assert (desk.state.triggers, desk.state.passed, desk.state.rejected, desk.state.panels) == (1, 1, 0, ())


def test_what_is_announced_names_recipe_cameras_inspector_and_patience():
    desk = Desk()
    desk.trigger(1, window_ms=500)
    [trigger] = desk.routed()
    assert (trigger.seq, trigger.panel_id, trigger.recipe) == (1, "panel-1", EXPECTED.recipe)
    assert (trigger.cameras, trigger.inspector, trigger.window_ms) == (CAMERAS, "inspector", 460)


def test_the_result_carries_the_contracts_fields():
    desk = Desk()
    token = desk.trigger(1)
    desk.capture(token)
    desk.wait(119)
    desk.judge(token, **BAD)
    [write] = desk.writes()
    result = write.result
    assert (write.slot, result.seq, result.code, result.recipe_echo) == (1, 1, REJECT_CODE, 3)
    assert (result.fault, result.defect_count, result.score_x1000, result.latency_ms) == (0, 1, 900, 120)
    assert (result.x_mm10, result.y_mm10) == (55, 22)  # (100 + 20 / 2) px * 0.05 mm, in 0.1 mm; 22.5 rounds to even
    assert (result.area_mm2_100, result.engine_hash16) == (38, 0xAB12)  # 150 px * 0.0025 mm2


@pytest.mark.parametrize(("score", "register"), [(nan, 0xFFFF), (inf, 0xFFFF), (-1.0, 0), (1e9, 0xFFFF)])
def test_a_score_outside_its_register_stays_inside_16_bits(score, register):
    desk = Desk()
    desk.inspected(1, **(BAD | {"score": score}))
    assert desk.writes()[0].result.score_x1000 == register


def test_the_records_come_before_what_they_announce():
    desk = Desk()
    token = desk.trigger(1)
    desk.capture(token)
    desk.judge(token)
    desk.ack(1, ACK_PASSED)
    kinds = [a.step if isinstance(a, Record) else type(a).__name__ for a in desk.actions]
    expected = ["trigger", "Route", "captured", "captured", "verdict", "Write", "ack", "outcome", "Publish", "Clear"]
    assert kinds == expected


# --- rule 1 and 3: what is no pass ---


@pytest.mark.parametrize(
    ("changes", "written"),
    [
        ({"recipe": OTHER.recipe}, faulted(Fault.MISMATCH)),
        ({"calibration": OTHER.calibration}, faulted(Fault.MISMATCH)),
        ({"engine": OTHER.engine}, faulted(Fault.MISMATCH)),
        ({"engine": ""}, faulted(Fault.MISMATCH)),
        ({"digest": "f" * 32}, faulted(Fault.MISMATCH)),
        ({"digest": ""}, faulted(Fault.MISMATCH)),
        ({"station": "cell_2"}, faulted(Fault.MISMATCH)),
        ({"inspector": "inspector_2"}, faulted(Fault.MISMATCH)),
        ({"score": 0.51}, faulted(Fault.MISMATCH)),
        ({"score": nan}, faulted(Fault.MISMATCH)),
        ({"score": inf}, faulted(Fault.MISMATCH)),
        ({"score": -inf}, faulted(Fault.MISMATCH)),
        ({"limit": nan}, faulted(Fault.MISMATCH)),
        ({"fault": Fault.IMPLAUSIBLE}, faulted(Fault.IMPLAUSIBLE)),
        (NO_ANSWER, faulted(Fault.ENGINE)),
        (BAD, REJECTED),
    ],
)
def test_a_verdict_that_does_not_prove_itself_is_a_reject(changes, written):
    desk = Desk()
    desk.inspected(1, **changes)
    assert desk.written() == [written]
    assert desk.writes()[0].result.code == REJECT_CODE
    assert desk.writes()[0].result.fault == (FAULTS[written[1]].number if written[1] else 0)


def test_a_score_at_the_limit_passes():
    desk = Desk()
    desk.inspected(1, score=0.5)
    assert desk.written() == [PASSED]


def test_the_recipe_that_counts_is_the_one_the_plc_asked_for():
    desk = Desk()
    token = desk.trigger(1, recipe_no=OTHER_NO)
    desk.capture(token)
    desk.judge(token)  # made by the recipe of number 3
    assert desk.written() == [faulted(Fault.MISMATCH)]


@pytest.mark.parametrize("missing", CAMERAS)
def test_nothing_passes_while_a_camera_has_not_reported(missing):
    desk = Desk()
    token = desk.trigger(1)
    desk.capture(token, *(camera for camera in CAMERAS if camera != missing))
    desk.judge(token)
    assert desk.writes() == []
    desk.wait(DEADLINE_MS)
    assert desk.written() == [faulted(Fault.NOT_CAPTURED)]


def test_a_reject_for_a_defect_waits_for_every_camera_and_a_fault_for_none():
    """A product defect is one of a complete set."""
    desk = Desk()
    defective, sick = desk.trigger(1), desk.trigger(2)
    desk.judge(defective, **BAD)
    desk.judge(sick, **NO_ANSWER)
    assert desk.written() == [faulted(Fault.ENGINE)]
    desk.capture(defective)
    desk.wait(1)
    assert desk.written()[1:] == [REJECTED]
    desk.judge(desk.trigger(3), **BAD)
    desk.wait(DEADLINE_MS)
    assert desk.written()[2:] == [faulted(Fault.NOT_CAPTURED)]


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "f" * 32},
        {"digest": ""},
        {"recipe": OTHER.recipe},
        {"calibration": OTHER.calibration},
        {"engine": OTHER.engine},
        {"inspector": "inspector_2"},
        {"station": "cell_2"},
    ],
    ids=str,
)
def test_a_reject_on_other_pixels_or_by_another_engine_is_no_product_defect(changes):
    desk = Desk()
    desk.inspected(1, **BAD | changes)
    assert desk.written() == [faulted(Fault.MISMATCH)]


@pytest.mark.parametrize(
    "fault", [Fault.INCOMPLETE, Fault.ASSOCIATION, Fault.RING_FULL, Fault.GEOMETRY, Fault.CAMERA, Fault.OVERRUN]
)
@pytest.mark.parametrize("first", ["verdict", "captured"])
def test_a_faulty_set_keeps_its_own_name_and_never_passes(fault, first):
    desk = Desk()
    token = desk.trigger(1)
    events = [VerdictSeen(verdict(token)), CapturedSeen(captured(token, "top", fault=fault, digest=""))]
    for event in events if first == "verdict" else events[::-1]:
        desk.tell(event)
    desk.capture(token, "side")
    desk.wait(1)
    assert desk.written() == [faulted(fault)]


@pytest.mark.parametrize(
    "changes", [{"camera": "bottom"}, {"station": "cell_2"}, {"digest": ""}], ids=["camera", "station", "no digest"]
)
def test_a_report_that_is_not_of_this_stations_pixels_spoils_the_panel(changes):
    desk = Desk()
    token = desk.trigger(1)
    desk.capture(token)
    desk.tell(CapturedSeen(captured(token, "top").model_copy(update=changes)))
    desk.judge(token)
    assert desk.written() == [faulted(Fault.MISMATCH)]


def test_no_pixels_at_all_are_no_match_even_if_the_verdict_says_so_too():
    desk = Desk(terms=replace(TERMS, cameras=("top",)))
    token = desk.trigger(1)
    desk.tell(CapturedSeen(captured(token, "top", digest="")))
    desk.judge(token, digest="")
    assert desk.written() == [faulted(Fault.MISMATCH)]


# --- rule 5: late ---


def test_a_pass_is_written_before_the_deadline_and_not_at_it():
    in_time, late = Desk(), Desk()
    for desk, ms in ((in_time, DEADLINE_MS - 2), (late, DEADLINE_MS - 1)):
        token = desk.trigger(1)
        desk.capture(token)
        desk.wait(ms)
        desk.judge(token)  # one millisecond later
    assert in_time.written() == [PASSED]
    assert late.written() == [faulted(Fault.LATE)]


@pytest.mark.parametrize(("plc_ms", "deadline_ms"), [(400, 360), (5000, 960), (0, 960)])
def test_the_shorter_patience_wins_and_0_says_none(plc_ms, deadline_ms):
    desk = Desk()
    token = desk.trigger(1, window_ms=plc_ms)
    desk.capture(token)
    desk.wait(deadline_ms - 1)
    assert desk.writes() == []
    desk.wait(1)
    assert desk.written() == [faulted(Fault.LATE)]


@pytest.mark.parametrize("window_ms", [1, 39, 40])
def test_a_plc_with_less_patience_than_the_margin_gets_a_reject_at_once(window_ms):
    desk = Desk()
    desk.trigger(1, window_ms=window_ms)
    assert desk.written() == [faulted(Fault.NOT_CAPTURED)]


def test_a_late_verdict_is_recorded_and_changes_nothing():
    desk = Desk()
    token = desk.trigger(1)
    desk.capture(token)
    desk.wait(DEADLINE_MS)
    desk.judge(token)  # after the reject was written
    desk.ack(1, ACK_REJECTED)
    desk.judge(token)  # after the panel was closed
    assert desk.written() == [faulted(Fault.LATE)]
    assert desk.outcomes() == [(1, Outcome.REJECT, Fault.LATE, True)]
    assert [record.get("late") for record in desk.records("verdict")] == [True, True]


def test_a_late_verdict_is_never_applied_to_the_next_panel_of_the_slot():
    desk = Desk()
    old = desk.trigger(1)
    desk.wait(DEADLINE_MS)
    desk.ack(1, ACK_TIMED_OUT)
    for seq in (2, 3, 4, 5):
        desk.trigger(seq)
    desk.capture(old)
    desk.judge(old)
    assert desk.written() == [faulted(Fault.NOT_CAPTURED)]
    assert all(panel.verdict is None and panel.captured == () for panel in desk.state.panels)
    assert all(record["late"] for record in desk.records("captured"))


# --- rule 4: the ack decides ---


@pytest.mark.parametrize(
    ("changes", "code", "outcome"),
    [
        ({}, ACK_PASSED, (Outcome.PASS, None)),
        ({}, ACK_REJECTED, (Outcome.REJECT, Fault.REFUSED)),
        ({}, ACK_TIMED_OUT, (Outcome.REJECT, Fault.LATE)),
        (BAD, ACK_REJECTED, (Outcome.REJECT, None)),
        (BAD, ACK_TIMED_OUT, (Outcome.REJECT, Fault.LATE)),
        (BAD, ACK_PASSED, (Outcome.PASS, Fault.CONFLICT)),
        (NO_ANSWER, ACK_REJECTED, (Outcome.REJECT, Fault.ENGINE)),
        (NO_ANSWER, ACK_TIMED_OUT, (Outcome.REJECT, Fault.ENGINE)),
    ],
)
def test_the_ledger_says_what_the_plc_did(changes, code, outcome):
    desk = Desk()
    desk.inspected(1, **changes)
    desk.ack(1, code)
    assert desk.outcomes() == [(1, *outcome, True)]
    assert desk.records("outcome")[0]["outcome"] is outcome[0]
    assert desk.state.passed + desk.state.rejected == 1
    assert desk.state.passed == (outcome[0] is Outcome.PASS)


def test_a_pass_acknowledged_before_anything_was_written_is_a_conflict():
    desk = Desk()
    desk.trigger(1)
    desk.ack(1, ACK_PASSED)
    assert desk.outcomes() == [(1, Outcome.PASS, Fault.CONFLICT, True)]
    assert desk.written() == []


def test_the_plcs_own_window_closes_a_panel_that_nobody_judged():
    desk = Desk()
    desk.trigger(1)
    desk.ack(1, ACK_TIMED_OUT)
    assert desk.outcomes() == [(1, Outcome.REJECT, Fault.LATE, True)]


@pytest.mark.parametrize("code", [0, 4, 0x5A3C, 0xFFFF])
def test_an_ack_code_outside_the_contract_is_no_ack(code):
    desk = Desk()
    desk.inspected(1)
    desk.ack(1, code)
    assert desk.finals() == []


def test_the_ack_of_another_sequence_is_no_ack():
    desk = Desk(first_seq=4)
    desk.inspected(5)
    desk.slots[1] = replace(desk.slots[1], ack_seq=1, ack_code=ACK_PASSED)
    desk.look()
    assert desk.finals() == []


def test_without_an_ack_the_panels_place_is_unknown():
    desk = Desk()
    desk.inspected(1)
    desk.wait(GIVE_UP_MS - 2)
    assert desk.finals() == []
    desk.wait(1)
    assert desk.outcomes() == [(1, Outcome.REJECT, Fault.UNACKNOWLEDGED, False)]
    assert desk.cleared() == [1]
    assert str(desk.finals()[0].latency_ms) == "nan"
    desk.ack(1, ACK_PASSED)  # too late: a trigger has one outcome
    assert len(desk.finals()) == 1
