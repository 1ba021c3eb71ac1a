"""A card whose memory is too small for the batch that a line wants: half of it, and only where the settings allow."""

from pathlib import Path
from typing import Any

import pytest

from engines import certifying
from engines import recipe as recipes
from engines.device_errors import out_of_memory
from engines.errors import OutOfDeviceMemoryError
from pipeline import cli
from pipeline.config import load
from pipeline.engine_room import build_all, certified, choices_of, engine_hash
from pipeline.errors import EngineError

ROOM = 1  # rows that the card of these tests has memory for


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo's line, which wants two panels a batch, on a card that has room for one."""
    inner = certifying.open_detector

    def small(recipe: Any, *args: Any, max_batch: int, **how: Any) -> Any:
        if max_batch > ROOM:
            raise out_of_memory("network.onnx", max_batch, 6_000_000_000, 1_500_000_000)
        return inner(recipe, *args, max_batch=max_batch, **how)

    monkeypatch.setattr(certifying, "open_detector", small)
    path = cli._copy_demo(tmp_path)
    path.write_text(path.read_text().replace("max_batch = 4", "max_batch = 2"))
    return path


def test_without_leave_the_error_states_batch_and_bytes(line: Path) -> None:
    config = load(line)
    assert [one.max_batch for one in choices_of(config)] == [2]
    with pytest.raises(OutOfDeviceMemoryError, match=r"batch 2 needs 6,000,000,000 bytes .*engine.smaller_batch"):
        build_all(config)


def test_with_leave_half_the_batch_is_built_and_used_by_bridge_and_inspector(line: Path, tmp_path: Path) -> None:
    line.write_text(line.read_text().replace("max_batch = 2", "max_batch = 2\nsmaller_batch = true"))
    config, recipe = load(line), recipes.load(tmp_path / "recipe")
    assert [one.max_batch for one in choices_of(config)] == [2, 1]
    (built,) = build_all(config)
    engine, certificate = certified(config, recipe)
    assert built.certificate.granted and engine.choice.max_batch == 1 and certificate == built.certificate
    assert engine_hash(config, recipe) == built.engine.key.hash
    line.write_text(line.read_text().replace("smaller_batch = true", "smaller_batch = false"))
    with pytest.raises(EngineError, match="no certificate on this machine: takt build"):
        certified(load(line), recipe)
