"""The simulated PLC's decision: a pass needs every part of rule 3, and nothing else is a pass."""

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plcs import ACK_PASSED, ACK_REJECTED, ACK_TIMED_OUT, PASS_CODE, REJECT_CODE, Result, ResultSeen, registers
from pipeline.plcs.simulated import UNDECIDED, Vision, accepts

U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
SEQ, RECIPE_NO = 0x0001_0007, 3
GOOD = registers.unpack_result(registers.pack_result(Result(SEQ, PASS_CODE, 0, RECIPE_NO)))
LIVING = Vision(alive=True, state=6)
VISIONS = st.builds(Vision, alive=st.booleans(), state=st.integers(0, 9))


def decide(seen: ResultSeen, *, window_open: bool = True, vision: Vision = LIVING) -> tuple[int, str]:
    return accepts(seen, SEQ, RECIPE_NO, window_open=window_open, vision=vision)


def of(**changes: int) -> ResultSeen:
    """The good result with other fields and the check word that fits them."""
    return registers.unpack_result(registers.pack_result(replace(GOOD.result, **changes)))


@st.composite
def slots(draw: st.DrawFn) -> ResultSeen:
    """The good result with some words overwritten: near misses as well as noise."""
    words = registers.pack_result(Result(SEQ, draw(st.sampled_from([PASS_CODE, REJECT_CODE])), 0, RECIPE_NO))
    for place, word in draw(st.dictionaries(st.integers(0, len(words) - 1), U16, max_size=3)).items():
        words[place] = word
    return registers.unpack_result(words)


@given(st.one_of(slots(), st.builds(ResultSeen, st.builds(Result, *[U16] * 12), U16, U32)), st.booleans(), VISIONS)
def test_a_pass_is_given_exactly_when_all_of_rule_3_holds(seen, window_open, vision):
    result = seen.result
    holds = (
        result.seq == SEQ
        and seen.seq_copy == SEQ
        and seen.check == (SEQ & 0xFFFF) ^ (SEQ >> 16) ^ result.code ^ result.recipe_echo ^ 0x3C96
        and result.recipe_echo == RECIPE_NO
        and result.code == 0x5A3C
        and window_open
        and vision.alive
        and vision.state in (6, 7, 8)
    )
    ack_code, reason = decide(seen, window_open=window_open, vision=vision)
    assert (ack_code == ACK_PASSED) == holds
    assert (reason == "pass") == holds


@given(slots(), VISIONS)
def test_after_the_window_everything_is_a_reject_by_the_window(seen, vision):
    assert decide(seen, window_open=False, vision=vision)[0] == ACK_TIMED_OUT


@given(st.lists(U16, min_size=registers.RESULT_COUNT, max_size=registers.RESULT_COUNT), U32, U16)
def test_a_slot_with_code_zero_is_never_decided_by_its_content(words, seq, recipe_no):
    words[0] = 0
    seen = registers.unpack_result(words)
    assert accepts(seen, seq, recipe_no, window_open=True, vision=LIVING)[0] == UNDECIDED


@pytest.mark.parametrize(
    ("seen", "decision"),
    [
        (GOOD, (ACK_PASSED, "pass")),
        (of(code=REJECT_CODE, fault=3), (ACK_REJECTED, "result reject")),
        (of(code=1), (ACK_REJECTED, "not a known code")),
        (of(code=0xFFFF), (ACK_REJECTED, "not a known code")),
        (of(recipe_echo=RECIPE_NO + 1), (ACK_REJECTED, "recipe echo")),
        (replace(GOOD, check=GOOD.check ^ 1), (ACK_REJECTED, "check word")),
        (replace(GOOD, seq_copy=SEQ - 4), (UNDECIDED, "waiting")),
        (of(seq=SEQ - 4), (UNDECIDED, "waiting")),
        (of(code=0), (UNDECIDED, "waiting")),
    ],
)
def test_each_part_of_rule_3_has_its_own_reason(seen, decision):
    assert decide(seen) == decision


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (GOOD, "late"),
        (of(code=0), "silence"),
        (of(seq=SEQ - 4), "stale sequence"),
        (replace(GOOD, seq_copy=0), "copy differs"),
    ],
)
def test_the_window_s_end_says_what_was_missing(seen, reason):
    assert decide(seen, window_open=False) == (ACK_TIMED_OUT, reason)


def test_no_pass_without_a_living_and_ready_vision_system():
    assert decide(GOOD, vision=Vision(alive=False, state=6)) == (ACK_REJECTED, "heartbeat lost")
    assert decide(GOOD, vision=Vision(alive=True, state=3)) == (ACK_REJECTED, "vision not ready")


def test_sequence_zero_in_an_empty_slot_is_not_a_result():
    empty = registers.unpack_result([0] * registers.RESULT_COUNT)
    assert accepts(empty, 0, 0, window_open=True, vision=LIVING)[0] == UNDECIDED


def test_the_simulated_plc_shares_no_logic_with_the_vision_system():
    code = "import sys, pipeline.plcs.simulated; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    forbidden = {"handshake", "plc_bridge", "ledger", "decision", "open_panels", "plcs.modbus"}
    assert not {f"pipeline.{name}" for name in forbidden} & set(loaded)
