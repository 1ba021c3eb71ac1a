"""The PLC's half in Structured Text: its addresses are the driver's, and it decides as rule 3 says.

Read and run by `structured_text`, which is no compiler: no compiler for PLCs is among the packages that this
project installs.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structured_text import read
from structured_text_run import Instance, StructuredTextError

from pipeline.plcs import ACK_PASSED, ACK_REJECTED, ACK_TIMED_OUT, PASS_CODE, REJECT_CODE, LineStatus, Result, registers
from pipeline.plcs.registers import Side
from pipeline.plcs.simulated import UNDECIDED, Vision, accepts

DEPLOYED = Path(__file__).parents[2] / "deploy" / "plc"
BLOCKS = read(DEPLOYED / "FB_TaktSlot.st", DEPLOYED / "FB_TaktStation.st")
WINDOW_MS, RECIPE_NO, CYCLE_MS = 300, 7, 10
U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)


class Bench:
    """The station block, its registers, and a clock that only moves when told."""

    def __init__(self) -> None:
        self.now_ms, self.beats = 0.0, 0
        self.words = [0] * registers.COUNT
        self.station = Instance(BLOCKS, "FB_TaktStation", lambda: self.now_ms)
        self.triggers: list[int] = []
        self.refused = 0

    def cycle(self, *, eye: bool = False, beat: bool = True, state: int = 6, gate: int = 0) -> None:
        """One cycle of the task, 10 ms."""
        if beat and self.now_ms % 50 == 0:
            self.beats += 1
        self.put(registers.STATUS_START, registers.pack_status(LineStatus(self.beats, state, 0, 0, 0)))
        inputs = {"PanelArrived": eye, "PanelId": list(b"PANEL_42"), "RecipeNo": RECIPE_NO, "WindowMs": WINDOW_MS}
        self.station.call(inputs | {"GateSequence": gate, "Regs": self.words})
        if self.station["Triggered"]:
            self.triggers.append(self.station["Sequence"])
        self.refused += self.station["Refused"]
        self.now_ms += CYCLE_MS

    def go(self, ms: int, **how: bool | int) -> None:
        for _ in range(ms // CYCLE_MS):
            self.cycle(**how)  # pyright: ignore[reportArgumentType]

    def panel(self) -> int:
        """A panel arrives."""
        self.cycle(eye=True)
        self.cycle()
        return self.station["Sequence"]

    def put(self, start: int, words: list[int]) -> None:
        self.words[start : start + len(words)] = words

    def answer(self, seq: int, code: int = PASS_CODE, **changes: int) -> None:
        result = Result(**({"seq": seq, "code": code, "fault": 0, "recipe_echo": RECIPE_NO} | changes))
        self.put(registers.result_start(seq % 4), registers.pack_result(result))

    def zero(self, seq: int) -> None:
        self.put(registers.result_start(seq % 4), [0] * registers.RESULT_COUNT)

    def ack(self, seq: int) -> int:
        slot = registers.unpack_image(self.words[: registers.PLC_COUNT]).slots[seq % 4]
        return slot.ack_code if slot.ack_seq == seq else UNDECIDED

    def passes(self, seq: int) -> bool:
        self.cycle(gate=seq)
        return self.station["GatePass"]


@pytest.fixture
def bench() -> Bench:
    ready = Bench()
    ready.go(100)
    return ready


# --- addresses ---


def test_every_address_of_a_slot_is_the_driver_s():
    constants = BLOCKS["FB_TAKTSLOT"].constants()
    firsts = {side: registers.group(side, 0)[0].offset for side in Side}
    sizes = {side: registers.width(registers.group(side, 0)) for side in Side}
    expected = {
        "PLC_SLOT_0": firsts[Side.PLC],
        "PLC_SLOT_SIZE": sizes[Side.PLC],
        "VISION_SLOT_0": firsts[Side.VISION],
        "VISION_SLOT_SIZE": sizes[Side.VISION],
        "CODE_PASS": PASS_CODE,
        "CHECK_SALT": 0x3C96,
        "ACK_PASSED": ACK_PASSED,
        "ACK_REJECTED": ACK_REJECTED,
        "ACK_TIMED_OUT": ACK_TIMED_OUT,
    }
    for row in registers.TABLE:
        if row.slot == 0 and f"R_{row.name.upper()}" in constants:
            expected[f"R_{row.name.upper()}"] = row.offset - firsts[row.side]
    assert constants == expected


def test_every_address_of_the_station_is_the_driver_s():
    constants = BLOCKS["FB_TAKTSTATION"].constants()
    assert {name: value for name, value in constants.items() if name.startswith("G_")} == {
        f"G_{row.name.upper()}": row.offset
        for row in registers.TABLE
        if row.slot is None and f"G_{row.name.upper()}" in constants
    }
    assert {f"G_{row.name.upper()}" for row in registers.group(Side.PLC, None)} <= set(constants)
    assert [constants[name] for name in ("BEAT_TIME", "LOST_TIME")] == [50, 200]
    assert [constants[f"STATE_{name}"] for name in ("HALTED", "READY", "CONTINUOUS_EXECUTION")] == [2, 6, 8]


@pytest.mark.parametrize("block", BLOCKS.values(), ids=lambda block: block.name)
def test_the_registers_of_both_blocks_are_the_whole_map(block):
    kind = block.kind_of("Regs")
    assert (kind.low, kind.high, kind.of) == (0, registers.COUNT - 1, "WORD")


# --- one panel ---


def test_a_trigger_carries_the_panel(bench):
    seq = bench.panel()
    slot = registers.unpack_image(bench.words[: registers.PLC_COUNT]).slots[seq % 4]
    assert (slot.trigger_seq, slot.recipe_no, slot.window_ms) == (1, RECIPE_NO, WINDOW_MS)
    assert [bench.words[registers.find("panel_id", 1).offset + word] for word in range(8)] == list(b"PANEL_42")
    assert bench.triggers == [1]


def test_a_pass_opens_the_gate_for_its_own_panel_only(bench):
    seq = bench.panel()
    assert not bench.passes(seq)
    bench.answer(seq)
    bench.cycle()
    assert bench.ack(seq) == ACK_PASSED
    assert bench.passes(seq)
    assert not any(bench.passes(other) for other in (0, 2, 5, 0xFFFF_FFFD))


def test_silence_closes_the_panel_when_the_window_ends(bench):
    seq = bench.panel()
    bench.go(WINDOW_MS - 30)
    assert bench.ack(seq) == UNDECIDED
    bench.go(30)
    assert bench.ack(seq) == ACK_TIMED_OUT
    bench.answer(seq)
    bench.go(100)
    assert bench.ack(seq) == ACK_TIMED_OUT
    assert not bench.passes(seq)


def test_without_a_heartbeat_nothing_passes_until_it_beats_again(bench):
    seq = bench.panel()
    bench.go(220, beat=False)
    bench.answer(seq)
    bench.cycle(beat=False)
    assert bench.ack(seq) == ACK_REJECTED
    bench.zero(seq)
    bench.go(50)
    seq = bench.panel()
    bench.answer(seq)
    bench.cycle()
    assert bench.ack(seq) == ACK_PASSED


def test_a_heartbeat_left_in_the_registers_proves_nothing():
    cold = Bench()
    cold.beats = 77
    cold.go(50, beat=False)
    cold.cycle(eye=True, beat=False)
    cold.answer(1)
    cold.cycle(beat=False)
    assert cold.ack(1) == ACK_REJECTED


@given(
    words=st.dictionaries(st.integers(0, registers.RESULT_COUNT - 1), U16, max_size=3),
    code=st.sampled_from([PASS_CODE, REJECT_CODE, 1]),
    seq=st.sampled_from([1, 0x0001_0004, 0xFFFF_FFFF]),
    state=st.integers(0, 9).filter(lambda state: state != 2),
    late=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_it_decides_as_the_simulated_plc_does(words, code, seq, state, late):
    bench = Bench()
    bench.station.value["LASTSEQUENCE"] = (seq - 1) % 2**32
    bench.go(100)
    bench.panel()
    bench.answer(seq, code)
    start = registers.result_start(seq % 4)
    for place, word in words.items():
        bench.words[start + place] = word
    seen = registers.unpack_result(bench.words[start : start + registers.RESULT_COUNT])
    if late:
        bench.zero(seq)
        bench.go(WINDOW_MS)
    bench.cycle(state=state)
    expected, _ = accepts(seen, seq, RECIPE_NO, window_open=not late, vision=Vision(alive=True, state=state))
    assert bench.ack(seq) == expected
    assert bench.passes(seq) == (expected == ACK_PASSED)


# --- several panels ---


def test_four_panels_are_answered_in_any_order_and_a_fifth_is_refused(bench):
    seqs = [bench.panel() for _ in range(4)]
    assert not bench.station["Ready"]
    bench.cycle(eye=True)
    assert (seqs, bench.refused, bench.triggers) == ([1, 2, 3, 4], 1, [1, 2, 3, 4])
    for seq in (3, 1, 4, 2):
        bench.answer(seq, PASS_CODE if seq % 2 else REJECT_CODE)
        bench.cycle()
    assert [bench.ack(seq) for seq in seqs] == [1, 2, 1, 2]
    assert [bench.passes(seq) for seq in seqs] == [True, False, True, False]
    image = registers.unpack_image(bench.words[: registers.PLC_COUNT])
    assert (image.triggers, image.passed, image.rejected) == (4, 2, 2)


def test_a_slot_is_not_used_before_it_was_zeroed(bench):
    for _ in range(4):
        seq = bench.panel()
        bench.answer(seq)
        bench.cycle()
    assert not bench.station["Ready"]
    bench.panel()
    assert bench.refused == 1
    bench.zero(1)
    bench.cycle()
    assert bench.station["Ready"]
    assert bench.panel() == 5


def test_nothing_is_triggered_while_the_vision_system_is_halted(bench):
    bench.cycle(state=2)
    bench.cycle(eye=True, state=2)
    assert (bench.triggers, bench.refused, bench.station["Ready"]) == ([], 1, False)


def test_the_sequence_wraps(bench):
    bench.station.value["LASTSEQUENCE"] = 0xFFFF_FFFE
    for seq in (0xFFFF_FFFF, 0):
        assert bench.panel() == seq
        bench.answer(seq)
        bench.cycle()
        assert bench.ack(seq) == ACK_PASSED


def test_the_plc_s_heart_beats_at_about_20_hz(bench):
    before = bench.words[registers.find("plc_heartbeat").offset]
    bench.go(1_000)
    assert 14 <= bench.words[registers.find("plc_heartbeat").offset] - before <= 20


# --- power cut ---


def test_after_a_power_cut_the_open_panel_is_a_reject_and_the_count_goes_on(bench):
    passed, open_one = bench.panel(), bench.panel()
    bench.answer(passed)
    bench.cycle()
    bench.station.power_cut()
    bench.words = [0] * registers.COUNT
    bench.go(100)
    assert (bench.ack(passed), bench.ack(open_one)) == (ACK_PASSED, ACK_TIMED_OUT)
    assert (bench.passes(passed), bench.passes(open_one)) == (True, False)
    image = registers.unpack_image(bench.words[: registers.PLC_COUNT])
    assert [slot.trigger_seq for slot in image.slots] == [0, 1, 2, 0]
    assert bench.panel() == 3


# --- the reader itself refuses what a compiler would ---

SMALL = "FUNCTION_BLOCK A VAR_INPUT X : UINT; END_VAR VAR Y : UINT; W : WORD; END_VAR {} END_FUNCTION_BLOCK"
USED = "Y := X; W := 0;"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("Y := X; W := 0; Z := 1;", "Z is not declared"),
        ("Y := X;", "never used: W"),
        (USED + "IF X = 1 THEN Y := 1;", "END_FUNCTION_BLOCK is not declared"),
        (USED + "END_IF;", "END_IF is not declared"),
        (USED + "Y := W;", "WORD where UINT is wanted"),
        (USED + "W := X XOR X;", "XOR of UINT"),
        (USED + "IF X THEN Y := 1; END_IF;", "UINT where BOOL is wanted"),
        (USED + "W := WORD_TO_BYTE(W);", "no function"),
        (USED + "(* a (* b *) *)", "not in the subset"),
        (USED + "Y := X[1];", "no array"),
        (USED + "Y(X := 1);", "cannot be called"),
    ],
)
def test_the_reader_refuses_what_a_compiler_would(tmp_path, body, why):
    path = tmp_path / "a.st"
    path.write_text(SMALL.format(body))
    with pytest.raises(StructuredTextError, match=why):
        read(path)


def test_the_reader_knows_the_precedence_of_the_standard(tmp_path):
    path = tmp_path / "a.st"
    path.write_text(
        SMALL.format("Y := 1 + X * 2; IF NOT FALSE OR FALSE AND FALSE THEN W := 16#F XOR 16#3 AND 16#1; END_IF;")
    )
    block = Instance(read(path), "A", lambda: 0.0)
    block.call({"X": 3})
    assert (block["Y"], block["W"]) == (7, 0xE)


def test_a_value_that_does_not_fit_is_an_error(tmp_path):
    path = tmp_path / "a.st"
    path.write_text(SMALL.format("W := 0; Y := X + 1;"))
    block = Instance(read(path), "A", lambda: 0.0)
    with pytest.raises(StructuredTextError, match="65536 does not fit UINT"):
        block.call({"X": 65535})
