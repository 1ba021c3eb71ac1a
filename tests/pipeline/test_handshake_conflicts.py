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
    Unrecorded,
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


# --- what comes to light after the write ---


@pytest.mark.parametrize("news", ["surplus frame", "second verdict", "other pixels"])
def test_news_against_a_pass_that_was_written_is_counted_under_its_name(news):
    """The PLC may have acted on it already: the outcome is what it did, with the fault, and never a plain pass."""
    desk = Desk()
    token = desk.trigger(1)
    desk.capture(token)
    desk.judge(token)
    assert desk.written() == [PASSED]
    said = {
        "surplus frame": CapturedSeen(captured(token, "top", digest="", fault=Fault.ASSOCIATION)),
        "second verdict": VerdictSeen(verdict(token, **BAD)),
        "other pixels": CapturedSeen(captured(token, "top", digest="f" * 32)),
    }
    desk.tell(said[news])
    desk.ack(1, ACK_PASSED)
    fault = Fault.ASSOCIATION if news == "surplus frame" else Fault.CONFLICT
    assert desk.outcomes()[-1][1:3] == (Outcome.PASS, fault)


def test_a_pass_that_could_not_be_written_in_time_is_a_late_reject():
    desk = Desk()
    token = desk.trigger(1)
    desk.capture(token)
    desk.judge(token)
    desk.tell(Unrecorded(token, Fault.LATE))
    desk.look()
    assert desk.written()[-1] == faulted(Fault.LATE)
