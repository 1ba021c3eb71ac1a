"""The function blocks on a real port under `takt plc probe`: whole they pass it, with one check less they do not."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from served_plc import served
from structured_text import read
from structured_text_run import Instance
from test_function_blocks import DEPLOYED, RECIPE_NO

from pipeline import plcs
from pipeline.bench.plc_probe import Patience, probe
from pipeline.bench.probe_cases import CASES, rounds
from pipeline.plcs import PlcImage, ProbingPlc
from pipeline.plcs.simulated.server import Memory

pytestmark = pytest.mark.alone

CYCLE_NS, BEAT_MS, MS = 5_000_000, 50, 1_000_000
PATIENCE = Patience(trigger_s=10, ack_ms=300)
NO_WINDOW = "IF Window.Q THEN", "IF Window.Q AND (Code = 16#0000) AND (Own = 0) THEN"
SLOT, STATION = DEPLOYED / "FB_TaktSlot.st", DEPLOYED / "FB_TaktStation.st"


def program(slot: Path, window_ms: int) -> Callable[[Memory], Callable[[int], int]]:
    """A PLC whose conveyor brings a panel whenever the station is ready, at most every fourth cycle."""

    def loaded(memory: Memory) -> Callable[[int], int]:
        now_ns, cycles = 0, 0
        station = Instance(read(slot, STATION), "FB_TaktStation", lambda: now_ns / MS)
        fixed = {"PanelId": [0] * 8, "RecipeNo": RECIPE_NO, "WindowMs": window_ms, "GateSequence": 0}

        def cycle(at_ns: int) -> int:
            nonlocal now_ns, cycles
            now_ns, cycles = at_ns, cycles + 1
            eye = cycles % 4 == 0 and station["Ready"] and station["VisionFit"]
            station.call(fixed | {"PanelArrived": eye, "Regs": memory._words})
            return at_ns + CYCLE_NS

        return cycle

    return loaded


def changed(place: Path, whole: str, without: str) -> Path:
    """The slot's block with one text in place of another."""
    text = SLOT.read_text()
    assert text.count(whole) == 1
    slot = place / SLOT.name
    slot.write_text(text.replace(whole, without))
    return slot


@contextlib.contextmanager
def connected(slot: Path, window_ms: int = 200) -> Iterator[ProbingPlc]:
    """The driver, connected to a PLC that runs the blocks."""
    with (
        served(program(slot, window_ms)) as port,
        plcs.connect("modbus", {"port": port, "timeout_ms": 2_000}) as plc,
    ):
        assert isinstance(plc, ProbingPlc)
        yield plc


class RarelyRead:
    """A driver whose reads take long: several panels come between two of them."""

    def __init__(self, plc: ProbingPlc, read_ms: int) -> None:
        self._plc, self._read_ms = plc, read_ms

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plc, name)

    def read(self) -> PlcImage:
        time.sleep(self._read_ms / 1000)
        return self._plc.read()


def test_the_blocks_pass_the_whole_probe():
    with connected(SLOT, window_ms=400) as plc:
        findings = probe(plc, rounds(seed=5, times=1), PATIENCE)
    assert len(findings) == len(CASES)
    assert [finding for finding in findings if not finding.ok] == []


@pytest.mark.parametrize(
    ("whole", "without", "exposing"),
    [
        ("AND (SeqCopy = Own)", "AND (SeqCopy = SeqCopy)", {"torn, no copy", "torn, other copy"}),
        ("AND (ResultSeq = Own)", "AND (ResultSeq = ResultSeq)", {"torn, old payload"}),
        ("(Check = ExpectedCheck)", "(Check = Check)", {"wrong check word", "check word, one bit"}),
        ("(Echo = UINT_TO_WORD(OwnRecipe))", "(Echo = Echo)", {"wrong recipe echo"}),
        ("(Code = CODE_PASS) AND", "(CODE_PASS = CODE_PASS) AND", {"reject", "code 0x0001", "code 0xFFFF"}),
        (*NO_WINDOW, {"late pass", "silence"}),
        ("AND VisionFit THEN", "AND (VisionFit OR TRUE) THEN", {"state Error"}),
    ],
)
def test_a_check_less_is_found_by_its_case(whole, without, exposing, tmp_path):
    cases = [case for case in CASES if case.name in exposing]
    with connected(changed(tmp_path, whole, without)) as plc:
        findings = probe(plc, cases, PATIENCE)
    assert {finding.case for finding in findings if not finding.ok} - {"between the cases"} == exposing


def test_a_line_without_a_window_goes_on_when_panels_come_faster_than_they_are_read(tmp_path):
    """Of several new panels one is the case's and the others get a reject: nobody else would ever end them."""
    late = [case for case in CASES if case.name == "late pass"]
    with connected(changed(tmp_path, *NO_WINDOW)) as plc:
        rarely: Any = RarelyRead(plc, read_ms=60)
        findings = probe(rarely, late * 3, PATIENCE)
    assert [finding.ok for finding in findings if finding.case == "late pass"] == [False] * 3
