"""Duplicates and contradictions, of verdicts and of digests."""

import pytest
from handshake_parts import (
    BAD,
    NO_ANSWER,
    OTHER,
    Desk,
    captured,
    verdict,
)

from pipeline.messages import Fault, Outcome
from pipeline.open_panels import (
    CapturedSeen,
    VerdictSeen,
)
from pipeline.plcs import ACK_PASSED

PASSED, REJECTED = (Outcome.PASS, None), (Outcome.REJECT, None)


def faulted(fault: Fault) -> tuple[Outcome, Fault]:
    return Outcome.REJECT, fault


# --- duplicates and contradictions ---


def test_duplicates_are_harmless():
    desk = Desk()
    token = desk.trigger(1)
    for _ in range(3):
        desk.capture(token)
        desk.tell(VerdictSeen(verdict(token, batch=4)))
        desk.look()
    desk.judge(token)
    assert desk.written() == [PASSED]
    desk.ack(1, ACK_PASSED)
    desk.ack(1, ACK_PASSED)
    assert desk.outcomes() == [(1, Outcome.PASS, None, True)]
    assert len(desk.records("trigger")) == len(desk.routed()) == 1


def test_two_verdicts_without_a_score_agree():
    desk = Desk()
    token = desk.trigger(1)
    for _ in range(2):
        desk.tell(VerdictSeen(verdict(token, **(NO_ANSWER | {"score": float("nan")}))))  # nan is not equal to itself
    desk.wait(1)
    assert desk.written() == [faulted(Fault.ENGINE)]


@pytest.mark.parametrize("second", [BAD, {"score": 0.21}, {"digest": "e" * 32}, {"engine": OTHER.engine}])
@pytest.mark.parametrize("swapped", [False, True])
def test_two_differing_verdicts_are_a_conflict(second, swapped):
    desk = Desk()
    token = desk.trigger(1)
    desk.capture(token)
    for changes in ({}, second)[:: -1 if swapped else 1]:
        desk.tell(VerdictSeen(verdict(token, **changes)))
    desk.wait(1)
    assert desk.written() == [faulted(Fault.CONFLICT)]


def test_two_differing_digests_of_one_camera_are_a_conflict():
    desk = Desk()
    token = desk.trigger(1)
    desk.capture(token)
    desk.tell(CapturedSeen(captured(token, "top", digest="d" * 32)))
    desk.judge(token)
    assert desk.written() == [faulted(Fault.CONFLICT)]
