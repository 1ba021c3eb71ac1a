"""What hangs is seen, shown to the PLC, rejected and brought back; what keeps falling ends in a state of that name."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import hanging
import pytest
import toy_line
from harness import (
    LAGGING,
    PATIENCE_S,
    Line,
    assert_accounted,
    assert_every_pass_was_inspected,
    ledger_records,
    passed,
    plc_rows,
    plc_status,
    processes,
)
from test_kills import ENDLESS, takt_run, until
from test_plc_absent import plc_of

from pipeline.bench import storm as storms
from pipeline.bench.storm import Storm
from pipeline.config import load
from pipeline.engine_room import build_all
from pipeline.open_panels import LineState
from pipeline.store import Store
from pipeline.supervisor import Supervisor
from pipeline.verify import verified

QUICK = {"silent_s": 2}


def pass_after(line: Line, at_ns: int) -> bool:
    return any(passed(row) for row in line.rows() if row["trigger_ns"] > at_ns)


def until_pid_changes(line: Line, stage: str, old: int) -> int:
    """Wait for a new process; nothing may pass before it: returns how many panels were rejected meanwhile."""
    before = {row["seq"] for row in line.rows()}
    line.until(lambda: line.pid(stage) != old, f"a new {stage}")
    meanwhile = [row for row in line.rows() if row["seq"] not in before]
    assert not any(map(passed, meanwhile))
    return len(meanwhile)


@pytest.mark.parametrize("stage", ["inspector", "capture_top", "plc_bridge", "archiver"])
def test_a_stage_that_is_stopped_is_killed_and_comes_back(start: Callable[..., Line], stage: str) -> None:
    line = start(conveyor=ENDLESS, supervisor=QUICK)
    line.until_all_up()
    line.until_decided(2)
    old = line.pid(stage)
    os.kill(old, signal.SIGSTOP)
    if stage in ("inspector", "capture_top"):
        line.until(lambda: plc_status(line.config).state == LineState.ERROR, "Error in the PLC's registers")
        line.until(lambda: stage in line.text("plc_bridge"), "the bridge's word")
        assert until_pid_changes(line, stage, old) > 0
    line.until_restarted(stage, old)
    line.until_passing_again()
    line.supervisor.stop()
    assert_accounted(line.config)
    assert_every_pass_was_inspected(line.config)


@pytest.fixture
def hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets the next call of a kind of plug-in never return."""
    site, hangs = tmp_path / "site", tmp_path / "hangs"
    about = site / "hanging-0.dist-info"
    about.mkdir(parents=True)
    hangs.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging\nVersion: 0\n")
    (about / "entry_points.txt").write_text(hanging.DISTRIBUTION)
    shutil.copy(hanging.__file__, site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("TAKT_HANGS", str(hangs))
    return lambda kind: (hangs / kind).touch()


def test_a_network_call_that_never_returns(start: Callable[..., Line], hang: Callable[[str], None]) -> None:
    line = start(conveyor=ENDLESS, supervisor=QUICK, engine={"runtime": "hanging"})
    line.until_passing_again()
    old = line.pid("inspector")
    hang("runtime")
    line.until(lambda: plc_status(line.config).state == LineState.ERROR, "Error in the PLC's registers")
    line.until(lambda: line.text("plc_bridge") == "waiting for inspector", "the bridge's word")
    beat = plc_status(line.config).heartbeat
    assert until_pid_changes(line, "inspector", old) > 0
    assert plc_status(line.config).heartbeat == beat
    line.until_passing_again()
    line.supervisor.stop()
    assert_accounted(line.config)


def test_a_camera_call_that_never_returns(start: Callable[..., Line], hang: Callable[[str], None]) -> None:
    camera = toy_line.camera("top") | {"kind": "hanging"}
    line = start(conveyor=ENDLESS, supervisor=QUICK, cameras=[camera])
    line.until_passing_again()
    old = line.pid("capture_top")
    hang("camera")
    line.until(lambda: plc_status(line.config).state == LineState.ERROR, "Error in the PLC's registers")
    line.until(lambda: line.text("plc_bridge") == "waiting for capture_top", "the bridge's word")
    assert until_pid_changes(line, "capture_top", old) > 0
    assert "a call to it does not return" in (line.config.state / "logs" / "capture_top.log").read_text()
    line.until_passing_again()
    line.supervisor.stop()
    assert_accounted(line.config)
    assert_every_pass_was_inspected(line.config)


def test_a_plc_call_that_never_returns(start: Callable[..., Line], hang: Callable[[str], None]) -> None:
    """Nobody is left who could tell the PLC: it misses the beats, and its own window rejects."""
    line = start(conveyor=ENDLESS, supervisor=QUICK, plc={"kind": "hanging"})
    line.until_passing_again()
    old = line.pid("plc_bridge")
    hang("plc")
    line.until(lambda: not list(line.config.state.parent.glob("hangs/plc")), "a driver that hangs")
    line.until(lambda: line.rows()[-1]["reason"] == "silence", "a PLC that rejects by itself")
    assert until_pid_changes(line, "plc_bridge", old) > 0
    line.until_passing_again()
    line.supervisor.stop()
    assert_accounted(line.config)
    assert_every_pass_was_inspected(line.config)


def test_a_camera_that_repeats_its_last_frames_passes_nothing_until_it_is_well(tmp_path: Path) -> None:
    """On the storm's line, whose recipe knows what a set looks like; panels 10 to 19 are shown their predecessor."""
    storm = Storm(triggers=40, takt_ms=80, rate=0, process_faults=0)
    config = storms.line(storm, tmp_path / "state")
    stuck = {"repeat_frames": [(panel, channel) for panel in range(10, 20) for channel in range(2)]}
    cameras = tuple(
        camera.model_copy(update={"settings": camera.settings | {"faults": stuck}}) for camera in config.cameras
    )
    bus = config.bus.model_copy(update={"control_bind": None})
    metrics = config.metrics.model_copy(update={"enabled": False})
    config = config.model_copy(update={"cameras": cameras, "bus": bus, "metrics": metrics})
    build_all(config)
    with Supervisor(config) as supervisor:
        line = Line(config, supervisor)
        line.until_finished()
        supervisor.stop()
    assert_accounted(config)
    repeated = [row for row in line.rows() if 10 <= row["panel"] < 20]
    assert len(repeated) == 10 and not any(map(passed, repeated))
    sequences = {row["seq"] for row in repeated}
    faults = {record["fault"] for record in ledger_records(config, "outcome") if record["seq"] in sequences}
    assert "REPEAT" in faults and faults <= LAGGING | {"REPEAT"}
    assert any(passed(row) for row in line.rows() if row["panel"] >= 20)


def test_a_bridge_that_keeps_falling_ends_in_halted_and_the_plc_reads_it(
    line_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = line_file(
        conveyor=None, cameras=[toy_line.camera("top", wire=str(tmp_path / "wire"))], supervisor={"restarts": 1}
    )
    config = load(path)

    def bridge() -> int:
        return processes(config).get("plc_bridge", 0)

    with plc_of(config), takt_run(path) as process:
        until(lambda: len(plc_rows(config)) > 2, "panels")
        for _ in range(2):
            until(lambda: plc_status(config).state == LineState.CONTINUOUS_EXECUTION, "a line that runs")
            until(bridge, "a bridge")
            old = bridge()
            os.kill(old, signal.SIGKILL)
            until(lambda gone=old: bridge() != gone, "its end")
        _, complaints = process.communicate(timeout=PATIENCE_S)
        assert plc_status(config).state == LineState.HALTED
    assert process.returncode == 3
    assert "plc_bridge fell more than 1 times in 60 s, the line stops in state Halted" in complaints
    assert processes(config) == {}


# --- the standby inspector ---


def test_a_standby_takes_over_at_once_and_no_verdict_is_taken_for_another(start: Callable[..., Line]) -> None:
    line = start(conveyor=ENDLESS, engine={"standby": True})
    line.until_all_up()
    line.until_passing_again()
    first = line.records("verdict")[-1]["inspector"]
    other = {"inspector": "inspector_standby", "inspector_standby": "inspector"}[first]
    line.kill(first)
    at_ns = line.rows()[-1]["trigger_ns"]
    line.until(lambda: pass_after(line, at_ns), "a pass by the standby", watching=False)
    assert line.records("verdict")[-1]["inspector"] == other
    line.until_all_up()
    line.until_passing_again()
    assert line.records("verdict")[-1]["inspector"] == other, "the restarted one is the standby now"
    with line.frozen(other):
        line.until(lambda: line.records("verdict")[-1]["inspector"] == first, "the one that was killed to take over")
        line.until_passing_again()
    line.until_passing_again()
    line.supervisor.stop()
    assert_accounted(line.config)
    assert_every_pass_was_inspected(line.config)
    assigned = {record["token"]: record["to"][-1] for record in line.records("routed")}
    assert all(record["inspector"] == assigned[record["token"]] for record in line.records("verdict"))
    assert {record["inspector"] for record in line.records("verdict")} == {first, other}


# --- the wall clock ---


@dataclass
class WallClock:
    """The wall clock of the line's processes; none of ours."""

    place: Path

    def set_by(self, seconds: int) -> None:
        new = self.place.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self.place)


@pytest.fixture
def wall_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WallClock]:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("setting the line's wall clock needs a C compiler")
    library, place = tmp_path / "wall_clock.so", tmp_path / "clock"
    source = Path(__file__).with_name("wall_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    clock = WallClock(place)
    clock.set_by(0)
    monkeypatch.setenv("TAKT_CLOCK", str(place))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    yield clock


@pytest.mark.slow
def test_a_wall_clock_that_is_set_disturbs_nothing(start: Callable[..., Line], wall_clock: WallClock) -> None:
    """Set back an hour, on by a day, back an hour again: one chain of records, of anchors and of files."""
    line = start(conveyor=ENDLESS, archive={"anchor_s": 1})
    line.until_all_up()
    for seconds in (-3600, 86_400, 82_800):
        line.until_passing_again()
        known = len(line.records("anchor"))
        line.until(lambda known=known: len(line.records("anchor")) > known, "an anchor")
        rejected = sum(not passed(row) and row["fault"] != 0 for row in line.rows())
        wall_clock.set_by(seconds)
        line.until_decided(len(line.rows()) + 10)
        assert sum(not passed(row) and row["fault"] != 0 for row in line.rows()) == rejected
    old = line.kill("plc_bridge")
    line.until_restarted("plc_bridge", old)
    line.until_passing_again()
    line.supervisor.stop()
    assert_accounted(line.config)
    figures = verified(line.config.ledger)
    assert figures["intact"] and figures["anchors"] >= 4, figures
    walls = [datetime.fromisoformat(record["wall"]) for record in line.records("trigger")]
    steps = [round((after - before).total_seconds() / 3600) for before, after in pairwise(walls)]
    assert [step for step in steps if step] == [-1, 25, -1], "the line's clock was set"
    files = sorted(file.stem for file in line.config.ledger.iterdir())
    assert len(files) >= 2 and files[-1] == str(max(walls).date())
    store = Store(line.config.state)
    try:
        assert len(store.panels()) == len(line.records("outcome"))
    finally:
        store.close()
