"""PLCs that leave out a part of the contract, each one part, as programs on a real port."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from served_plc import served

from pipeline import plcs
from pipeline.plcs import (
    ACK_PASSED,
    ACK_REJECTED,
    PASS_CODE,
    REJECT_CODE,
    ProbingPlc,
    ResultSeen,
    check_word,
)
from pipeline.plcs.simulated import UNDECIDED, Settings, Vision, accepts, record
from pipeline.plcs.simulated.line import HALTED, Line
from pipeline.plcs.simulated.server import Memory

WINDOW_MS = 200
Decision = tuple[int, str]


class Sloppy(Line):
    """The simulated line with another rule for its results."""

    def _decide(self, slot: int, now_ns: int, vision: Vision) -> None:
        panel = self._open.get(slot)
        if panel is not None:
            opened = now_ns < self._window_end_ns(panel)
            ack_code, reason = self.rule(slot, panel.seq, opened, vision)
            if ack_code != UNDECIDED:
                self._close(panel, now_ns, ack_code, reason)

    def rule(self, slot: int, seq: int, opened: bool, vision: Vision) -> Decision:
        """Rule 3 as it should be; each sloppy PLC leaves out a part."""
        return self.judged(self._memory.result(slot), seq, opened, vision)

    def judged(self, seen: ResultSeen, seq: int, opened: bool, vision: Vision) -> Decision:
        return accepts(seen, seq, self._settings.recipe_no, window_open=opened, vision=vision)


class NoCopy(Sloppy):
    def judged(self, seen, seq, opened, vision):
        return super().judged(replace(seen, seq_copy=seen.result.seq), seq, opened, vision)


class CopyOnly(Sloppy):
    def judged(self, seen, seq, opened, vision):
        return super().judged(replace(seen, result=replace(seen.result, seq=seen.seq_copy)), seq, opened, vision)


class NoSequence(Sloppy):
    def judged(self, seen, seq, opened, vision):
        fits = seen.check == check_word(seen.result.seq, seen.result.code, seen.result.recipe_echo)
        own = check_word(seq, seen.result.code, seen.result.recipe_echo)
        taken = ResultSeen(replace(seen.result, seq=seq), own if fits else own ^ 1, seq)
        return super().judged(taken, seq, opened, vision)


class NoCheckWord(Sloppy):
    def judged(self, seen, seq, opened, vision):
        right = check_word(seq, seen.result.code, seen.result.recipe_echo)
        return super().judged(replace(seen, check=right), seq, opened, vision)


class NoRecipe(Sloppy):
    def judged(self, seen, seq, opened, vision):
        return accepts(seen, seq, seen.result.recipe_echo, window_open=opened, vision=vision)


class NoWindow(Sloppy):
    def judged(self, seen, seq, opened, vision):
        return super().judged(seen, seq, True, vision)

    def _next_due_ns(self) -> int:
        """A window that is over stays over: to come again at once would starve the server of its own heartbeats."""
        return max(super()._next_due_ns(), time.monotonic_ns() + 1_000_000)


class NonZeroPasses(Sloppy):
    def judged(self, seen, seq, opened, vision):
        if seen.result.code in (0, REJECT_CODE):
            return super().judged(seen, seq, opened, vision)
        taken = replace(
            seen, result=replace(seen.result, code=PASS_CODE), check=seen.check ^ seen.result.code ^ PASS_CODE
        )
        return super().judged(taken, seq, opened, vision)


class RejectPasses(Sloppy):
    def judged(self, seen, seq, opened, vision):
        ack_code, reason = super().judged(seen, seq, opened, vision)
        return (ACK_PASSED, reason) if reason == "result reject" else (ack_code, reason)


class NoHeart(Sloppy):
    def judged(self, seen, seq, opened, vision):
        return super().judged(seen, seq, opened, replace(vision, alive=True))


class RejectsOnLoss(Sloppy):
    """Not sloppy but eager: it need not wait for its window when the vision system is lost.

    The belt stands without a heart. A panel that takes the slot at once, and is rejected at once, would overwrite the
    acknowledgement before anybody could read it.
    """

    def _place(self, now_ns, due_ns, vision):
        super()._place(now_ns, due_ns, vision if vision.alive else replace(vision, state=HALTED))

    def judged(self, seen, seq, opened, vision):
        fit = vision.alive and vision.state != 3
        return super().judged(seen, seq, opened, vision) if fit else (ACK_REJECTED, "vision lost")


class NoState(Sloppy):
    def judged(self, seen, seq, opened, vision):
        return super().judged(seen, seq, opened, replace(vision, state=6))


class SilencePasses(Sloppy):
    def judged(self, seen, seq, opened, vision):
        ack_code, reason = super().judged(seen, seq, opened, vision)
        return (ACK_PASSED, reason) if reason == "silence" else (ack_code, reason)


class PreviousSlot(Sloppy):
    def rule(self, slot, seq, opened, vision):
        return self.judged(self._memory.result((slot - 1) % 4), seq, opened, vision)


class NextSlot(Sloppy):
    def rule(self, slot, seq, opened, vision):
        own = super().rule(slot, seq, opened, vision)
        other = self.judged(self._memory.result((slot + 1) % 4), seq, opened, vision)
        return other if other[0] == ACK_PASSED else own


class RejectsAll(Sloppy):
    def judged(self, seen, seq, opened, vision):
        ack_code, reason = super().judged(seen, seq, opened, vision)
        return ack_code and ACK_REJECTED, reason


class NeverAcknowledges(Sloppy):
    def _acknowledge(self, seq, ack_code):
        """The panel is decided, and nobody is told."""


@contextlib.contextmanager
def connected(line: type[Line], path: Path, **changes: Any) -> Iterator[ProbingPlc]:
    """A PLC with that line on a port, and the bridge's driver connected to it."""
    standard = {"record": path, "takt_ms": 20, "window_ms": WINDOW_MS}
    settings = Settings.model_validate(standard | changes)
    with contextlib.ExitStack() as stack:
        panels, remembered = stack.enter_context(record.opened(path))

        def program(memory: Memory) -> Callable[[int], int]:
            return line(settings, memory, panels, remembered, lambda panel, edge_ns: None).turn

        port = stack.enter_context(served(program))
        plc = stack.enter_context(plcs.connect("modbus", {"port": port, "timeout_ms": 2_000}))
        assert isinstance(plc, ProbingPlc)
        yield plc
