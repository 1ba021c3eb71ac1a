"""Driver and conveyor over real sockets: what the PLC makes of good, bad, late and missing results."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PlcError
from pipeline.plcs import PASS_CODE, REJECT_CODE, LineStatus, Plc, Result, modbus, registers
from pipeline.plcs.simulated import Settings
from pipeline.plcs.simulated.conveyor import Conveyor, run_simulated_plc
from pipeline.simulation import wire

WINDOW_MS = 500
PATIENCE_S = 5.0


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[threading.Event]:
    """A conveyor in a thread; gives the event that it sets after its last panel."""
    stop, finished = threading.Event(), threading.Event()
    conveyor = Conveyor(settings, finished.set, stop)
    thread = threading.Thread(target=conveyor.run)
    thread.start()
    try:
        assert conveyor.listening.wait(PATIENCE_S)
        yield finished
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


class Vision:
    """Plays the vision system: a driver, and a heart that beats over a connection of its own."""

    def __init__(self, plc: Plc, port: int, record: Path) -> None:
        self.plc, self.record = plc, record
        self._port = port
        self._dead = threading.Event()
        self._heart = threading.Thread(target=self._beat)
        self._heart.start()

    def _beat(self) -> None:
        with modbus.connect(modbus.Settings(port=self._port, timeout_ms=1_000)) as plc:
            beats = 0
            while not self._dead.wait(0.02):
                beats += 1
                plc.status(LineStatus(beats, 6, 0, 0, 0))

    def die(self) -> None:
        """Beat no more."""
        self._dead.set()
        self._heart.join(PATIENCE_S)

    def until(self, condition: Callable[[], Any]) -> Any:
        """What `condition` gives once it is true."""
        end_s = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            assert time.monotonic() < end_s, "waited in vain"
            time.sleep(0.002)
        return value

    def triggered(self, seq: int) -> None:
        """Wait for a panel's trigger."""
        self.until(lambda: self.plc.read().slots[seq % 4].trigger_seq == seq)

    def ack(self, seq: int) -> int:
        """Wait for a panel's acknowledgement."""

        def seen() -> int:
            slot = self.plc.read().slots[seq % 4]
            return slot.ack_code if slot.ack_seq == seq else 0

        return self.until(seen)

    def reason(self, seq: int) -> str:
        """Why the PLC acknowledged as it did."""
        return next(row["reason"] for row in rows(self.record) if row.get("seq") == seq)


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "plc.jsonl"


@pytest.fixture
def start(port: int, path: Path) -> Iterator[Callable[..., Vision]]:
    """Starts a conveyor and a vision system that talks to it."""
    with contextlib.ExitStack() as stack:

        def started(**changes: Any) -> Vision:
            standard = {"port": port, "record": path, "takt_ms": 40, "window_ms": WINDOW_MS, "panels": 1}
            stack.enter_context(running(Settings.model_validate(standard | changes)))
            driver = modbus.Settings(port=port, timeout_ms=1_000)
            vision = Vision(stack.enter_context(modbus.connect(driver)), port, path)
            stack.callback(vision.die)
            return vision

        yield started


def good(seq: int = 1, code: int = PASS_CODE) -> Result:
    return Result(seq=seq, code=code, fault=0, recipe_echo=1)


def test_a_pass_is_acknowledged_promptly(start):
    vision = start()
    vision.triggered(1)
    vision.plc.write(1, good())
    written_s = time.monotonic()
    assert vision.ack(1) == 1
    assert time.monotonic() - written_s < 0.1
    assert vision.reason(1) == "pass"


def test_a_reject_is_acknowledged_as_such(start):
    vision = start()
    vision.triggered(1)
    vision.plc.write(1, replace(good(), code=REJECT_CODE, fault=4))
    assert (vision.ack(1), vision.reason(1)) == (2, "result reject")
    row = rows(vision.record)[0]
    assert (row["code"], row["fault"]) == (REJECT_CODE, 4)


def test_silence_is_a_reject_when_the_window_ends(start):
    vision = start()
    vision.triggered(1)
    assert (vision.ack(1), vision.reason(1)) == (3, "silence")
    assert WINDOW_MS <= rows(vision.record)[0]["latency_ms"] < WINDOW_MS + 100


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (replace(good(), recipe_echo=2), "recipe echo"),
        (replace(good(), code=1), "not a known code"),
    ],
)
def test_a_complete_but_wrong_result_is_a_reject_at_once(start, result, reason):
    vision = start()
    vision.triggered(1)
    vision.plc.write(1, result)
    assert (vision.ack(1), vision.reason(1)) == (2, reason)


@pytest.mark.parametrize(
    ("name", "value", "ack_code", "reason"),
    [
        ("check", 0, 2, "check word"),
        ("result_seq_copy", 2, 3, "copy differs"),
        ("result_seq_copy", 0, 3, "copy differs"),
        ("result_seq", 5, 3, "stale sequence"),
    ],
)
def test_a_torn_result_never_passes(start, port, name, value, ack_code, reason):
    vision = start()
    vision.triggered(1)
    words, first, row = registers.pack_result(good()), registers.result_start(1), registers.find(name, 1)
    place = row.offset - first
    words[place : place + row.type.value] = row.encode(value)
    raw = modbus.ModbusPlc(modbus.Settings(port=port, timeout_ms=1_000))
    raw.reconnect()
    with contextlib.closing(raw):
        raw._client.start()
        raw._put(first, words)
    assert (vision.ack(1), vision.reason(1)) == (ack_code, reason)


def test_a_stale_sequence_never_passes(start):
    vision = start()
    vision.triggered(1)
    vision.plc.write(1, good(seq=0xFFFF_FFFD))
    assert (vision.ack(1), vision.reason(1)) == (3, "stale sequence")


def test_a_late_result_changes_nothing(start):
    vision = start(window_ms=60)
    vision.triggered(1)
    assert vision.ack(1) == 3
    vision.plc.write(1, good())
    vision.until(lambda: "end" in rows(vision.record)[-1])  # a second later: the slot stayed occupied
    image = vision.plc.read()
    assert (image.slots[1].ack_code, image.passed, image.rejected) == (3, 0, 1)
    assert rows(vision.record)[-1]["late"] == 1


def test_without_a_heartbeat_nothing_passes(start):
    vision = start(window_ms=2_000)
    vision.triggered(1)
    vision.die()
    died_s = time.monotonic()
    vision.until(lambda: time.monotonic() - died_s > 0.22)
    vision.plc.write(1, good())
    assert (vision.ack(1), vision.reason(1)) == (2, "heartbeat lost")


def test_four_panels_in_flight_are_answered_in_any_order(start):
    vision = start(panels=4, window_ms=2_000)
    vision.triggered(4)
    assert [slot.trigger_seq for slot in vision.plc.read().slots] == [4, 1, 2, 3]
    for seq in (2, 4, 1, 3):
        vision.plc.write(seq % 4, good(seq, REJECT_CODE if seq == 4 else PASS_CODE))
    assert [vision.ack(seq) for seq in (1, 2, 3, 4)] == [1, 1, 1, 2]


def test_the_sequence_wraps_around_on_the_wire(start):
    vision = start(panels=4, first_seq=0xFFFF_FFFE)
    for seq in (0xFFFF_FFFE, 0xFFFF_FFFF, 0, 1):
        vision.triggered(seq)
        vision.plc.write(seq % 4, good(seq))
        assert vision.ack(seq) == 1
        vision.plc.clear(seq % 4)


def test_the_line_waits_for_a_free_slot(start):
    vision = start(panels=5, window_ms=200)
    vision.triggered(1)
    vision.plc.write(1, good())
    vision.triggered(4)
    assert vision.ack(4) == 3  # long after the takt of panel 5
    assert vision.plc.read().triggers == 4
    vision.plc.clear(1)
    vision.triggered(5)
    vision.until(lambda: "end" in rows(vision.record)[-1])
    assert rows(vision.record)[-1]["blocked"] == 1


def test_the_trigger_pulses_the_wires_with_the_physical_panel(start, tmp_path):
    wires = (tmp_path / "a", tmp_path / "b")
    with wire.listening(wires[0]) as first, wire.listening(wires[1]) as second:
        start(panels=2, wires=wires)
        pulses = [listener.wait(5_000) for listener in (first, second, first, second)]
    assert [pulse.panel for pulse in pulses if pulse] == [0, 0, 1, 1]


def test_the_end_is_told_and_the_plc_still_answers(port, path):
    with running(Settings(port=port, record=path, panels=1, window_ms=30, start_when_ready=False)) as finished:
        assert finished.wait(PATIENCE_S)
        with modbus.connect(modbus.Settings(port=port)) as plc:
            assert plc.read().slots[1].ack_code == 3
    assert rows(path)[-1] | {"end": "finished", "triggers": 1, "rejected": 1} == rows(path)[-1]


def test_a_line_that_is_stopped_says_so(port, path):
    with wire.listening(path.with_name("wire")) as listener:
        changes = {"start_when_ready": False, "window_ms": 5_000, "wires": (path.with_name("wire"),)}
        with running(Settings.model_validate({"port": port, "record": path} | changes)):
            assert listener.wait(5_000)
    assert rows(path)[0]["reason"] == "line stopped"
    assert rows(path)[-1]["end"] == "stopped"


def test_a_plc_that_goes_away_and_comes_back_can_be_reached_again(port, path):
    where = Settings(port=port, record=path, panels=0)
    with modbus.connect(modbus.Settings(port=port, timeout_ms=1_000)) as plc:
        with pytest.raises(PlcError, match="not connected"):
            plc.read()
        for _ in range(2):
            with running(where):
                plc.reconnect()
                assert plc.read().triggers == 0
            with pytest.raises(PlcError):
                plc.read()
            with pytest.raises(PlcError, match="refused"):
                plc.reconnect()


def test_clients_may_write_the_vision_system_s_registers_only(start, port):
    start(start_when_ready=True)
    raw = modbus.ModbusPlc(modbus.Settings(port=port, timeout_ms=1_000))
    raw.reconnect()
    raw._client.start()
    with contextlib.closing(raw), pytest.raises(PlcError, match="refused the registers"):
        raw._put(registers.find("ack_code", 0).offset, [1])


def test_a_port_in_use_is_one_clear_line(port, path):
    line = f"^port {port} on 127.0.0.1 is in use; [^\n]*$"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(PlcError, match=line):
        run_simulated_plc(Settings(port=port, record=path))


def test_a_record_that_cannot_be_written_is_one_clear_line(port, tmp_path):
    with pytest.raises(PlcError, match="name another file"):
        run_simulated_plc(Settings(port=port, record=tmp_path))


def test_a_file_that_is_no_record_is_refused(port, path):
    path.write_text("no record\n")
    with pytest.raises(PlcError, match="no record of a simulated PLC"):
        run_simulated_plc(Settings(port=port, record=path))
