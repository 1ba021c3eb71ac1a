"""A recipe that is changed after the line was checked stops the stages that would use it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_logs import entries

from pipeline.config import LineConfig, load


@pytest.fixture
def copy(recipe: Path, tmp_path: Path) -> Path:
    """A signed recipe of the test's own."""
    return Path(shutil.copytree(recipe, tmp_path / "copy"))


@pytest.fixture
def config(line_file: Callable[..., Path], copy: Path) -> Iterator[LineConfig]:
    """A line that was checked, with a place for its sockets."""
    config = load(line_file(recipe=copy))
    config.run_dir.mkdir()
    (config.run_dir / "run.json").write_text(config.model_dump_json())
    yield config
    shutil.rmtree(config.run_dir)


@pytest.mark.parametrize("stage", ["inspector", "plc_bridge"])
@pytest.mark.parametrize("name", ["manifest.json", "network.onnx", "signature.json"])
def test_a_stage_does_not_start_with_an_edited_recipe(config: LineConfig, copy: Path, stage: str, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes().replace(b"toy", b"joy", 1) + b" \n")
    if name == "signature.json":
        (copy / name).unlink()
    command = [sys.executable, "-m", "pipeline.stage", stage, str(config.run_dir / "run.json"), str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    last = entries(config.state, stage)[-1]
    said = {"manifest.json": "is of something else", "network.onnx": "was changed", "signature.json": "is not signed"}
    assert done.returncode == 2 and done.stdout == done.stderr == ""
    assert last["fatal"] and said[name] in last["event"]
