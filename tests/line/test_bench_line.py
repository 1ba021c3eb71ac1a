"""`takt bench line` on real processes: a stall is seen, an early end keeps what was measured, bad input is one line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bench import line_figures
from pipeline.bench.line import measure
from pipeline.bench.line_search import search
from pipeline.cli import app
from pipeline.config import load
from pipeline.errors import ConfigError, EngineError, UsageError
from pipeline.supervisor import Supervisor

STALL_S, TAKT_MS, PANELS = 1.0, 300, 12
PATIENT = {"timing": {"window_ms": 3_000, "stall_ms": 2_500}, "conveyor": {"settings": {"window_ms": 3_000}}}
INSPECTORS = {"carrier", "queue", "check", "prepare", "network", "stitch", "decide", "publish"}
DEMO = Path(__file__).parents[2] / "pipeline" / "demo" / "line.toml"


class Stall:
    """Stops a stage's process once, for a second, after the third panel."""

    def __init__(self, stage: str) -> None:
        self.stage, self.began_s, self.pid = stage, 0.0, 0

    def __call__(self, supervisor: Supervisor) -> None:
        if (
            not self.began_s
            and supervisor.counter("plc_bridge", "passed") + supervisor.counter("plc_bridge", "not_passed") >= 3
        ):
            self.began_s, self.pid = time.monotonic(), supervisor.running[self.stage].process.pid
            os.kill(self.pid, signal.SIGSTOP)
        elif self.pid and time.monotonic() - self.began_s > STALL_S:
            os.kill(self.pid, signal.SIGCONT)
            self.pid = 0


def test_a_second_in_which_a_stage_stood_still_is_in_the_worst_panels_and_the_tail(
    line_file: Callable[..., Path], tmp_path: Path
) -> None:
    stall = Stall("inspector")
    measured = measure(load(line_file(**PATIENT)), TAKT_MS, PANELS, tmp_path / "out", stall)
    assert stall.began_s and not stall.pid
    found = line_figures.figures(measured.timelines, measured.run)
    latency = [one.latency_ms for one in measured.timelines]
    assert len(latency) == PANELS
    slow = [one for one in found["worst"] if one["latency_ms"] > 0.4 * STALL_S * 1000]
    assert len(slow) >= 2, "in open loop a stall catches every panel that is due meanwhile"
    assert {one["held_up_in"] for one in slow} <= INSPECTORS
    assert found["latency_ms"]["max"] >= 0.7 * STALL_S * 1000
    assert np.median(latency) < 0.4 * STALL_S * 1000
    assert list((tmp_path / "out").iterdir()) == [], "its state is gone with it"


def test_ctrl_c_writes_what_was_measured_so_far(line_file: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipeline.cli", "bench", "line", str(line_file()), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        end = time.monotonic() + 40
        while sum(len(path.read_text().splitlines()) for path in out.glob(".line-*/plc_record.jsonl")) < 5:
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=40)[0]
    found = json.loads((out / "passport.json").read_text())
    assert process.returncode == 130
    assert found["interrupted"] and 5 <= found["panels"] < 2_000
    assert found["latency_ms"]["median"] > 0 and found["latency_ms"]["p99"] is None
    assert len(found["worst"]) <= 10 and found["stages"].keys() >= {"exposure", "carrier", "network", "plc_write"}
    assert found["own_share"] < 0.05  # of a few panels; the first look at a line that starts is in it
    assert "bottleneck" in said and "Stopped before its end" in (out / "passport.html").read_text()


@pytest.mark.slow
def test_the_limit_is_found_and_confirmed(line_file: Callable[..., Path], tmp_path: Path) -> None:
    found = search(load(line_file()), 120, (20, 40), tmp_path / "out", lambda takt_ms, panels: lambda supervisor: None)
    assert found.is_limit and len(found.trials) >= 2
    assert found.measured.run.takt_ms <= min(one["takt_ms"] for one in found.trials if one["sustained"]) * 1.3


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({}, ["--takt", "20"], "shorter than the exposures"),
        ({"conveyor": None}, [], r"add \[conveyor.settings\]"),
        ({"bus": {"control": "tcp://127.0.0.1:5999"}}, [], "share no clock"),
        ({"conveyor": {"settings": {"recipe_no": 7}}}, [], "no recipe 7"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    line_file: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], options: list[str], said: str
) -> None:
    with pytest.raises((UsageError, ConfigError), match=said) as refused:
        app(["bench", "line", str(line_file(**changes)), "--out", str(tmp_path), *options], standalone_mode=False)
    assert "\n" not in str(refused.value)


def test_a_line_whose_engine_has_no_certificate_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "line.toml").write_text(
        DEMO.read_text()
        .replace('1 = "recipe"', f"1 = {json.dumps(str(DEMO.parent / 'recipe'))}")
        .replace('trusted = ["state/keys/signer.pub.pem"]', "trusted = []")
        .replace('station = "demo"', 'station = "demo"\nallow = ["unsigned_recipe"]')
    )
    with pytest.raises(EngineError, match=r"takt build .* --line"):
        app(["bench", "line", str(tmp_path / "line.toml"), "--out", str(tmp_path / "out")], standalone_mode=False)
