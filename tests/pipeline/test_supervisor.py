"""How the supervisor bounds restarts, claims its state folder and cleans up: with the real stages."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from line.harness import leftovers, running
from line.toy_line import camera

from pipeline.config import load
from pipeline.errors import ConfigError, StageError
from pipeline.frames import SHARED
from pipeline.stages import stages
from pipeline.supervisor import Restarts, Supervisor

LineFile = Callable[..., Path]


@given(st.integers(0, 6), st.lists(st.floats(0, 30), max_size=40))
def test_no_window_holds_more_restarts_than_the_limit(limit: int, pauses: list[float]) -> None:
    restarts, now, granted = Restarts(limit, 60), 1000.0, []
    for pause in pauses:
        now += pause
        recent = sum(now - at <= 60 for at in granted)
        allowed = restarts.allow(now)
        assert not (allowed and recent >= limit)
        granted += [now] if allowed else []
        if not allowed:
            break  # the line stops


def test_a_restart_is_allowed_again_after_the_window() -> None:
    restarts = Restarts(2, 60)
    assert [restarts.allow(now) for now in (0, 10, 61, 62.0, 63.0)] == [True, True, True, False, False]


def test_the_table_holds_each_stage_once_and_stops_the_bridge_first(line_file: LineFile) -> None:
    table = stages(load(line_file(cameras=[camera("left", ("dark_left_surface",)), camera("right")])))
    names = [stage.name for stage in table]
    assert sorted(names) == ["archiver", "capture_left", "capture_right", "conveyor", "inspector", "plc_bridge"]
    order = {stage.name: stage.stops for stage in table}
    assert min(order, key=lambda name: order[name]) == "plc_bridge"
    assert max(order, key=lambda name: order[name]) == "archiver"


def test_a_line_with_a_real_plc_has_no_conveyor(line_file: LineFile) -> None:
    assert "conveyor" not in [stage.name for stage in stages(load(line_file(conveyor=None)))]


def test_a_stage_that_falls_too_often_stops_the_line(line_file: LineFile) -> None:
    path = line_file(supervisor={"restarts": 1}, conveyor={"settings": {"panels": 0}})
    said = r"archiver fell more than 1 times in 60 s, the line stops in state Halted: see .*archiver.log"
    with pytest.raises(StageError, match=said), running(path) as line:
        line.until_all_up()
        old = line.kill("archiver")
        line.until_restarted("archiver", old)
        line.kill("archiver")
        line.until(lambda: False, "the end")
    assert leftovers(load(path)) == []


def test_a_stage_killed_while_it_starts_again_is_bounded_too(line_file: LineFile) -> None:
    """It was up before, so its fall is no mistake in the line file."""
    with running(line_file(conveyor={"settings": {"panels": 0}})) as line:
        line.until_all_up()
        old = line.kill("archiver")
        line.until(lambda: line.pid("archiver") != old, "a new process")
        old = line.kill("archiver")
        line.until_restarted("archiver", old)


def test_a_second_supervisor_of_one_state_folder_is_refused(line_file: LineFile) -> None:
    config = load(line_file(conveyor={"settings": {"panels": 0}}))
    with Supervisor(config) as first:
        with pytest.raises(ConfigError, match="a line is running already"), Supervisor(config):
            pass
        assert config.run_dir.exists(), "the refused one took nothing away"
        assert all(row.process.poll() is None for row in first.running.values())
    assert leftovers(config) == []


def test_what_a_crash_left_goes_before_the_next_start(line_file: LineFile) -> None:
    config = load(path := line_file(conveyor={"settings": {"panels": 1}}))
    config.run_dir.mkdir()
    (config.run_dir / "control").touch()
    (SHARED / config.ring("top")).write_bytes(b"torn")
    with running(path) as line:
        line.until_decided(1)
    assert leftovers(config) == []


def test_too_little_memory_is_said_and_nothing_stays(line_file: LineFile) -> None:
    free_mb = shutil.disk_usage(SHARED).free / 1e6
    config = load(line_file(cameras=[camera("top") | {"slot_mb": free_mb}]))
    with pytest.raises(ConfigError, match=r"needs \d+ MB of shared memory, \d+ MB are free"), Supervisor(config):
        pass
    assert leftovers(config) == []


def test_an_unwritable_state_folder_is_said(line_file: LineFile, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = load(line_file(state_dir=str(tmp_path / "file" / "state")))
    with pytest.raises(ConfigError, match="Not a directory; choose another"), Supervisor(config):
        pass
