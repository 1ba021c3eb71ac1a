"""Limits are set anew from what the recipe keeps: another recipe, the same network."""

from pathlib import Path

import numpy as np
import pytest
import typer
from line.toy_line import CHANNELS, write_recipe
from typer.testing import CliRunner

from calibration import scores
from calibration.limits import image_limit
from calibration.relimit import Wish, relimit
from calibration.scores import Scores
from engines import recipe as recipes
from engines.detector import open_detector
from engines.errors import RecipeError, TaktError, UsageError
from engines.recipe import Golden, Promise, Recipe, Tiles
from engines.zones import TopMean, Zones
from pipeline.cli_limits import register

RULE = (TopMean(cells=1, weight=1.0),)
RIGHT = Zones(ignore=(((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)),))
SURE = 0.9
CELLS = 8
BRIGHT = 200  # a golden defect in the left half, right of the mark's rows


def seen() -> Scores:
    """40 good panels; the highest cell of every second one lies in the right half."""
    random = np.random.default_rng(3)
    maps = random.uniform(0.10, 0.15, (40, CELLS, CELLS)).astype(np.float32)
    heights = np.linspace(0.16, 0.30, 40)
    for number, height in enumerate(heights):
        maps[number, 4, 6 if number % 2 else 1] = height
    names = tuple(f"p{number}" for number in range(40))
    return Scores(names, maps.max(axis=(1, 2)).astype(float), maps, np.ones((40, 1)))


def golden(level: int) -> Golden:
    frames = np.full((2, 32, 32), 44, np.uint8)
    frames[:, 16:20, 4:8] = level
    map = frames.mean(axis=0).reshape(CELLS, 4, CELLS, 4).mean(axis=(1, 3)).astype(np.float32) / 255
    map[:2, :4] = 0
    return Golden(f"defect_{level}", True, frames, float(map.max()), map)


@pytest.fixture
def taught(tmp_path: Path) -> Recipe:
    pytest.importorskip("onnx", reason="needs the extra [teach]")
    folder = tmp_path / "taught"
    write_recipe(folder, CHANNELS, score=RULE, mm_per_px=0.5)
    scores.write(folder, seen())
    recipes.write_golden(folder, (golden(90), golden(BRIGHT)))
    manifest = recipes.Manifest.model_validate_json((folder / "manifest.json").read_text())
    return recipes.write(folder, {name: value for name, value in manifest if name != "files"})


def test_kept_scores_come_back(taught: Recipe) -> None:
    kept, expected = scores.read(taught), seen()
    assert kept.names == expected.names
    np.testing.assert_array_equal(kept.scores, expected.scores)
    np.testing.assert_allclose(kept.maps, expected.maps, atol=1e-4)
    np.testing.assert_allclose(kept.within(Zones(), RULE), expected.scores, atol=1e-4)


def test_another_promise_is_another_recipe_with_the_same_network(taught: Recipe, tmp_path: Path) -> None:
    wish = Promise(rate=0.2, confidence=SURE)
    made = relimit(taught, Wish(promise=wish), tmp_path / "new")
    limits = made.recipe.manifest.limits
    assert limits.promise == wish
    assert limits.image == pytest.approx(image_limit(seen().scores, wish)[0], abs=1e-3)
    assert made.recipe.hash != taught.hash and made.recipe.manifest.files == taught.manifest.files
    assert limits.pixel == taught.manifest.limits.pixel and limits.low == taught.manifest.limits.low


def test_panels_that_are_no_good_ones_have_no_part_in_the_limits_from_then_on(taught: Recipe, tmp_path: Path) -> None:
    wish = Promise(rate=0.2, confidence=SURE)
    once = relimit(taught, Wish(promise=wish, without=("p39",)), tmp_path / "once").recipe
    left = scores.read(once)
    assert left.names == seen().names[:39]
    assert once.manifest.limits.statistics.panels == 39
    assert once.manifest.limits.image == pytest.approx(image_limit(seen().scores[:39], wish)[0], abs=1e-3)
    twice = relimit(once, Wish(without=("p38", "p0")), tmp_path / "twice").recipe
    assert twice.manifest.training.facts["left_out_of_limits"] == "p39, p38, p0"
    assert scores.read(twice).names == seen().names[1:38]
    assert twice.manifest.limits.statistics.maximum < once.manifest.limits.statistics.maximum


def test_a_panel_that_is_not_there_cannot_be_left_out(taught: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no score is kept of p40, x: give names"):
        relimit(taught, Wish(without=("p40", "p1", "x")), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_promise_too_tight_is_stored_as_what_is_kept(taught: Recipe, tmp_path: Path) -> None:
    made = relimit(taught, Wish(promise=Promise(rate=0.01, confidence=0.95)), tmp_path / "new")
    kept = made.recipe.manifest.limits.promise
    assert kept.rate == pytest.approx(1 - 0.05 ** (1 / 40)) and kept.confidence == 0.95
    assert any("7.2%" in remark and "299 panels" in remark for remark in made.remarks)


def test_a_chosen_limit_states_what_it_promises(taught: Recipe, tmp_path: Path) -> None:
    made = relimit(taught, Wish(image=0.25), tmp_path / "new")
    limits, above = made.recipe.manifest.limits, int((seen().scores > 0.25).sum())
    assert limits.image == 0.25 and limits.promise.rate > above / 40
    assert any(f"{above} of 40 good panels" in remark for remark in made.remarks)


def test_zones_set_the_limit_from_what_is_inspected(taught: Recipe, tmp_path: Path) -> None:
    made = relimit(taught, Wish(zones=RIGHT), tmp_path / "new").recipe
    inside = seen().maps[:, :, :4].max(axis=(1, 2))
    expected, promise = image_limit(inside, taught.manifest.limits.promise)
    assert made.manifest.limits.image == pytest.approx(expected, abs=1e-3)
    assert made.manifest.limits.promise == promise
    assert made.manifest.limits.statistics.maximum == pytest.approx(float(inside.max()), abs=1e-4)
    with open_detector(made) as detector:
        defective = np.full((2, 32, 32), 44, np.uint8)
        defective[:, 20:28, 20:28] = 250  # right: nobody looks
        assert detector.inspect([defective])[0].passed
        assert not detector.inspect([defective[:, :, ::-1].copy()])[0].passed
    back = relimit(made, Wish(everywhere=True), tmp_path / "back").recipe
    assert back.manifest.limits.zones is None
    assert back.manifest.limits.image == pytest.approx(image_limit(seen().scores, promise)[0], abs=1e-3)


def test_a_golden_panel_that_is_a_whole_panel_of_one_tile_has_zones_too(taught: Recipe, tmp_path: Path) -> None:
    """What the line would hold its engine against: none of these defects shows where anybody looks."""
    one = Tiles(height=32, width=32, halo=0, grid=4, panel=(32, 32), piece=(32, 32))
    kept = {name: value for name, value in taught.manifest if name not in ("files", "geometry")}
    tiled = recipes.write(taught.path, kept | {"geometry": one})
    left = Zones(inspect=RIGHT.ignore)
    with pytest.raises(UsageError, match="all 2 golden defects would pass"):
        relimit(tiled, Wish(zones=left), tmp_path / "new")
    small = recipes.write(tiled.path, kept | {"geometry": one.model_copy(update={"panel": (64, 64)})})
    relimit(small, Wish(zones=left), tmp_path / "pieces")


def test_the_minimum_area_needs_no_scores(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the extra [teach]")
    write_recipe(tmp_path / "old", mm_per_px=0.5)
    old = recipes.load(tmp_path / "old")
    made = relimit(old, Wish(min_area_mm2=3.0, pixel=0.4), tmp_path / "new").recipe.manifest.limits
    assert (made.min_area_px, made.pixel, made.image) == (12, 0.4, old.manifest.limits.image)
    with pytest.raises(RecipeError, match="keeps no scores"):
        relimit(old, Wish(image=0.5), tmp_path / "other")


def test_golden_defects_that_pass_are_told_and_never_all_of_them(taught: Recipe, tmp_path: Path) -> None:
    assert "1 of 2 golden defects pass from now on" in relimit(taught, Wish(image=0.5), tmp_path / "new").remarks
    with pytest.raises(UsageError, match="all 2 golden defects would pass"):
        relimit(taught, Wish(image=0.9), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (Wish(), "nothing to change"),
        (Wish(promise=Promise(rate=0.1, confidence=0.9), image=1.0), "give one of them"),
        (Wish(zones=RIGHT, everywhere=True), "contradict"),
    ],
)
def test_a_wish_that_contradicts_itself_is_refused(taught: Recipe, tmp_path: Path, wish: Wish, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        relimit(taught, wish, tmp_path / "new")


def test_a_recipe_is_never_overwritten(taught: Recipe) -> None:
    with pytest.raises(UsageError, match="never overwritten"):
        relimit(taught, Wish(image=0.5), taught.path)


def run(*arguments: object) -> int:
    app = typer.Typer()
    app.command("other")(lambda: None)
    register(app)
    return CliRunner().invoke(app, ["limits", *map(str, arguments)], catch_exceptions=False).exit_code


def test_the_command_sets_limits(taught: Recipe, tmp_path: Path) -> None:
    (tmp_path / "zones.toml").write_text("ignore = [[[0.5, 0], [1, 0], [1, 1], [0.5, 1]]]")
    out = tmp_path / "new"
    assert run(taught.path, "--out", out, "--false-reject", 0.1, "--zones", tmp_path / "zones.toml") == 0
    limits = recipes.load(out).manifest.limits
    assert limits.zones == RIGHT and limits.promise == Promise(rate=0.1, confidence=0.95)
    with pytest.raises(TaktError, match="give both"):
        run(taught.path, "--out", tmp_path / "third", "--confidence", 0.9)
