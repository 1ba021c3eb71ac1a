"""`takt build`, and what a line says of engines that nobody certified."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engines import recipe as recipes
from pipeline import cli
from pipeline.check import check_line
from pipeline.config import load
from pipeline.engine_room import build_all, certified, engine_hash, opened
from pipeline.errors import EngineError
from pipeline.keys import machine_key

DEMO = Path(__file__).parents[2] / "pipeline" / "demo"


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """The demo's line, one panel a batch, and nothing built."""
    path = cli._copy_demo(tmp_path)
    path.write_text(path.read_text().replace("max_batch = 4", "max_batch = 1"))
    return path


def takt(*words: object, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.cli", *map(str, words)]
    environment = {
        "XDG_DATA_HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(DEMO.parents[1]),
    }
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)


def test_build_says_what_was_proved_and_the_line_starts_from_it(line, tmp_path):
    figures = tmp_path / "figures.json"
    done = takt("build", tmp_path / "recipe", "--line", line, "--json", figures, home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    assert found["granted"] and found["flipped"] == [] and found["score_error"] < found["nearest_margin"] / 4
    assert {
        "engine",
        "runtime",
        "precision",
        "granted",
        "flipped",
        "score_error",
        "nearest_margin",
        "device",
    } <= found.keys()
    config = load(line)
    assert engine_hash(config, recipes.load(tmp_path / "recipe")) == found["engine"]
    assert any("certified" in said for said in check_line(config))


def test_without_a_line_engines_are_kept_in_the_users_data_folder(tmp_path):
    words = ("build", DEMO / "recipe", "--max-batch", 1, "--threads", 1)
    done = takt(*words, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "takt" / "engines" / "certificates").iterdir())
    assert "fresh           False" in takt(*words, home=tmp_path).stdout


def test_int8_is_measured_against_what_was_taught_and_found_by_inspect(tmp_path):
    pytest.importorskip("onnx", reason="needs the extra [int8]")
    figures = tmp_path / "figures.json"
    words = ("--runtime", "onnxruntime", "--precision", "int8", "--threads", 1)
    takt("build", DEMO / "recipe", *words, "--max-batch", 1, "--json", figures, home=tmp_path)
    found = json.loads(figures.read_text())
    changed = found["changed_on_golden"]
    assert changed["panels"] == 16 and changed["score_error"] > 0 and changed["auroc_before"] == 1.0
    panel = tmp_path / "set" / "one"
    panel.mkdir(parents=True)
    golden = recipes.load(DEMO / "recipe").golden[0]
    names = [channel.name for channel in recipes.load(DEMO / "recipe").manifest.channels]
    import cv2

    for name, frame in zip(names, golden.frames, strict=True):
        cv2.imwrite(str(panel / f"{name}.png"), frame)
    done = takt("inspect", DEMO / "recipe", panel, *words, home=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    assert json.loads(done.stdout)["score"] == pytest.approx(golden.score, rel=0.2)


def test_a_line_without_a_certificate_does_not_start_and_says_what_to_run(line, tmp_path):
    done = takt("run", line, home=tmp_path)
    assert done.returncode == 3
    [said] = done.stderr.strip().splitlines()
    assert f"takt build {tmp_path / 'recipe'} --line {line}" in said
    assert not (tmp_path / "state" / "ledger").exists()


@pytest.mark.parametrize("stage", ["inspector", "plc_bridge"])
def test_the_stages_themselves_refuse_an_engine_without_certificate(line, tmp_path, stage):
    config = load(line)
    config.run_dir.mkdir(parents=True, exist_ok=True)
    (tmp_path / "run.json").write_text(config.model_dump_json())
    command = [sys.executable, "-m", "pipeline.stage", stage, str(tmp_path / "run.json"), str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 3
    shutil.rmtree(config.run_dir)
    said = (config.state / "logs" / f"{stage}.log").read_text()
    assert f"takt build {tmp_path / 'recipe'} --line {line}" in said


@pytest.mark.parametrize("spoil", ["certificate", "key", "threads"])
def test_what_was_certified_and_then_changed_is_refused(line, tmp_path, spoil):
    config = load(line)
    assert [built.certificate.granted for built in build_all(config)] == [True]
    recipe = recipes.load(tmp_path / "recipe")
    assert certified(config, recipe)[1] is not None
    if spoil == "certificate":
        [path] = (config.state / "engines" / "certificates").iterdir()
        path.write_text(path.read_text().replace('"rows": 0.0', '"rows": 0.1', 1))
    if spoil == "key":
        for name in ("machine.pem", "machine.pub.pem"):
            (config.state / "keys" / name).unlink()
        machine_key(config.state)
    if spoil == "threads":
        line.write_text(line.read_text().replace("threads = 1", "threads = 2"))
        config = load(line)
    for attempt in (lambda: engine_hash(config, recipe), lambda: opened(config, recipe)):
        with pytest.raises(EngineError, match="takt build") as caught:
            attempt()
        assert caught.value.exit_status == 3


def test_a_recipe_that_cannot_be_certified_needs_the_line_files_leave(line_file: Callable[..., Path]):
    allowed = load(line_file())
    recipe = recipes.load(next(iter(allowed.recipe_paths().values())))
    assert certified(allowed, recipe)[1] is None
    assert build_all(allowed) == []
    with pytest.raises(EngineError, match="no certificate"):
        certified(load(line_file(allow=[])), recipe)
