"""Plays the vision system before a PLC and looks at what it acknowledges: the loop of `takt plc probe`."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pipeline.bench.probe_cases import BETWEEN, Case, Finding, When, good, judge, unprobed
from pipeline.errors import PlcError
from pipeline.open_panels import LineState
from pipeline.plcs import ACK_PASSED, REJECT_CODE, SLOTS, LineStatus, PlcImage, ProbingPlc, SlotSeen

MS = 1_000_000
BEAT_NS = 50 * MS
PAUSE_S = 0.002  # between two looks at the PLC
STEADY_NS = 300 * MS  # so long the heart beats before a case begins
WATCH_NS = 200 * MS  # so long a late pass may change the acknowledgement that was given before


@dataclass(frozen=True)
class Patience:
    """How long to wait for a panel, how long for an acknowledgement after the window, and for which window if the
    PLC names none."""

    trigger_s: float = 30.0
    ack_ms: int = 500
    window_ms: int = 1000


def probe(
    plc: ProbingPlc, cases: Sequence[Case], patience: Patience, tell: Callable[[Finding], None] = lambda finding: None
) -> list[Finding]:
    """One finding a case, in their order, and one more for every reject in between that was passed.

    Panels that come while a case is open, or before the heart has beaten for a while, are answered with a reject.

    Raises:
        PlcError: the PLC is not there, stops answering, or triggers no panel.
    """
    findings = []
    with _playing(plc, patience) as vision:
        for case in cases:
            for finding in (vision.play(case), *vision.strays()):
                findings.append(finding)
                tell(finding)
    return findings


@contextmanager
def _playing(plc: ProbingPlc, patience: Patience) -> Iterator["_Vision"]:
    """The vision system's side, from empty slots to empty slots."""
    plc.reconnect()
    vision = _Vision(plc, patience)
    try:
        yield vision
    finally:
        vision.leave()


class _Vision:
    """What is known between two looks at the PLC."""

    def __init__(self, plc: ProbingPlc, patience: Patience) -> None:
        self._plc, self._patience = plc, patience
        self._beat, self._beat_ns, self._beating = 0, 0, True
        self._state = LineState.READY
        self._between: dict[int, tuple[SlotSeen, int]] = {}  # slot -> panel that is no case's, and until when it waits
        self._strays: list[Finding] = []  # those of them that the PLC did not reject
        self._clear()
        self._image: PlcImage = plc.read()
        self._known = [slot.trigger_seq for slot in self._image.slots]
        self._steady_ns = time.monotonic_ns() + STEADY_NS

    def play(self, case: Case) -> Finding:
        """Wait for a panel and do to it what the case says."""
        panel, seen_ns = self._next_panel()
        if self._window_ms(panel) < case.needs_ms():
            self._reject(panel)
            why = f"window_ms is {self._window_ms(panel)}; set it to {case.needs_ms()} or more for the commissioning"
            return unprobed(case, panel, why)
        self._beating, self._state = case.when is not When.HEART_LOST, case.state
        self._beat_ns = 0  # the state is written before the result
        finding = self._answered(case, panel, seen_ns)
        if not (self._beating and self._state is LineState.READY):
            self._steady_ns = time.monotonic_ns() + STEADY_NS
        self._beating, self._state, self._beat_ns = True, LineState.READY, 0
        for slot in {panel.trigger_seq % SLOTS, case.slot(panel.trigger_seq)}:
            self._plc.clear(slot)
        if finding.ack_code == 0:
            self._reject(panel)  # a PLC without a window would let the line stand for ever
        return finding

    def strays(self) -> list[Finding]:
        """Rejects between the cases that the PLC did not reject."""
        strays, self._strays = self._strays, []
        return strays

    def leave(self) -> None:
        """The slots empty and the state Halted, if the PLC still answers."""
        self._state, self._beat_ns = LineState.HALTED, 0
        with suppress(PlcError):  # it went away: said already, or the probe is over
            self._clear()
            self._beat_if_due(time.monotonic_ns())

    def _clear(self) -> None:
        for slot in range(SLOTS):
            self._plc.clear(slot)

    def _next_panel(self) -> tuple[SlotSeen, int]:
        """The first panel that is triggered while the heart is known to beat, and when it was seen.

        Never that of sequence 0: result_seq_copy of an empty slot is 0, so that for it the copy is never missing.
        """
        began_s = time.monotonic()
        while time.monotonic() - began_s < self._patience.trigger_s:
            new = self._look()
            steady = time.monotonic_ns() >= self._steady_ns
            chosen = next((panel for panel in new if panel.trigger_seq), None) if steady else None
            for panel in new:
                if panel is not chosen:
                    self._reject(panel)
            if chosen is not None:
                return chosen, time.monotonic_ns()
        raise PlcError(
            f"the PLC triggered no panel in {self._patience.trigger_s:g} s: start the conveyor, and see that it counts"
            " trigger_seq up and finds the slots empty"
        )

    def _answered(self, case: Case, panel: SlotSeen, seen_ns: int) -> Finding:
        """Write when it is time, and judge the acknowledgement."""
        window_ms = self._window_ms(panel)
        write_ns = seen_ns + case.delay_ms(window_ms) * MS
        end_ns = max(seen_ns + window_ms * MS, write_ns) + self._patience.ack_ms * MS
        written, ack_code, after_ms = case.result is None, 0, None
        while (now_ns := time.monotonic_ns()) < end_ns:
            if not written and now_ns >= write_ns and case.slot(panel.trigger_seq) not in self._between:
                self._write(case, panel)
                written = True
            for other in self._look():
                self._reject(other)
            slot = self._image.slots[panel.trigger_seq % SLOTS]
            if slot.ack_seq == panel.trigger_seq and slot.ack_code != ack_code:
                ack_code, after_ms = slot.ack_code, (time.monotonic_ns() - seen_ns) / MS
            if ack_code and (case.when is not When.LATE or now_ns > write_ns + WATCH_NS or ack_code == ACK_PASSED):
                break
        if case.neighbour_slot and not written:
            return unprobed(case, panel, "the slot to write was in use")
        return judge(case, panel, ack_code, after_ms)

    def _write(self, case: Case, panel: SlotSeen) -> None:
        if case.result is not None:
            self._plc.write_as_is(case.slot(panel.trigger_seq), case.result(panel))

    def _look(self) -> list[SlotSeen]:
        """Beat, read, settle what lies between the cases; the panels that are new."""
        time.sleep(PAUSE_S)
        self._beat_if_due(time.monotonic_ns())
        self._image = self._plc.read()
        self._settle(time.monotonic_ns())
        new = []
        for number, slot in enumerate(self._image.slots):
            if slot.trigger_seq != self._known[number]:
                self._known[number] = slot.trigger_seq
                self._check_place(number, slot)
                self._drop(number, 0)
                new.append(slot)
        return new

    def _check_place(self, number: int, slot: SlotSeen) -> None:
        if slot.trigger_seq % SLOTS != number:
            raise PlcError(
                f"the PLC triggered sequence {slot.trigger_seq} in slot {number}: a panel takes slot sequence mod"
                f" {SLOTS}; correct it in the PLC"
            )

    def _reject(self, panel: SlotSeen) -> None:
        slot = panel.trigger_seq % SLOTS
        self._plc.write_as_is(slot, good(panel, REJECT_CODE))
        wait_ms = self._window_ms(panel) + self._patience.ack_ms
        self._between[slot] = panel, time.monotonic_ns() + wait_ms * MS

    def _settle(self, now_ns: int) -> None:
        """Empty the slots of panels between the cases once they are acknowledged, or will not be any more."""
        for number, (panel, until_ns) in list(self._between.items()):
            slot = self._image.slots[number]
            ack_code = slot.ack_code if slot.ack_seq == panel.trigger_seq else 0
            if ack_code or now_ns > until_ns:
                self._plc.clear(number)
                self._drop(number, ack_code)

    def _drop(self, number: int, ack_code: int) -> None:
        """A slot's panel between the cases is over."""
        if number in self._between:
            panel, _ = self._between.pop(number)
            finding = judge(BETWEEN, panel, ack_code, None)
            self._strays += [] if finding.ok else [finding]

    def _window_ms(self, panel: SlotSeen) -> int:
        return panel.window_ms or self._patience.window_ms

    def _beat_if_due(self, now_ns: int) -> None:
        if now_ns - self._beat_ns < BEAT_NS:
            return
        self._beat_ns = now_ns
        self._beat = (self._beat + self._beating) & 0xFFFF
        self._plc.status(LineStatus(self._beat, int(self._state), 0, 0, 0))
