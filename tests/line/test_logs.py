"""The logs of every process of a real line: JSON with station, stage and token, through errors; of bounded size."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy_line
from harness import PATIENCE_S, Line, passed, plc_rows, processes, running

from pipeline.config import load
from pipeline.errors import StageError
from pipeline.log import log_file, output_file, tail
from pipeline.stages import stages

STAGES = ["archiver", "plc_bridge", "conveyor", "inspector", "capture_top"]
KEYS = {"at", "level", "station", "stage", "token", "event"}


def entries(state: Path, stage: str) -> list[dict[str, Any]]:
    """Every line of a stage's log, from its oldest file on."""
    files = sorted(log_file(state, stage).parent.glob(f"{stage}.log*"), reverse=True)
    return [checked(line, stage) for file in files for line in file.read_text().splitlines()]


def checked(line: str, stage: str, station: str = "toy") -> dict[str, Any]:
    found = json.loads(line)
    assert found.keys() >= KEYS
    assert (found["station"], found["stage"]) == (station, stage)
    return found


def test_every_stage_logs_json_with_station_stage_and_token(line_file: Callable[..., Path]) -> None:
    """One panel has a fault on purpose: what is said of it carries its token."""
    cameras = [toy_line.camera("top", faults={"drop_frames": [[2, 0]]})]
    with running(line_file(cameras=cameras, conveyor={"settings": {"panels": 6}})) as line:
        line.until_finished()
        tokens = {record["token"] for record in line.records("trigger")}
    state = line.config.state
    assert {stage.name for stage in stages(line.config)} == set(STAGES)
    for stage in STAGES:
        said = entries(state, stage)
        assert {"starting", "ready"} <= {entry.get("state") for entry in said}
        assert output_file(state, stage).read_text() == "", "nothing is printed past the log"
    refused = [entry for entry in entries(state, "capture_top") if entry["event"] == "set refused"]
    assert refused and {entry["token"] for entry in refused} <= tokens


def run_stage(line: Path, stage: str, **env: str) -> subprocess.CompletedProcess[str]:
    """One stage by itself, without the memory and sockets that a supervisor makes."""
    config = load(line)
    run_file = line.with_name("run.json")
    run_file.write_text(config.model_dump_json())
    command = [sys.executable, "-m", "pipeline.stage", stage, str(run_file), str(os.getpid())]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | env)


@pytest.mark.parametrize("stage", STAGES)
def test_an_error_at_the_start_is_the_last_record(line_file: Callable[..., Path], stage: str) -> None:
    path = line_file()
    done = run_stage(path, stage)
    last = entries(load(path).state, stage)[-1]
    assert done.returncode == 3 and done.stdout == done.stderr == ""
    assert last["fatal"] and "cannot be bound" in last["event"]


@pytest.mark.parametrize("stage", STAGES)
def test_an_error_that_nobody_foresaw_is_a_record_with_its_trace(
    line_file: Callable[..., Path], tmp_path: Path, stage: str
) -> None:
    """The stage's module is one whose `main` is not as it should be."""
    path = line_file()
    (load(path).run_dir).mkdir()
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    try:
        done = run_stage(path, stage, PYTHONPATH=str(tmp_path))
    finally:
        for left in load(path).run_dir.iterdir():
            left.unlink()
        load(path).run_dir.rmdir()
    last = entries(load(path).state, stage)[-1]
    assert done.returncode == 70 and done.stdout == done.stderr == ""
    assert last["event"] == "crashed" and last["fatal"] and "ZeroDivisionError" in last["trace"]


BROKEN = """
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

class Broken(MetaPathFinder, Loader):
    def find_spec(self, name, path=None, target=None):
        stages = ("archiver", "plc_bridge", "conveyor", "inspector", "capture")
        return ModuleSpec(name, self) if name in [f"pipeline.{stage}" for stage in stages] else None

    def exec_module(self, module):
        module.main = lambda *given: 1 / 0

sys.meta_path.insert(0, Broken())
"""


def test_settings_that_cannot_be_read_are_a_record_too(line_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    command = [sys.executable, "-m", "pipeline.stage", "inspector", str(tmp_path / "run.json"), str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    [line] = done.stderr.splitlines()
    assert checked(line, "inspector", station="")["event"] == "crashed"


def test_a_stage_that_dies_without_a_word_is_told_by_the_supervisor(line_file: Callable[..., Path]) -> None:
    path = line_file(supervisor={"restarts": 0}, conveyor={"settings": {"panels": 0}})
    with pytest.raises(StageError, match=r"see .*archiver\.log and .*archiver\.out"), running(path) as line:
        line.until_all_up()
        os.kill(line.pid("archiver"), signal.SIGSEGV)
        line.until(lambda: False, "the end")
    assert "Segmentation fault" in output_file(load(path).state, "archiver").read_text()


@pytest.mark.slow
def test_logs_stay_within_their_bounds_while_the_line_runs(line_file: Callable[..., Path]) -> None:
    """A camera that loses a frame of every other panel says so each time."""
    lost = [[panel, 0] for panel in range(0, 4000, 2)]
    cameras = [toy_line.camera("top", faults={"fail_at": lost})]
    path = line_file(cameras=cameras, logs={"max_mb": 0.002, "keep": 2}, conveyor={"settings": {"panels": 0}})
    with running(path) as line:
        oldest = log_file(line.config.state, "capture_top").with_name("capture_top.log.2")
        line.until(oldest.exists, "the third file")
        turned = oldest.stat().st_ino
        line.until(lambda: oldest.stat().st_ino != turned, "the oldest file to go")
    for stage in STAGES:
        files = list(log_file(line.config.state, stage).parent.glob(f"{stage}.log*"))
        assert len(files) <= 3 and all(file.stat().st_size <= 2_000 for file in files)
        assert entries(line.config.state, stage)


def test_a_restarted_stage_goes_on_in_its_log(start: Callable[..., Line]) -> None:
    line = start()
    line.until_all_up()
    line.until_restarted("archiver", line.kill("archiver"))
    said = [entry for entry in entries(line.config.state, "archiver") if entry["event"] == "state"]
    assert [entry["state"] for entry in said].count("starting") == 2


def test_the_supervisor_of_takt_run_has_a_log_of_its_own(line_file: Callable[..., Path]) -> None:
    config = load(path := line_file(conveyor={"settings": {"panels": 0}}))
    command = [sys.executable, "-m", "pipeline.cli", "run", str(path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: [row for row in plc_rows(config) if passed(row)])
        until(lambda: '"state": "ready"' in tail(log_file(config.state, "archiver")))
        os.kill(processes(config)["archiver"], signal.SIGKILL)
        until(lambda: "stage fell" in tail(log_file(config.state, "supervisor")))
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=PATIENCE_S)[1].splitlines()
    kept = entries(config.state, "supervisor")
    assert [entry["which"] for entry in kept if entry["event"] == "stage fell"] == ["archiver"]
    assert [checked(line, "supervisor") for line in said] == kept, "the same on stderr"


def test_why_a_line_did_not_start_is_in_the_log_and_once_on_stderr(line_file: Callable[..., Path]) -> None:
    config = load(path := line_file(bus={"outcomes": "ipc:///nowhere/outcomes"}))
    command = [sys.executable, "-m", "pipeline.cli", "run", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    [said] = done.stderr.splitlines()
    assert done.returncode == 3 and "plc_bridge did not start: ipc:///nowhere/outcomes cannot be bound" in said
    last = entries(config.state, "supervisor")[-1]
    assert last["fatal"] and said == f"takt: {last['event']}"


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
