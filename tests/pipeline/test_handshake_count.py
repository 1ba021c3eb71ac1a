"""The PLC's count: where it starts, and what becomes of triggers when it starts anew."""

from dataclasses import replace

import pytest
from handshake_parts import INSPECTOR, MS, RECIPE_NO, TERMS, Desk

from pipeline.handshake import step
from pipeline.messages import Fault, Outcome
from pipeline.open_panels import PlcSeen, Publish, Record, State
from pipeline.plcs import ACK_PASSED, ACK_REJECTED, ACK_TIMED_OUT, SLOTS, SlotSeen
from pipeline.triggers import LONGEST_JUMP

PASSED = (Outcome.PASS, None)


def faulted(fault: Fault) -> tuple[Outcome, Fault]:
    return Outcome.REJECT, fault


@pytest.mark.parametrize("newest", [0, 50, 92, 100 + LONGEST_JUMP + 1])
def test_a_plc_that_counts_anew_is_followed_from_there(newest):
    desk = Desk(first_seq=100)
    desk.slots = [SlotSeen(0, "", 0, 0, 0, 0) for _ in range(SLOTS)]
    desk.slots[newest % SLOTS] = SlotSeen(newest, "", 3, 1000, newest, 0)
    desk.look()
    assert desk.records("state") == [{"event": "the PLC counts anew", "from": 100, "to": newest}]
    assert desk.outcomes() == [] and desk.state.triggers == 0
    desk.inspected(newest + 1)
    assert desk.written() == [PASSED]


@pytest.mark.parametrize("cleared", [True, False])
@pytest.mark.parametrize("decided", [True, False])
@pytest.mark.parametrize("seq", [1, 88, 93, 100 + LONGEST_JUMP + 1])
def test_a_trigger_of_a_plc_that_counts_anew_is_a_reject_with_its_record(seq, decided, cleared):
    """Whatever the other slots show: nothing, or still the numbers of before."""
    desk = Desk(first_seq=100)
    if cleared:
        desk.slots = [SlotSeen(0, "", 0, 0, 0, 0) for _ in range(SLOTS)]
    desk.trigger(seq, look=False)
    if decided:  # before anybody looked
        desk.slots[seq % SLOTS] = replace(desk.slots[seq % SLOTS], ack_seq=seq, ack_code=ACK_TIMED_OUT)
    desk.look()
    assert desk.written() == [faulted(Fault.ASSOCIATION)] and desk.routed() == []
    desk.ack(seq, ACK_TIMED_OUT if decided else ACK_REJECTED)
    assert desk.outcomes() == [(seq, Outcome.REJECT, Fault.ASSOCIATION, True)]
    desk.inspected(seq + 1)
    assert desk.written()[-1] == PASSED
    assert [record["seq"] for record in desk.records("trigger")] == [seq, seq + 1]


def test_triggers_before_and_after_a_plc_started_anew_seen_in_one_look_all_have_a_record():
    desk = Desk(first_seq=100)
    for seq in (101, 2, 3):
        desk.trigger(seq, look=False)
    desk.look()
    assert [record["seq"] for record in desk.records("trigger")] == [101, 2, 3]
    assert [trigger.seq for trigger in desk.routed()] == [101]
    assert desk.state.last_seq == 3


def test_a_number_that_waits_again_after_it_was_decided_is_another_trigger():
    desk = Desk(first_seq=0)
    desk.inspected(1)
    desk.ack(1, ACK_PASSED)
    desk.slots[1] = replace(desk.slots[1], ack_seq=0, ack_code=0)
    desk.look()
    assert [record["seq"] for record in desk.records("trigger")] == [1, 1]
    assert desk.written() == [PASSED, faulted(Fault.ASSOCIATION)]
    desk.look()
    assert desk.state.triggers == 2


def test_a_slot_not_known_from_before_shows_a_new_trigger_ahead_or_one_that_waits_far_behind():
    """After a restart of the bridge on a ledger that does not tell what each slot showed."""
    for seq, acked, is_new in (
        (101, False, True),
        (101, True, True),
        (100, False, False),
        (97, False, False),
        (96, False, True),
    ):
        desk = Desk(first_seq=100)
        desk.state = replace(desk.state, shown=(None,) * SLOTS)
        desk.slots[seq % SLOTS] = SlotSeen(seq, "", 3, 1000, seq if acked else 0, ACK_TIMED_OUT if acked else 0)
        desk.look()
        assert bool(desk.records("trigger")) == is_new, (seq, acked)
    desk = Desk(first_seq=100)
    desk.state = replace(desk.state, shown=(None,) * SLOTS)
    desk.slots[0] = SlotSeen(96, "", 3, 1000, 96, ACK_PASSED)
    assert not [action for action in desk.look() if isinstance(action, Record)]


def test_numbers_used_again_after_a_restart_get_other_names():
    desk = Desk(first_seq=0)
    desk.trigger(2)
    desk.now_ns += MS
    desk.slots = [SlotSeen(0, "", 0, 0, 0, 0) for _ in range(SLOTS)]
    desk.look()
    desk.now_ns += MS
    desk.trigger(2)
    missed = [record["token"] for record in desk.records("trigger") if record["seq"] == 1]
    assert len(missed) == len(set(missed)) == 2


def test_what_the_plc_shows_at_the_very_first_look_is_where_counting_starts():
    state, actions = step(State(TERMS), PlcSeen((SlotSeen(7, "", 3, 0, 7, 1),) * SLOTS, 0, ("0" * 32,) * 4, "i", 0))
    assert (state.last_seq, actions, state.panels) == (7, [], ())


def test_what_the_plc_waits_for_at_the_first_look_has_an_outcome_too():
    """Triggers of before there was a ledger: never inspected, and not forgotten."""
    seen = [SlotSeen(seq, f"panel-{seq}", RECIPE_NO, 1000, 0, 0) for seq in (8, 5, 6, 7)]
    seen[1] = replace(seen[1], ack_seq=5, ack_code=ACK_REJECTED)
    state, actions = step(State(TERMS), PlcSeen(tuple(seen), 0, ("0" * 32,) * 4, INSPECTOR, 0))
    closed = [action.outcome for action in actions if isinstance(action, Publish)]
    assert sorted(final.seq for final in closed) == [6, 7, 8]
    assert {(final.outcome, final.fault) for final in closed} == {(Outcome.REJECT, Fault.MISSED_TRIGGER)}
    assert (state.last_seq, state.triggers, state.panels) == (8, 3, ())
