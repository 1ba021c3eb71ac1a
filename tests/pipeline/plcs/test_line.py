"""The conveyor's logic in simulated time: takt, slots, windows and the record."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.plcs import PASS_CODE, REJECT_CODE, LineStatus, PlcImage, Result, registers
from pipeline.plcs.simulated import Settings, record
from pipeline.plcs.simulated.line import BEAT_NS, MS, Line
from pipeline.plcs.simulated.server import Memory

START_NS = 1_000_000 * MS


class Bench:
    """A line, its memory and a clock that only moves when told; the vision system is played by hand."""

    def __init__(self, stack: ExitStack, path: Path, **changes: Any) -> None:
        standard = {"takt_ms": 100, "window_ms": 300, "panels": 8, "record": path}
        self.settings = Settings.model_validate(standard | changes)
        self.pulses: list[tuple[int, int]] = []
        self.memory = Memory()
        panels, remembered = stack.enter_context(record.opened(path))
        self.line = Line(self.settings, self.memory, panels, remembered, self._pulse)
        self.now_ns, self.beats, self.path = START_NS, 0, path

    def _pulse(self, panel: int, edge_ns: int) -> None:
        self.pulses.append((panel, edge_ns))

    def go(self, ms: int, *, beating: bool = True, state: int = 6) -> None:
        """Let that much time pass, a millisecond a turn."""
        for _ in range(ms):
            if beating and self.now_ns % BEAT_NS == 0:
                self.beats += 1
                self._write(registers.STATUS_START, registers.pack_status(LineStatus(self.beats, state, 0, 0, 0)))
            self.line.turn(self.now_ns)
            self.now_ns += MS

    def answer(self, seq: int, code: int = PASS_CODE) -> None:
        """Write the result that the vision system would write."""
        words = registers.pack_result(Result(seq, code, 0, self.settings.recipe_no))
        self._write(registers.result_start(seq % 4), words)

    def zero(self, seq: int) -> None:
        """Zero the slot of a panel."""
        self._write(registers.result_start(seq % 4), [0] * registers.RESULT_COUNT)

    def _write(self, start: int, words: list[int]) -> None:
        self.memory._words[start : start + len(words)] = words

    @property
    def image(self) -> PlcImage:
        return registers.unpack_image(self.memory._words[: registers.PLC_COUNT])

    def ack(self, seq: int) -> tuple[int, int]:
        """What the PLC acknowledges in that panel's slot."""
        slot = self.image.slots[seq % 4]
        return slot.ack_seq, slot.ack_code

    @property
    def rows(self) -> list[dict]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "plc.jsonl"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_nothing_is_triggered_before_the_vision_system_is_ready(stack, path):
    bench = Bench(stack, path)
    bench.go(300, beating=False)
    bench.go(300, state=5)
    assert bench.image.triggers == 0
    bench.go(60, state=8)
    assert bench.image.triggers == 1


def test_a_line_may_be_told_not_to_wait(stack, path):
    bench = Bench(stack, path, start_when_ready=False)
    bench.go(1, beating=False)
    assert bench.pulses == [(0, START_NS)]


def test_the_belt_stands_while_the_vision_system_is_halted(stack, path):
    bench = Bench(stack, path)
    bench.go(150)
    bench.go(1000, state=2)
    assert bench.image.triggers == 2
    bench.go(50, state=6)
    assert bench.image.triggers == 3


def test_a_trigger_carries_the_panel_and_comes_every_takt(stack, path):
    bench = Bench(stack, path, panel_ids=("A1", "B2"), recipe_no=7)
    bench.go(350)
    slots = bench.image.slots
    assert [slots[seq].panel_id for seq in (1, 2, 3)] == ["A1", "B2", "P00000003"]
    assert (slots[1].trigger_seq, slots[1].recipe_no, slots[1].window_ms) == (1, 7, 300)
    assert [panel for panel, _ in bench.pulses] == [0, 1, 2, 3]
    assert {b - a for (_, a), (_, b) in zip(bench.pulses, bench.pulses[1:], strict=False)} == {100 * MS}


def test_a_pass_and_a_reject_are_acknowledged_and_counted(stack, path):
    bench = Bench(stack, path)
    bench.go(105)
    bench.answer(1)
    bench.answer(2, REJECT_CODE)
    bench.go(2)
    assert (bench.ack(1), bench.ack(2)) == ((1, 1), (2, 2))
    assert (bench.image.passed, bench.image.rejected) == (1, 1)


def test_silence_is_a_reject_at_the_window_s_end(stack, path):
    bench = Bench(stack, path, panels=1)
    bench.go(300)
    assert bench.ack(1) == (0, 0)
    bench.go(1)
    assert bench.ack(1) == (1, 3)
    row = bench.rows[0]
    assert (row["reason"], row["ack_code"], row["latency_ms"], row["panel"]) == ("silence", 3, 300.0, 0)


def test_a_late_result_is_counted_and_touches_no_other_panel(stack, path):
    bench = Bench(stack, path, panels=5)
    bench.go(350)
    bench.answer(1)  # its window ended 50 ms ago
    bench.go(100)
    assert bench.image.slots[1].trigger_seq == 1, "the slot is in use: panel 5 has to wait"
    assert bench.ack(1) == (1, 3)
    bench.line.end("finished")
    assert bench.rows[-1]["late"] == 1


def test_a_result_for_the_panel_before_never_passes_the_one_in_the_slot(stack, path):
    bench = Bench(stack, path, panels=5)
    bench.go(410)  # panels 1 to 5 are placed, 1 to 4 unanswered
    assert bench.image.slots[1].trigger_seq == 5
    bench.answer(1)
    bench.go(300)
    assert bench.ack(5) == (5, 3)
    assert [row["reason"] for row in bench.rows if row["seq"] == 5] == ["stale sequence"]


def test_a_slot_in_use_stops_the_line_and_is_counted_once(stack, path):
    bench = Bench(stack, path)
    bench.go(5)
    bench.answer(1)
    bench.go(595)
    assert bench.image.triggers == 4
    bench.zero(1)
    bench.go(2)
    assert bench.image.triggers == 5
    gaps = [(b - a) // MS for (_, a), (_, b) in zip(bench.pulses, bench.pulses[1:], strict=False)]
    assert gaps == [100, 100, 100, 300]
    bench.go(97)
    assert bench.image.triggers == 5, "after a stand the next panel is a whole takt away"
    bench.line.end("finished")
    assert bench.rows[-1]["blocked"] == 1


def test_in_open_loop_panels_come_at_their_time_and_what_finds_no_slot_goes_by(stack, path):
    bench = Bench(stack, path, open_loop=True)
    bench.go(5)
    bench.answer(1)
    bench.go(495)
    bench.zero(1)
    bench.go(500)
    bench.line.end("finished")
    edges = {panel: (edge_ns - START_NS) // MS for panel, edge_ns in bench.pulses}
    assert edges == {0: 0, 1: 100, 2: 200, 3: 300, 5: 500, 6: 600, 7: 700}
    assert (bench.rows[-1]["blocked"], bench.rows[-1]["triggers"]) == (1, 7)


def test_in_open_loop_a_belt_that_stood_still_makes_up_for_it_and_keeps_its_schedule(stack, path):
    bench = Bench(stack, path, open_loop=True, window_ms=150)
    bench.go(50)
    bench.now_ns += 300 * MS  # nobody turned it
    bench.go(600)
    edges = [(edge_ns - START_NS) // MS for _, edge_ns in bench.pulses]
    assert edges == [0, 350, 425, 500, 575, 650, 725, 800], "three quarters of a takt apart until it has caught up"


def test_four_panels_are_in_flight_and_no_more(stack, path):
    bench = Bench(stack, path, window_ms=2_000)
    bench.go(1_000)
    assert bench.image.triggers == 4
    for seq in (3, 1, 4, 2):  # in any order
        bench.answer(seq)
    bench.go(1)
    assert [bench.ack(seq) for seq in (1, 2, 3, 4)] == [(1, 1), (2, 1), (3, 1), (4, 1)]


def test_no_pass_after_three_missed_beats(stack, path):
    bench = Bench(stack, path)
    bench.go(1)
    bench.go(198, beating=False)
    bench.answer(1)
    bench.go(1, beating=False)
    bench.answer(2)
    bench.go(1, beating=False)
    assert (bench.ack(1), bench.ack(2)) == ((1, 1), (2, 2))
    assert bench.rows[-1]["reason"] == "heartbeat lost"


def test_no_pass_while_the_vision_system_reports_an_error(stack, path):
    bench = Bench(stack, path)
    bench.go(2)
    bench.go(60, state=3)
    bench.answer(1)
    bench.go(1)
    assert bench.ack(1) == (1, 2)
    assert bench.rows[-1]["reason"] == "vision not ready"


def test_the_sequence_wraps_around(stack, path):
    bench = Bench(stack, path, first_seq=0xFFFF_FFFE, panels=4)
    for seq in (0xFFFF_FFFE, 0xFFFF_FFFF, 0, 1):
        bench.go(50)
        assert bench.image.slots[seq % 4].trigger_seq == seq
        bench.answer(seq)
        bench.go(1)
        assert bench.ack(seq) == (seq, 1)
        bench.zero(seq)
        bench.go(49)


def test_the_line_is_over_when_the_last_slot_was_zeroed(stack, path):
    bench = Bench(stack, path, panels=1)
    bench.go(5)
    bench.answer(1)
    bench.go(5)
    assert not bench.line.is_over(bench.now_ns)
    bench.zero(1)
    assert bench.line.is_over(bench.now_ns)


def test_a_silent_panel_may_still_be_answered_for_a_second(stack, path):
    bench = Bench(stack, path, panels=1)
    bench.go(400)
    assert not bench.line.is_over(bench.now_ns)
    bench.answer(1)
    bench.go(1)
    bench.zero(1)
    assert bench.line.is_over(bench.now_ns)


def test_the_line_is_over_a_second_after_the_last_window_at_the_latest(stack, path):
    bench = Bench(stack, path, panels=1)
    bench.go(5)
    bench.answer(1)
    bench.go(1_295)
    assert not bench.line.is_over(bench.now_ns)
    bench.go(5)
    assert bench.line.is_over(bench.now_ns)


def test_skipped_and_unacknowledged_panels_are_faults_on_order(stack, path):
    bench = Bench(stack, path, skip_seqs=[2], unacknowledged_seqs=[3], panels=2)
    bench.go(150)
    assert [panel for panel, _ in bench.pulses] == [0, 1]
    assert bench.image.slots[3].trigger_seq == 3
    bench.answer(3)
    bench.go(1)
    assert bench.ack(3) == (0, 0)
    row = bench.rows[-1]
    assert (row["seq"], row["ack_code"], row["acknowledged"]) == (3, 1, False)
    bench.line.end("finished")
    assert bench.rows[-1]["skipped"] == 1


def test_the_record_s_last_line_reconciles(stack, path):
    bench = Bench(stack, path, panels=3)
    bench.go(50)
    bench.answer(1)
    bench.go(60)
    bench.answer(2, REJECT_CODE)
    bench.go(600)
    bench.line.end("finished")
    end = bench.rows[-1]
    assert (end["end"], end["triggers"], end["passed"], end["rejected"]) == ("finished", 3, 1, 2)
    assert len(bench.rows) == 4


def test_stopping_rejects_what_is_under_way(stack, path):
    bench = Bench(stack, path)
    bench.go(150)
    bench.line.stop(bench.now_ns)
    bench.line.end("stopped")
    assert [row.get("reason") for row in bench.rows] == ["line stopped", "line stopped", None]
    assert bench.ack(2) == (2, 3)


def test_a_restart_goes_on_where_the_power_went_off(path):
    with ExitStack() as first_life:
        bench = Bench(first_life, path, panels=5)
        bench.go(105)
        bench.answer(1)
        bench.go(5)  # panel 1 passed, panel 2 under way: then the power goes off
    with ExitStack() as second_life:
        bench = Bench(second_life, path, panels=5)
        assert [(row["seq"], row["ack_code"], row["reason"]) for row in bench.rows] == [
            (1, 1, "pass"),
            (2, 0, "PLC restarted"),
        ]
        assert bench.ack(1) == (1, 1)
        assert bench.ack(2) == (0, 0)
        assert [slot.trigger_seq for slot in bench.image.slots] == [0, 1, 2, 0]
        bench.go(250)
        assert [panel for panel, _ in bench.pulses] == [2, 3, 4]
        assert bench.image.slots[3].trigger_seq == 3
        bench.go(600)
        bench.line.end("finished")
        end = bench.rows[-1]
        assert end["triggers"] == end["passed"] + end["rejected"] + end["lost"] == 5


def test_a_new_run_counts_its_panels_anew_but_not_the_sequence(path):
    for _ in range(2):
        with ExitStack() as stack:
            bench = Bench(stack, path, panels=1)
            bench.go(400)
            bench.line.end("finished")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["seq"], row["panel"]) for row in rows if "seq" in row] == [(1, 0), (2, 0)]
    assert rows[-1]["triggers"] == 1


def test_a_line_cut_off_by_the_power_is_dropped(stack, path):
    with ExitStack() as first_life:
        Bench(first_life, path, panels=1).go(400)
    whole = path.read_text()
    path.write_text(whole + whole[:20])
    bench = Bench(stack, path, panels=2)
    bench.go(400)
    assert [row["seq"] for row in bench.rows] == [1, 2]
