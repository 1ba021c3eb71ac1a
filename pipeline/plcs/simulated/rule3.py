"""When the PLC passes a panel: the contract's rule 3, written down a second time and on purpose."""

from dataclasses import dataclass

from pipeline.plcs import ACK_PASSED, ACK_REJECTED, ACK_TIMED_OUT, PASS_CODE, REJECT_CODE, ResultSeen

UNDECIDED = 0
READY_STATES = (6, 7, 8)  # Ready, SingleExecution, ContinuousExecution of OPC 40100-1


@dataclass(frozen=True)
class Vision:
    """What the PLC believes of the vision system at one moment."""

    alive: bool  # fewer than three beats missed
    state: int


def accepts(seen: ResultSeen, seq: int, recipe_no: int, *, window_open: bool, vision: Vision) -> tuple[int, str]:
    """The acknowledgement of panel `seq` for what lies in its slot, and why.

    A result is complete when both sequences are the panel's own and there is a code. A complete one is decided at
    once, and whatever is wrong with it is a reject by result; anything else is UNDECIDED until the window ends.
    """
    complete = seen.result.code != 0 and seen.result.seq == seen.seq_copy == seq
    if not window_open:
        return ACK_TIMED_OUT, "late" if complete else _why_incomplete(seen, seq)
    if not complete:
        return UNDECIDED, "waiting"
    objection = _objection(seen, seq, recipe_no, vision)
    return (ACK_REJECTED, objection) if objection else (ACK_PASSED, "pass")


def _objection(seen: ResultSeen, seq: int, recipe_no: int, vision: Vision) -> str | None:
    result = seen.result
    if seen.check != (seq & 0xFFFF) ^ (seq >> 16) ^ result.code ^ result.recipe_echo ^ 0x3C96:
        return "check word"
    if result.recipe_echo != recipe_no:
        return "recipe echo"
    if result.code == REJECT_CODE:
        return "result reject"
    if result.code != PASS_CODE:
        return "not a known code"
    if not vision.alive:
        return "heartbeat lost"
    return None if vision.state in READY_STATES else "vision not ready"


def _why_incomplete(seen: ResultSeen, seq: int) -> str:
    if seen.result.code == 0:
        return "silence"
    return "stale sequence" if seen.result.seq != seq else "copy differs"
