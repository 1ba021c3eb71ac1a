"""What another product would take, from passports of known laws."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import passports
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.bench.model import Model, Point, errors, fitted
from pipeline.bench.passport import EnginePassport
from pipeline.bench.predict import Asked, planned, predicted, sizes_of
from pipeline.cli import app
from pipeline.errors import UsageError

WEIGHTS = st.floats(0.01, 10)
TERMS = ("large", "small", "one")
LAW = {  # of each part: milliseconds a unit
    "prepare": {"batch_px": 2e-6, "one": 0.1},
    "network": {"tile_px": 4e-4, "batch_px": 1e-5, "one": 0.5},
    "stitch": {"rows": 0.2, "one": 0.05},
    "decide": {"panel_px": 3e-6, "one": 0.3},
}


@given(WEIGHTS, WEIGHTS, st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_a_law_without_noise_is_found_again(large: float, one: float, seed: int) -> None:
    rng, law = np.random.default_rng(seed), Model({"large": large, "one": one})
    sizes = [{"large": float(a), "small": float(b), "one": 1.0} for a, b in rng.uniform(1, 50, (8, 2))]
    points = [Point(each, law.ms(each)) for each in sizes]
    model = fitted(points, TERMS)
    new = {"large": 30.0, "small": 7.0, "one": 1.0}
    assert model.ms(new) == pytest.approx(law.ms(new), rel=0.03)
    assert np.median(np.abs(errors(points, TERMS))) < 0.01


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_no_weight_is_negative_whatever_was_measured(measured: list[tuple[float, float]]) -> None:
    points = [Point({"large": size, "small": 1 / size, "one": 1.0}, ms) for size, ms in measured]
    model = fitted(points, TERMS)
    assert all(weight >= 0 for weight in model.weights.values())
    assert model.ms({"large": 1e3, "small": 1.0, "one": 1.0}) >= 0


def test_a_single_point_is_scaled_by_its_first_term_and_has_no_error() -> None:
    point = Point({"large": 10.0, "small": 3.0, "one": 1.0}, 5.0)
    assert fitted([point], TERMS) == Model({"large": 0.5})
    assert errors([point], TERMS) == []


def law_ms(sizes: Any) -> dict[str, float]:
    return {part: Model(weights).ms(sizes) for part, weights in LAW.items()}


def measured(channels: int, side: int, batches: tuple[int, ...] = (1, 2, 4), runs: int = 1000) -> EnginePassport:
    """A machine that obeys the law, on one product in tiles."""
    changes = {"channels": channels, "panel": (side, side), "geometry": passports.TILES, "tile": (256, 256)}
    subject = passports.engine_passport([], **changes).subject
    rows = []
    for batch in batches:
        parts = law_ms(sizes_of(subject, channels, (side, side), batch))
        rows.append(passports.row(batch, passports.times(sum(parts.values()), 0.03, runs), parts))
    return passports.engine_passport(rows, **changes)


def test_a_product_that_was_not_measured_is_predicted_from_others() -> None:
    passes = [measured(1, 256), measured(4, 512), measured(8, 300)]
    found = predicted(passes, Asked(6, (1024, 768), takt_ms=800))
    law = sum(law_ms(sizes_of(planned(passes[0].subject, (1024, 768)), 6, (1024, 768), 1)).values())
    assert found["expected_median_ms"] == pytest.approx(law, rel=0.15)
    assert found["expected_p99_ms"] == pytest.approx(found["expected_median_ms"] * 1.07, rel=0.03)
    assert found["error"] is not None and found["error"] < 0.3
    assert found["rows"] == 1, "a tile that covers all of the panel needs no halo"
    assert found["follows"] is (law < 800)


def test_a_takt_shorter_than_the_work_cannot_be_followed() -> None:
    found = predicted([measured(1, 256), measured(4, 512)], Asked(8, (6144, 8192), takt_ms=100))
    assert found["follows"] is False
    assert found["expected_p99_at_takt_ms"] is None
    assert len([note for note in found["notes"] if "outside" in note]) == 2


def test_a_resized_panel_costs_the_network_nothing_more() -> None:
    rows = [passports.row(1, passports.times(24, 0.02, 20), {"network": 20.0, "decide": 1.0})]
    found = predicted([passports.engine_passport(rows)], Asked(3, (2000, 2000)))
    assert found["stages_ms"]["network"] == pytest.approx(20)
    assert found["stages_ms"]["decide"] == pytest.approx(1 * (2000 / 224) ** 2, rel=1e-3)
    assert (found["error"], found["expected_p99_ms"]) == (None, None)
    assert "one measurement alone" in found["notes"][0]


def test_a_line_is_predicted_with_its_own_way() -> None:
    found = predicted([passports.line_passport()], Asked(6, (224, 224)))
    assert found["scope"] == "line"
    assert found["stages_ms"]["exposure"] == pytest.approx(16)
    assert found["stages_ms"]["plc_write"] == pytest.approx(2)


@pytest.mark.parametrize("change", [{"runtime": "openvino"}, {"precision": "int8"}, {"threads": 4}, {"method": "mcd"}])
def test_passports_of_different_engines_predict_nothing(change: dict[str, Any]) -> None:
    row = passports.row(1, passports.times(24, 0.02, 20), {"network": 20.0})
    with pytest.raises(UsageError, match=f"differ in {next(iter(change))}"):
        predicted([passports.engine_passport([row]), passports.engine_passport([row], **change)], Asked(1, (64, 64)))


def test_panels_that_fit_no_tiles_of_the_recipe_are_refused() -> None:
    one = measured(1, 256, runs=20)
    wide = one.model_copy(
        update={
            "subject": one.subject.model_copy(
                update={"geometry": passports.TILES | {"height": 4096, "width": 4096, "halo": 1600}}
            )
        }
    )
    with pytest.raises(UsageError, match="8192 x 6144 px fit no tiles"):
        predicted([wide], Asked(1, (6144, 8192)))


def test_no_times_predict_nothing() -> None:
    with pytest.raises(UsageError, match="no passport"):
        predicted([], Asked(1, (64, 64)))
    with pytest.raises(UsageError, match="no times"):
        predicted([passports.engine_passport([])], Asked(1, (64, 64)))


@pytest.mark.parametrize("size", ["8192", "0x10", "axb", "10x", "-5x5"])
def test_a_size_that_is_none_is_refused(size: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(measured(1, 256, runs=20).model_dump_json())
    with pytest.raises(UsageError, match="WIDTHxHEIGHT"):
        app(["bench", "predict", str(path), "--size", size], standalone_mode=False)


def test_the_command_states_the_expected_p99_with_its_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for number, one in enumerate([measured(1, 256), measured(8, 512)]):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(one.model_dump_json())
    told = tmp_path / "told.json"
    asked = ["--channels", "8", "--size", "8192x6144", "--takt", "800", "--json", str(told)]
    app(["bench", "predict", *map(str, paths), *asked], standalone_mode=False)
    figures = json.loads(told.read_text())
    assert figures["size"] == [6144, 8192]
    out = capsys.readouterr().out
    assert f"{figures['expected_p99_ms']:.1f} ms p99" in out and "cannot follow" in out
