"""`takt bench engine`, from the command line on a recipe whose network is a mean."""

import json
from pathlib import Path
from typing import Any

import pytest

import pipeline
from engines import recipe as recipes
from engines.detector import open_detector
from engines.laps import HOST_IN, HOST_OUT, PARTS, Laps
from pipeline.bench import floors
from pipeline.bench.engine import panels_of, rows_of, timed
from pipeline.cli import app
from pipeline.errors import EngineError, UsageError

DEMO = Path(pipeline.__file__).parent / "demo" / "recipe"


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates of the machine in no time; their size is tested elsewhere."""
    monkeypatch.setattr(floors, "SIZE", 64)
    monkeypatch.setattr(floors, "COPY_MB", 1)


def bench(recipe: Path, out: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit status and figures."""
    told = out / "told.json"
    size = ["--threads", "1", "--max-batch", "4"]
    arguments = ["bench", "engine", str(recipe), "--out", str(out), "--json", str(told), *size, *options]
    status = app(arguments, standalone_mode=False)
    return status or 0, json.loads(told.read_text())


def test_every_batch_size_has_its_row_and_the_files_are_there(recipe: Path, tmp_path: Path) -> None:
    status, found = bench(recipe, tmp_path, "--batch", "4,1", "--runs", "40")
    assert status == 0
    assert [(row["batch"], row["runs"], row["network_rows"]) for row in found["rows"]] == [(1, 40, 1), (4, 40, 4)]
    for row in found["rows"]:
        assert 0 < row["ms"]["median"] <= row["ms"]["p90"] <= row["ms"]["max"]
        assert (row["ms"]["p99"], row["ms"]["p999"]) == (None, None)
        assert set(row["parts_ms"]) == set(PARTS)
        assert set(row["copies_ms"]) == {HOST_IN, HOST_OUT}
        assert 0 < row["copies_ms"][HOST_IN]["median"] <= row["parts_ms"]["prepare"]["median"]
        assert 0 < row["copies_ms"][HOST_OUT]["median"] <= row["parts_ms"]["stitch"]["median"]
        assert [len(each) for each in row["samples_ms"]] == [20, 20]
        assert row["noise_floor"] is not None
    assert found["machine"]["cores"] and found["subject"]["recipe"] == recipes.load(recipe).hash
    assert json.loads((tmp_path / "passport.json").read_text()) == found
    assert "<svg" in (tmp_path / "passport.html").read_text()


@pytest.mark.parametrize("batch", ["0", "one", "1,,2", "-1", ""])
def test_batch_sizes_that_are_none_are_refused(recipe: Path, tmp_path: Path, batch: str) -> None:
    with pytest.raises(UsageError, match="as 1,2,4"):
        bench(recipe, tmp_path, "--batch", batch)


def test_a_batch_beyond_what_the_engine_takes_is_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="4 panels at most"):
        bench(recipe, tmp_path, "--batch", "8")


def test_a_runtime_that_is_not_there_is_named_with_those_that_are(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="onnxruntime"):
        bench(recipe, tmp_path, "--runtime", "abacus")


def test_an_engine_without_certificate_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with pytest.raises(EngineError, match=r"takt build .* --runtime onnxruntime .* --max-batch 4"):
        bench(DEMO, tmp_path / "out")


def test_panels_of_a_recipe_without_golden_ones_have_its_size(recipe: Path) -> None:
    loaded = recipes.load(recipe)
    panels = panels_of(loaded, 3)
    assert [panel.shape for panel in panels] == [(2, 32, 32)] * 3
    assert panels_of(loaded, 1, (96, 80))[0].shape == (2, 96, 80)
    assert rows_of(loaded, panels[0]) == 1


def test_parts_add_up_to_no_more_than_the_whole(recipe: Path) -> None:
    loaded = recipes.load(recipe)
    with (
        open_detector(loaded, threads=1, max_batch=2) as first,
        open_detector(loaded, threads=1, max_batch=2) as second,
    ):
        (times,) = timed([first, second], panels_of(loaded, 2), [2], 20, lambda done, total: None)
    assert all(
        sum(parts) <= ms for parts, ms in zip(zip(*times.parts.values(), strict=True), order(times), strict=True)
    )


def order(times: Any) -> list[float]:
    """Runs as they were taken: each round begins with the other pass."""
    rounds = enumerate(zip(*times.passes, strict=True))
    return [ms for number, pair in rounds for ms in (pair if number % 2 == 0 else pair[::-1])]


def test_an_early_end_keeps_what_was_measured(recipe: Path) -> None:
    loaded = recipes.load(recipe)
    rounds: list[int] = []
    with open_detector(loaded, threads=1, max_batch=2) as one:
        (times,) = timed(
            [one], panels_of(loaded, 1), [1], 50, lambda done, total: rounds.append(done), lambda: len(rounds) == 3
        )
    assert len(times.passes[0]) == 3


def test_laps_count_each_moment_once() -> None:
    laps = Laps()
    laps.lap("prepare")
    laps.lap("network")
    before = dict(laps.ns)
    laps.lap("network")
    assert laps.ns["prepare"] == before["prepare"] and laps.ns["network"] >= before["network"]
    laps.copied(HOST_IN, 5)
    laps.copied(HOST_IN, 5)
    assert laps.copies_ns == {HOST_IN: 10, HOST_OUT: 0}
    laps.begin()
    assert set(laps.ns.values()) | set(laps.copies_ns.values()) == {0}
