"""The contract with the PLC, the course of things: slots, sequences, what stops a panel, restarts, duplicates."""

from dataclasses import replace

import pytest
from handshake_parts import (
    BAD,
    CAMERAS,
    EXPECTED,
    GIVE_UP_MS,
    NO_ANSWER,
    TERMS,
    Desk,
    captured,
    verdict,
)

from pipeline.handshake import reopen, step
from pipeline.messages import Fault, Outcome
from pipeline.open_panels import (
    CapturedSeen,
    Clear,
    LedgerState,
    LinkLost,
    Record,
    Route,
    Shown,
    State,
    Stopping,
    Tick,
    Unrouted,
    VerdictSeen,
    Write,
)
from pipeline.plcs import ACK_PASSED, ACK_REJECTED, ACK_TIMED_OUT, PASS_CODE, REJECT_CODE, SlotSeen
from pipeline.triggers import LONGEST_JUMP

PASSED, REJECTED = (Outcome.PASS, None), (Outcome.REJECT, None)


def faulted(fault: Fault) -> tuple[Outcome, Fault]:
    return Outcome.REJECT, fault


# --- rule 2 and 6: slots and sequences ---


def test_four_panels_in_flight_are_told_apart():
    desk = Desk()
    tokens = [desk.trigger(seq) for seq in (1, 2, 3, 4)]
    for token, changes in zip(tokens[::-1], ({}, BAD, {}, NO_ANSWER), strict=True):
        desk.capture(token)
        desk.judge(token, **changes)
    written = [(write.slot, write.result.seq, write.outcome) for write in desk.writes()]
    assert written == [
        (0, 4, Outcome.PASS),
        (3, 3, Outcome.REJECT),
        (2, 2, Outcome.PASS),
        (1, 1, Outcome.REJECT),
    ]
    for seq in (1, 2, 3, 4):
        desk.ack(seq, ACK_PASSED if seq in (2, 4) else ACK_REJECTED)
    assert [(seq, outcome) for seq, outcome, _, _ in desk.outcomes()] == [
        (1, Outcome.REJECT),
        (2, Outcome.PASS),
        (3, Outcome.REJECT),
        (4, Outcome.PASS),
    ]


def test_four_triggers_seen_in_one_look_are_opened_in_their_order():
    desk = Desk(first_seq=5)
    for seq in (8, 6, 9, 7):
        desk.trigger(seq, look=False)
    desk.look()
    assert [trigger.seq for trigger in desk.routed()] == [6, 7, 8, 9]
    assert len({trigger.token for trigger in desk.routed()}) == 4


def test_a_slot_taken_again_without_an_ack_closes_the_panel_that_was_in_it():
    desk = Desk()
    for seq in (1, 2, 3, 4):
        desk.trigger(seq)
    desk.trigger(5)
    assert desk.outcomes() == [(1, Outcome.REJECT, Fault.UNACKNOWLEDGED, False)]
    assert [panel.seq for panel in desk.state.panels] == [2, 3, 4, 5]


def test_ack_and_next_trigger_in_one_look_concern_their_own_panels():
    desk = Desk()
    desk.inspected(1)
    desk.slots[1] = SlotSeen(5, "panel-5", 3, 1000, 1, ACK_PASSED)
    for seq in (2, 3, 4):
        desk.trigger(seq, look=False)
    desk.look()
    assert desk.outcomes() == [(1, Outcome.PASS, None, True)]
    assert [panel.seq for panel in desk.state.panels] == [2, 3, 4, 5]


@pytest.mark.parametrize(("last", "seen"), [(10, 11), (10, 12), (10, 17), (0xFFFF_FFFE, 2), (10, 10 + LONGEST_JUMP)])
def test_each_skipped_number_is_a_missed_trigger(last, seen):
    desk = Desk(first_seq=last)
    desk.trigger(seen)
    skipped = [(last + ahead) % (1 << 32) for ahead in range(1, (seen - last) % (1 << 32))]
    assert desk.outcomes() == [(seq, Outcome.REJECT, Fault.MISSED_TRIGGER, False) for seq in skipped]
    assert [record["seq"] for record in desk.records("trigger")] == [*skipped, seen]
    assert desk.state.triggers == len(skipped) + 1
    assert all(final.token == "" for final in desk.finals())


def test_the_sequence_wraps_without_a_gap():
    desk = Desk(first_seq=0xFFFF_FFFE)
    for seq in (0xFFFF_FFFF, 0, 1):
        desk.inspected(seq)
        desk.ack(seq, ACK_PASSED)
    assert [(seq, fault) for seq, _, fault, _ in desk.outcomes()] == [(0xFFFF_FFFF, None), (0, None), (1, None)]


# --- what stops a panel at its start ---


def announced(desk: Desk, seq: int, recipe: str = EXPECTED.recipe) -> None:
    """To the cameras alone: they take its frames, which would be the neighbours' surplus otherwise."""
    trigger = desk.routed()[-1]
    assert (trigger.seq, trigger.inspector, trigger.recipe, trigger.cameras) == (seq, None, recipe, CAMERAS)


def test_an_unknown_recipe_is_a_named_reject_at_once():
    desk = Desk()
    desk.trigger(1, recipe_no=9)
    assert desk.written() == [faulted(Fault.RECIPE)]
    announced(desk, 1, recipe="")
    assert desk.writes()[0].result.recipe_echo == 9
    desk.ack(1, ACK_REJECTED)
    assert desk.outcomes() == [(1, Outcome.REJECT, Fault.RECIPE, True)]
    assert (desk.finals()[0].recipe, desk.finals()[0].engine) == ("", "")


def test_without_an_inspector_the_panel_is_unroutable_at_once():
    desk = Desk(inspector=None)
    desk.trigger(1)
    assert desk.written() == [faulted(Fault.UNROUTABLE)]


def test_a_trigger_that_did_not_reach_a_peer_is_unroutable():
    desk = Desk()
    token = desk.trigger(1)
    desk.tell(Unrouted(token))
    desk.capture(token)
    desk.judge(token)
    assert desk.written() == [faulted(Fault.UNROUTABLE)]


# --- link, ledger, stopping ---


def test_a_link_lost_before_the_write_rejects_what_is_open():
    desk = Desk()
    token = desk.trigger(1)
    desk.capture(token)
    desk.tell(LinkLost())
    desk.judge(token)
    assert desk.written() == [faulted(Fault.PLC_LOST)]
    desk.wait(GIVE_UP_MS)
    assert desk.outcomes() == [(1, Outcome.REJECT, Fault.PLC_LOST, False)]


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (ACK_PASSED, (Outcome.PASS, None, True)),
        (ACK_TIMED_OUT, (Outcome.REJECT, Fault.LATE, True)),
        (None, (Outcome.REJECT, Fault.UNACKNOWLEDGED, False)),
    ],
)
def test_a_link_lost_after_the_write_leaves_the_word_to_the_ack(code, outcome):
    desk = Desk()
    desk.inspected(1)
    desk.tell(LinkLost())
    if code is None:
        desk.wait(GIVE_UP_MS)
    else:
        desk.ack(1, code)
    assert desk.written() == [PASSED]
    assert desk.outcomes() == [(1, *outcome)]


def test_while_the_ledger_is_lost_nothing_passes_and_it_does_again_after():
    desk = Desk()
    open_already = desk.trigger(1)
    desk.capture(open_already)
    desk.tell(LedgerState(ok=False))
    opened_now = desk.trigger(2)
    desk.capture(opened_now)
    desk.judge(open_already)
    desk.judge(opened_now)
    desk.tell(LedgerState(ok=True))
    desk.wait(1)
    assert desk.written() == [faulted(Fault.LEDGER)] * 2
    announced(desk, 2)
    desk.inspected(3)
    assert desk.written()[-1] == PASSED


def test_stopping_rejects_what_is_open_and_what_comes_while_stopping():
    desk = Desk()
    open_already = desk.trigger(1)
    desk.capture(open_already)
    desk.tell(Stopping())
    desk.judge(open_already)
    desk.inspected(2)
    assert desk.written() == [faulted(Fault.STOPPED)] * 2
    announced(desk, 2)
    desk.wait(GIVE_UP_MS)
    assert desk.outcomes() == [(seq, Outcome.REJECT, Fault.STOPPED, False) for seq in (1, 2)]


def test_the_first_fault_keeps_the_name():
    desk = Desk()
    token = desk.trigger(1)
    desk.tell(CapturedSeen(captured(token, "top", fault=Fault.CAMERA, digest="")))
    for event in (Unrouted(token), LinkLost(), LedgerState(ok=False), Stopping()):
        desk.tell(event)
    desk.wait(1)
    assert desk.written() == [faulted(Fault.CAMERA)]


# --- rule 8: restart ---


def after_restart(intent: str | None) -> Desk:
    """The last bridge ended with panel 6 open, after recording that `intent` would be written."""
    desk = Desk(first_seq=6)
    record = {"token": "0" * 32, "seq": 6, "panel_id": "panel-6", "recipe_no": 3}
    desk.state = reopen(desk.state, [record | ({"intent": intent} if intent else {})], desk.now_ns)
    desk.slots[2] = SlotSeen(6, "panel-6", 3, 1000, 2, ACK_PASSED)
    shown = tuple(Shown(seen.trigger_seq, waited=True) for seen in desk.slots)
    desk.state = replace(desk.state, shown=shown)
    return desk


@pytest.mark.parametrize(
    ("intent", "code", "outcome"),
    [
        ("PASS", ACK_PASSED, (Outcome.PASS, None)),
        ("PASS", ACK_REJECTED, (Outcome.REJECT, Fault.CRASH)),
        ("PASS", ACK_TIMED_OUT, (Outcome.REJECT, Fault.CRASH)),
        ("REJECT", ACK_REJECTED, (Outcome.REJECT, Fault.CRASH)),
        ("REJECT", ACK_PASSED, (Outcome.PASS, Fault.CONFLICT)),
        (None, ACK_TIMED_OUT, (Outcome.REJECT, Fault.CRASH)),
        (None, ACK_PASSED, (Outcome.PASS, Fault.CONFLICT)),
    ],
)
def test_after_a_restart_the_plc_says_what_became_of_an_open_panel(intent, code, outcome):
    desk = after_restart(intent)
    desk.ack(6, code)
    assert desk.outcomes() == [(6, *outcome, True)]
    assert str(desk.finals()[0].latency_ms) == "nan"  # its trigger's edge is of another process's time
    assert 2 in desk.cleared()
    assert (desk.state.triggers, desk.state.passed + desk.state.rejected) == (1, 1)


@pytest.mark.parametrize("intent", ["PASS", "REJECT", None])
def test_after_a_restart_silence_is_a_crash_and_the_place_unknown(intent):
    desk = after_restart(intent)
    desk.look()
    assert all(outcome is Outcome.REJECT for outcome, _ in desk.written())
    desk.wait(GIVE_UP_MS)
    assert desk.outcomes() == [(6, Outcome.REJECT, Fault.CRASH, False)]


def test_after_a_restart_a_verdict_for_an_open_panel_passes_nothing():
    desk = after_restart(None)
    desk.capture("0" * 32)
    desk.judge("0" * 32)
    desk.look()
    assert all(outcome is Outcome.REJECT for outcome, _ in desk.written())


def test_triggers_made_while_the_bridge_was_down_are_missed():
    desk = after_restart("PASS")
    desk.trigger(9)
    missed = [(seq, fault) for seq, _, fault, _ in desk.outcomes() if fault is Fault.MISSED_TRIGGER]
    assert missed == [(7, Fault.MISSED_TRIGGER), (8, Fault.MISSED_TRIGGER)]


def test_nothing_is_done_for_a_token_that_nobody_drew():
    desk = Desk()
    desk.trigger(1)
    before = desk.state
    for event in (CapturedSeen(captured("f" * 32, "top")), VerdictSeen(verdict("f" * 32)), Unrouted("f" * 32)):
        for action in desk.tell(event):
            assert isinstance(action, Record) and action.what["late"]
    assert desk.state == before


def test_a_tick_without_panels_does_nothing():
    state = State(TERMS)
    assert step(state, Tick(10**12)) == (state, [])
    assert not any(isinstance(action, (Write, Clear, Route)) for action in Desk().look())


def test_the_pass_code_is_written_for_a_pass_alone():
    desk = Desk()
    for seq, changes in ((1, {}), (2, BAD), (3, NO_ANSWER), (4, {"score": 0.9})):
        desk.inspected(seq, **changes)
    assert [write.result.code for write in desk.writes()] == [PASS_CODE, REJECT_CODE, REJECT_CODE, REJECT_CODE]
