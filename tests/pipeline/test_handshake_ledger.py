"""A ledger that cannot be written: no panel passes, and each has that fault's name."""

from handshake_parts import Desk

from pipeline.messages import Fault, Outcome
from pipeline.open_panels import LedgerState, Unrecorded
from pipeline.plcs import ACK_REJECTED


def test_a_pass_whose_intent_cannot_be_recorded_becomes_a_reject_of_that_name() -> None:
    """The bridge was told to write the pass, and wrote nothing."""
    desk = Desk()
    token = desk.inspected(1)
    assert desk.written() == [(Outcome.PASS, None)]
    desk.tell(Unrecorded(token))
    desk.wait(1)
    assert desk.written() == [(Outcome.PASS, None), (Outcome.REJECT, Fault.LEDGER)]
    desk.ack(1, ACK_REJECTED)
    assert desk.outcomes() == [(1, Outcome.REJECT, Fault.LEDGER, True)]


def test_nothing_is_made_of_a_panel_that_is_closed() -> None:
    desk = Desk()
    desk.tell(Unrecorded("0" * 32))
    assert desk.state.panels == () and desk.actions == []


def test_open_panels_and_new_ones_are_rejects_until_it_can_be_written() -> None:
    desk = Desk()
    desk.capture(desk.trigger(1))
    desk.tell(LedgerState(ok=False))
    desk.trigger(2)
    desk.wait(1)
    assert desk.written() == [(Outcome.REJECT, Fault.LEDGER)] * 2
    desk.tell(LedgerState(ok=True))
    desk.inspected(3)
    assert desk.written()[-1] == (Outcome.PASS, None)
