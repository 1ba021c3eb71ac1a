"""Single guards of the hand-shake that nothing else shows: each of these fails when one of them is forgotten."""

from dataclasses import replace
from math import inf

import pytest
from handshake_parts import (
    BAD,
    CAMERAS,
    EXPECTED,
    GIVE_UP_MS,
    INSPECTOR,
    MS,
    OTHER,
    OTHER_NO,
    RECIPE_NO,
    TERMS,
    Desk,
    captured,
    digest_of,
    verdict,
)

from pipeline.decision import proves, result
from pipeline.messages import Fault, Outcome, Timing
from pipeline.open_panels import CapturedSeen, LedgerState, Panel, Terms, Unrecorded
from pipeline.plcs import ACK_PASSED, ACK_REJECTED, SLOTS, SlotSeen

PASSED = (Outcome.PASS, None)
HALF = 1 << 31
TOKEN = "0" * 32


# --- triggers ---


@pytest.mark.parametrize(("ahead", "missed"), [(4096, 4095), (4097, 0), (HALF - 1, 0)])
def test_a_leap_of_the_plcs_count_is_no_row_of_missed_panels(ahead, missed):
    """Up to half the range, whatever the other slots still show: two thousand million records would stop the line."""
    desk = Desk(first_seq=7)
    desk.trigger((7 + ahead) % (1 << 32))
    assert len(desk.outcomes()) == missed and len(desk.records("trigger")) == missed + 1
    assert desk.state.last_seq == (7 + ahead) % (1 << 32)


def test_a_plc_that_counts_anew_leaves_the_panels_that_are_open_one_outcome_each():
    desk = Desk(first_seq=4)
    token = desk.trigger(5)
    desk.trigger(6)
    for slot, seen in enumerate(desk.slots):
        if seen.trigger_seq != 5:
            desk.slots[slot] = SlotSeen(slot, "", 0, 0, slot, 0)
    desk.look()
    assert "the PLC counts anew" in [record["event"] for record in desk.records("state")]
    assert desk.finals() == []
    desk.wait(GIVE_UP_MS)
    assert [record["token"] for record in desk.records("outcome") if record["seq"] == 5] == [token]


@pytest.mark.parametrize("name", [Fault.CAMERA, Fault.UNACKNOWLEDGED])
def test_a_panel_whose_slot_is_taken_again_is_unacknowledged_whatever_was_wrong_with_it(name):
    desk = Desk()
    token = desk.trigger(1)
    if name is Fault.CAMERA:
        desk.tell(CapturedSeen(captured(token, "top", fault=Fault.CAMERA, digest="")))
        desk.wait(1)
    desk.trigger(5)
    assert (1, Outcome.REJECT, Fault.UNACKNOWLEDGED, False) in desk.outcomes()
    assert desk.cleared() == [1]  # what was written for the one is not left to stand under the other


def test_every_slot_is_emptied_at_the_end_of_its_panel():
    desk = Desk()
    for seq, code in ((1, ACK_PASSED), (2, ACK_REJECTED)):
        desk.inspected(seq)
        desk.ack(seq, code)
    desk.trigger(3)
    desk.wait(GIVE_UP_MS)
    assert desk.cleared() == [1, 2, 3]


# --- messages ---


def test_what_comes_in_time_is_not_recorded_as_late():
    desk = Desk()
    desk.inspected(1)
    records = [*desk.records("captured"), *desk.records("verdict")]
    assert len(records) == 3 and not any("late" in record for record in records)


def test_a_report_with_a_fault_spoils_the_panel_even_if_it_names_a_digest():
    desk = Desk()
    token = desk.trigger(1)
    desk.capture(token)
    desk.tell(CapturedSeen(captured(token, "top", fault=Fault.RING_FULL)))
    desk.judge(token)
    assert desk.written() == [(Outcome.REJECT, Fault.RING_FULL)]


def test_a_ledger_that_can_be_written_stops_nothing():
    desk = Desk()
    token = desk.trigger(1)
    desk.tell(LedgerState(ok=True))
    desk.capture(token)
    desk.judge(token)
    assert desk.written() == [PASSED]


def test_a_pass_that_could_not_be_recorded_becomes_a_reject():
    desk = Desk()
    token = desk.inspected(1)
    desk.tell(Unrecorded(token))
    desk.wait(1)
    assert desk.written() == [PASSED, (Outcome.REJECT, Fault.LEDGER)]


def test_a_record_that_failed_for_a_panel_that_is_gone_changes_nothing():
    desk = Desk()
    desk.trigger(1)
    before = desk.state
    assert desk.tell(Unrecorded("f" * 32)) == []
    assert desk.state == before


def test_the_first_doubt_about_a_written_pass_keeps_the_name():
    desk = Desk()
    token = desk.inspected(1)
    desk.tell(CapturedSeen(captured(token, "top", fault=Fault.CAMERA, digest="")))
    desk.judge(token, **BAD)
    desk.ack(1, ACK_PASSED)
    assert desk.outcomes() == [(1, Outcome.PASS, Fault.CAMERA, True)]


# --- the proof ---


def panel_of(**bounds: float) -> tuple[Panel, Terms]:
    """A completely captured panel, whose recipe has these bounds, and terms."""
    seen, sets = (
        SlotSeen(1, "panel-1", RECIPE_NO, 1000, 0, 0),
        tuple((name, digest_of(TOKEN, name)) for name in CAMERAS),
    )
    panel = Panel(1, seen, TOKEN, 0, 960 * MS, replace(EXPECTED, **bounds), inspector=INSPECTOR, captured=sets)
    return panel, TERMS


def test_a_score_at_the_lower_bound_passes():
    panel, terms = panel_of()
    lowest = verdict(TOKEN, score=EXPECTED.low)
    assert proves(lowest, panel, terms)
    assert not proves(lowest.model_copy(update={"score": EXPECTED.low - 1e-9}), panel, terms)


def test_an_infinite_score_passes_under_no_bounds():
    panel, terms = panel_of(low=-inf, limit=inf)
    assert proves(verdict(TOKEN, limit=inf), panel, terms)
    assert not proves(verdict(TOKEN, limit=inf, score=inf), panel, terms)


# --- the end ---


def test_a_reject_that_nobody_wrote_is_no_product_defect():
    desk = Desk()
    desk.trigger(1)
    desk.ack(1, ACK_REJECTED)
    assert desk.outcomes() == [(1, Outcome.REJECT, Fault.CONFLICT, True)]


def test_a_reject_that_is_not_written_yet_keeps_its_fault():
    desk = Desk()
    token = desk.trigger(1)
    desk.tell(CapturedSeen(captured(token, "top", fault=Fault.CAMERA, digest="")))
    desk.ack(1, ACK_REJECTED)
    assert desk.outcomes() == [(1, Outcome.REJECT, Fault.CAMERA, True)]


def test_the_record_of_an_outcome_tells_of_the_inspection():
    desk = Desk()
    token = desk.inspected(1, **BAD)
    desk.ack(1, ACK_REJECTED)
    desk.trigger(2)
    desk.wait(GIVE_UP_MS)
    inspected, silent = desk.records("outcome")
    assert (inspected["token"], len(inspected["defects"]), inspected["batch"]) == (token, 1, 1)
    assert inspected["timing"].keys() == Timing.model_fields.keys()
    assert not {"defects", "timing", "batch"} & silent.keys()


def test_third_parties_hear_who_inspected_the_panel_and_how_it_scored():
    desk = Desk()
    token = desk.inspected(1, **BAD)
    desk.ack(1, ACK_REJECTED)
    [said] = desk.finals()
    assert (said.token, said.score, said.limit, said.defects) == (token, 0.9, 0.5, BAD["defects"])
    assert (said.recipe, said.calibration, said.engine) == (EXPECTED.recipe, EXPECTED.calibration, EXPECTED.engine)


# --- what the PLC reads ---


def judged_bad(recipe_no: int) -> Panel:
    token = "0" * 32
    seen = SlotSeen(1, "panel-1", recipe_no, 1000, 0, 0)
    return Panel(1, seen, token, 0, 960 * MS, TERMS.recipes.get(recipe_no), verdict=verdict(token, **BAD))


@pytest.mark.parametrize("recipe_no", [OTHER_NO, 9])
def test_without_a_scale_there_are_no_lengths(recipe_no):
    assert OTHER.mm_per_px is None
    said = result(judged_bad(recipe_no), Outcome.REJECT, None, 5 * MS)
    assert (said.defect_count, said.x_mm10, said.y_mm10, said.area_mm2_100) == (1, 0, 0, 0)


def test_four_slots_seen_before_the_first_trigger_open_nothing():
    desk = Desk()
    desk.state = replace(desk.state, last_seq=None)
    desk.look()
    assert desk.state.last_seq == 0 and desk.finals() == [] and desk.routed() == []
    for seq in range(1, SLOTS + 1):
        desk.trigger(seq)
    assert len(desk.routed()) == SLOTS
