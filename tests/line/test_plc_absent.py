"""The PLC is not there yet, or goes away: the line waits, says so, and the truth is still one."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
import toy_line
from harness import Line, assert_accounted, passed

from pipeline.config import LineConfig
from pipeline.devices import record_path
from pipeline.plcs.simulated import Settings
from pipeline.plcs.simulated.conveyor import run_simulated_plc


@contextmanager
def plc_of(config: LineConfig) -> Iterator[SpawnProcess]:
    """A simulated PLC outside the line, as a real one is."""
    wire = Path(config.cameras[0].settings["wire"])
    port = config.plc.settings["port"]
    settings = Settings(port=port, takt_ms=toy_line.TAKT_MS, window_ms=800, record=record_path(config), wires=(wire,))
    process = multiprocessing.get_context("spawn").Process(target=run_simulated_plc, args=(settings,))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
        process.close()


@pytest.fixture
def line(start: Callable[..., Line], tmp_path: Path) -> Line:
    """A line that expects its PLC to be somewhere else; the wire goes where both can find it."""
    return start(conveyor=None, cameras=[toy_line.camera("top", wire=str(tmp_path / "wire"))])


def test_the_line_waits_for_its_plc_and_says_so(line: Line) -> None:
    line.until(lambda: line.state("plc_bridge") == "waiting", "a bridge that waits")
    line.until(lambda: line.text("plc_bridge").startswith("waiting for the PLC: PLC at 127.0.0.1:"), "its reason")
    assert "Connection refused" in line.text("plc_bridge")
    assert line.records("trigger") == []
    with plc_of(line.config):
        line.until_passing_again()
        assert line.state("plc_bridge") == "ready"


def test_a_plc_that_accepts_and_never_answers_is_named_and_one_that_does_is_taken(line: Line) -> None:
    with socket.create_server(("127.0.0.1", line.config.plc.settings["port"])):
        line.until(lambda: "no answer within" in line.text("plc_bridge"), "a bridge that says so")
        line.until(
            lambda: line.state("inspector") == line.state("capture_top") == "ready", "a line that is up but for it"
        )
        assert line.state("plc_bridge") == "waiting"
        pid = line.pid("plc_bridge")
    with plc_of(line.config):
        line.until_passing_again()
    assert line.pid("plc_bridge") == pid


def test_a_plc_that_goes_away_costs_its_panels_and_comes_back(line: Line) -> None:
    with plc_of(line.config) as plc:
        line.until_decided(5)
        assert plc.pid
        plc.kill()
        line.until(lambda: line.state("plc_bridge") == "waiting", "a bridge that misses its PLC")
    with plc_of(line.config):
        line.until_passing_again()
        line.supervisor.stop()
    count = assert_accounted(line.config)
    assert set(count.faults) <= {"PLC_LOST", "MISSED_TRIGGER", "UNACKNOWLEDGED", "STOPPED"}
    lost = [row for row in line.rows() if row["ack_code"] == 0]
    assert not any(map(passed, lost))


def test_a_plc_that_stalls_rejects_by_itself(line: Line) -> None:
    with plc_of(line.config) as plc:
        line.until_decided(5)
        assert plc.pid
        os.kill(plc.pid, signal.SIGSTOP)
        line.until(lambda: line.state("plc_bridge") == "waiting", "a bridge that misses its PLC")
        os.kill(plc.pid, signal.SIGCONT)
        line.until_passing_again()
        line.supervisor.stop()
    assert_accounted(line.config)
