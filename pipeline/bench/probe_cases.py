"""What `takt plc probe` writes for a panel, and what the PLC must make of it. Pure: no socket, no clock.

Every case but the good pass breaks one part of the contract's rule 3 and leaves the others whole, so that a PLC that
leaves out one check is found by one case.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from pipeline.open_panels import LineState
from pipeline.plcs import (
    ACK_PASSED,
    ACK_REJECTED,
    ACK_TIMED_OUT,
    PASS_CODE,
    REJECT_CODE,
    SLOTS,
    Result,
    ResultSeen,
    SlotSeen,
    check_word,
)

WRAP = 1 << 32
LATE_MS = 60  # after the window: more than a PLC's cycle and our own delay
LOST_MS = 300  # three missed beats of 50 ms, the fourth, and a PLC's cycle
STATE_MS = 100  # until every PLC has seen a new state
SPARE_MS = 60  # that must be left of the window after a write inside it
ACK_TEXT = {0: "none", ACK_PASSED: "1 passed", ACK_REJECTED: "2 rejected", ACK_TIMED_OUT: "3 own window"}


class When(Enum):
    """When the result is written, or what happens before."""

    AT_ONCE = "at once"
    LATE = "after the window"
    HEART_LOST = "after the heart stopped"
    IN_ERROR = "in state Error"


@dataclass(frozen=True)
class Case:
    """One thing that a vision system may do, and whether the panel must pass. `result` None: nothing is written."""

    name: str
    written: str
    result: Callable[[SlotSeen], ResultSeen] | None
    when: When = When.AT_ONCE
    passes: bool = False
    neighbour_slot: bool = False

    @property
    def state(self) -> LineState:
        """What the vision system says of itself meanwhile."""
        return LineState.ERROR if self.when is When.IN_ERROR else LineState.READY

    def slot(self, seq: int) -> int:
        """Where the result is written."""
        return (seq + self.neighbour_slot) % SLOTS

    def delay_ms(self, window_ms: int) -> int:
        """From the trigger to the result."""
        delays = {When.LATE: window_ms + LATE_MS, When.HEART_LOST: LOST_MS, When.IN_ERROR: STATE_MS}
        return delays.get(self.when, 0)

    def needs_ms(self) -> int:
        """The shortest window in which the case proves anything."""
        return 0 if self.when in (When.AT_ONCE, When.LATE) else self.delay_ms(0) + SPARE_MS


@dataclass(frozen=True)
class Finding:
    """What came of one case. `ack_code` 0: no acknowledgement; `after_ms` from the trigger to it."""

    case: str
    written: str
    seq: int
    panel_id: str
    ack_code: int
    after_ms: float | None
    ok: bool
    remark: str


def judge(case: Case, panel: SlotSeen, ack_code: int, after_ms: float | None) -> Finding:
    """Right is a pass for the good pass, and an acknowledged reject for all else."""
    expected = {ACK_PASSED} if case.passes else {ACK_REJECTED, ACK_TIMED_OUT}
    ok = ack_code in expected
    remark = "" if ok else _remark(case, ack_code)
    return Finding(case.name, case.written, panel.trigger_seq, panel.panel_id, ack_code, after_ms, ok, remark)


def unprobed(case: Case, panel: SlotSeen, why: str) -> Finding:
    """The case was not shown, and what was not shown is not right."""
    return Finding(case.name, case.written, panel.trigger_seq, panel.panel_id, 0, None, False, f"not probed: {why}")


def _remark(case: Case, ack_code: int) -> str:
    if ack_code == 0:
        return "never acknowledged: the ledger would say UNACKNOWLEDGED"
    if ack_code == ACK_PASSED:
        return "PASSED: this PLC lets a panel through that was not inspected as good"
    if case.passes and ack_code in (ACK_REJECTED, ACK_TIMED_OUT):
        return "a good panel was rejected"
    return f"{ack_code} is no acknowledgement"


def rounds(seed: int, times: int = 2) -> list[Case]:
    """Every case so many times, in an order drawn from `seed`."""
    order = list(CASES) * times
    random.Random(seed).shuffle(order)
    return order


def good(panel: SlotSeen, code: int = PASS_CODE) -> ResultSeen:
    """The result that belongs to a panel."""
    return _whole(Result(panel.trigger_seq, code, 0, panel.recipe_no))


def _whole(result: Result) -> ResultSeen:
    return ResultSeen(result, check_word(result.seq, result.code, result.recipe_echo), result.seq)


def _of(back: int) -> Callable[[SlotSeen], ResultSeen]:
    """The pass of the panel so many before, whole in itself."""
    return lambda panel: good(replace(panel, trigger_seq=_before(panel, back)))


def _before(panel: SlotSeen, back: int) -> int:
    return (panel.trigger_seq - back) % WRAP


def _coded(code: int) -> Callable[[SlotSeen], ResultSeen]:
    return lambda panel: good(panel, code)


def _copy(back: int) -> Callable[[SlotSeen], ResultSeen]:
    return lambda panel: replace(good(panel), seq_copy=_before(panel, back))


def _copy_missing(panel: SlotSeen) -> ResultSeen:
    return replace(good(panel), seq_copy=0 if panel.trigger_seq else 1)


def _old_payload(panel: SlotSeen) -> ResultSeen:
    """The last panel's payload below the new panel's copy; the check word fits the new one."""
    whole = good(panel)
    return replace(whole, result=replace(whole.result, seq=_before(panel, SLOTS)))


def _check_of_reject(panel: SlotSeen) -> ResultSeen:
    return replace(good(panel), check=good(panel, REJECT_CODE).check)


def _check_flipped(panel: SlotSeen) -> ResultSeen:
    return replace(good(panel), check=good(panel).check ^ 1 << panel.trigger_seq % 16)


def _other_recipe(panel: SlotSeen) -> ResultSeen:
    return good(replace(panel, recipe_no=panel.recipe_no ^ 1))


BETWEEN = Case("between the cases", "code 0xA5C3, right in every part", _coded(REJECT_CODE))
CASES = (
    Case("good pass", "a pass that is right in every part", good, passes=True),
    Case("reject", "code 0xA5C3, right in every part", _coded(REJECT_CODE)),
    Case("silence", "nothing", None),
    Case("late pass", "a right pass, after the window", good, When.LATE),
    Case("stale pass", "the pass of the panel before in this slot, whole in itself", _of(SLOTS)),
    Case("wrong sequence", "the pass of the neighbour slot's panel, whole in itself", _of(1)),
    Case("neighbour slot", "a right pass, written into the next slot", good, neighbour_slot=True),
    Case("torn, no copy", "a right pass whose result_seq_copy never comes", _copy_missing),
    Case("torn, other copy", "a right pass with the copy of the panel before in this slot", _copy(SLOTS)),
    Case("torn, old payload", "result_seq of the panel before under the new copy, check word fitting", _old_payload),
    Case("wrong check word", "a right pass with the check word of a reject", _check_of_reject),
    Case("check word, one bit", "a right pass with one bit of the check word turned", _check_flipped),
    Case("wrong recipe echo", "a pass for another recipe_no, check word fitting", _other_recipe),
    Case("code 0x0000", "code 0, right in every other part", _coded(0)),
    Case("code 0x0001", "code 1, right in every other part", _coded(1)),
    Case("code 0xFFFF", "every bit set, right in every other part", _coded(0xFFFF)),
    Case("code 0x5A3D", "a pass with one bit turned, right in every other part", _coded(PASS_CODE ^ 1)),
    Case("code 0x3C5A", "a pass with its bytes swapped, right in every other part", _coded(0x3C5A)),
    Case("lost heartbeat", f"no beat for {LOST_MS} ms, then a right pass", good, When.HEART_LOST),
    Case("state Error", "vision_state 3, then a right pass", good, When.IN_ERROR),
)
