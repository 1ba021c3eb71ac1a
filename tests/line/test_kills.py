"""Stages are killed while panels pass: every trigger still has one outcome, and nothing passes uninspected."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.kills import is_clean, run
from harness import (
    PATIENCE_S,
    Line,
    assert_accounted,
    assert_every_pass_was_inspected,
    counted,
    ledger_records,
    leftovers,
    passed,
    plc_rows,
    processes,
)

from pipeline.config import LineConfig, load
from pipeline.store import Store

ENDLESS = {"settings": {"panels": 0}}


KILLED = ["capture_left", "plc_bridge", "inspector", "archiver"]


def test_a_killed_process_costs_panels_and_no_truth(tmp_path: Path) -> None:
    """Six of the two hundred of `tests/bench/kills.py`, which measures from outside and counts with other books."""
    figures = run(tmp_path / "line", [*KILLED, "supervisor", "inspector"], seed=1)
    assert is_clean(figures), {name: value for name, value in figures.items() if name != "faults"}
    assert figures["passed"] > 10 and figures["sets_with_pictures"] > 10 and figures["kills"] == 6
    assert_every_pass_was_inspected(load(tmp_path / "line" / "line.toml"))


@pytest.mark.parametrize("stage", ["capture_top", "inspector"])
def test_nothing_passes_while_a_stage_that_judges_is_down(start: Callable[..., Line], stage: str) -> None:
    line = start(conveyor=ENDLESS)
    line.until_decided(3)
    line.kill(stage)
    down_ns = time.monotonic_ns()
    line.until(lambda: sum(row["trigger_ns"] > down_ns for row in line.rows()) >= 4, "four panels", watching=False)
    assert not any(passed(row) for row in line.rows() if row["trigger_ns"] > down_ns)


def test_a_dead_archiver_delays_no_verdict_and_the_store_catches_up(start: Callable[..., Line]) -> None:
    line = start(conveyor=ENDLESS)
    line.until_all_up()
    line.until_decided(3)
    old = line.kill("archiver")
    decided = len(line.rows())
    line.until_decided(decided + 10, watching=False)
    assert all(row["fault"] == 0 and row["acknowledged"] for row in line.rows())
    line.until_restarted("archiver", old)
    line.supervisor.stop()
    store = Store(line.config.state)
    try:
        rows = {panel.token: panel.outcome for panel in store.panels()}
    finally:
        store.close()
    assert rows == {record["token"]: record["outcome"] for record in line.records("outcome")}


@contextmanager
def takt_run(path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`takt run` as a person starts it."""
    command = [sys.executable, "-m", "pipeline.cli", "run", str(path), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.02)


def _until_decided(config: LineConfig, panels: int) -> None:
    until(lambda: len(plc_rows(config)) >= panels, f"{panels} panels")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_ends_the_line_in_order(line_file: Callable[..., Path], number: signal.Signals) -> None:
    path = line_file(conveyor=ENDLESS)
    config = load(path)
    with takt_run(path) as process:
        _until_decided(config, 5)
        process.send_signal(number)
        said, complaints = process.communicate(timeout=PATIENCE_S)
    assert leftovers(config) == []
    assert "reconciled with the ledger and the PLC: yes" in said
    count = assert_accounted(config)
    assert f"{count.triggers} panels" in said
    assert set(count.faults) <= {"STOPPED"}
    assert process.returncode == 0, complaints


def test_ctrl_c_from_a_terminal_reaches_only_the_supervisor(line_file: Callable[..., Path]) -> None:
    """A terminal sends SIGINT to the whole process group; the stages must wait to be asked in their order."""
    path = line_file(conveyor=ENDLESS)
    config = load(path)
    with takt_run(path) as process:
        _until_decided(config, 3)
        for pid in processes(config).values():
            os.kill(pid, signal.SIGINT)
        decided = len(plc_rows(config))
        _until_decided(config, decided + 3)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
    assert leftovers(config) == []
    assert_accounted(config)


def test_the_stages_die_with_the_supervisor_and_the_next_start_tells_the_truth(
    line_file: Callable[..., Path], tmp_path: Path
) -> None:
    """Killed with panels open; the next run closes them as CRASH, and its figures hold."""
    path = line_file(conveyor={"settings": {"panels": 24}})
    config = load(path)
    with takt_run(path) as process:
        _until_decided(config, 4)
        os.kill(processes(config)["inspector"], signal.SIGSTOP)
        until(lambda: len(ledger_records(config, "trigger")) >= len(plc_rows(config)) + 2, "open panels")
        process.kill()
        until(lambda: processes(config) == {}, "the stages' end")
    left_open = {record["seq"] for record in counted(config).open.values()}
    assert left_open
    with takt_run(path, "--json", str(tmp_path / "summary.json")) as process:
        _, complaints = process.communicate(timeout=PATIENCE_S)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["reconciled"], complaints
    assert process.returncode == 1, "a crash is a fault"
    assert leftovers(config) == []
    count = assert_accounted(config)
    assert {count.outcomes[seq]["fault"] for seq in left_open} == {"CRASH"}
    assert not any(count.outcomes[seq]["acknowledged"] for seq in left_open)
    assert [row["panel"] for row in sorted(plc_rows(config), key=lambda row: row["seq"])] == list(range(24))
    assert_every_pass_was_inspected(config)
