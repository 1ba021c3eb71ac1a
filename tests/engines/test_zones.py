"""Where nothing is inspected nothing is found, and everywhere else nothing changes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toy_recipe import facts, limits

from engines import recipe as recipes
from engines import zones
from engines.decide import decide
from engines.detector import open_detector
from engines.errors import RecipeError, UsageError
from engines.recipe import Recipe
from engines.zones import TopMean, Zones

Make = Callable[..., Recipe]
LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
RIGHT_HALF = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
MAPS = arrays(np.float32, (6, 8), elements=st.floats(-1, 1, width=32))
MAXIMUM = (TopMean(cells=1, weight=1.0),)


def test_halves_are_halves() -> None:
    cells = Zones(inspect=(LEFT_HALF,)).cells((4, 6))
    np.testing.assert_array_equal(cells, np.tile([True] * 3 + [False] * 3, (4, 1)))
    np.testing.assert_array_equal(Zones(ignore=(RIGHT_HALF,)).cells((4, 6)), cells)
    assert Zones(inspect=(LEFT_HALF,), ignore=(LEFT_HALF,)).share == 0
    assert Zones().cells((3, 5)).all() and Zones().share == 1


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=3))
def test_a_triangle_covers_its_area(corners: list[tuple[float, float]]) -> None:
    (ax, ay), (bx, by), (cx, cy) = corners
    area = abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2
    assert Zones(inspect=(tuple(corners),)).share == pytest.approx(area, abs=0.01)
    assert Zones(ignore=(tuple(corners),)).share == pytest.approx(1 - area, abs=0.01)


def test_the_shape_of_a_star_may_have_hollows() -> None:
    arrow = ((0.0, 0.0), (1.0, 0.5), (0.0, 1.0), (0.4, 0.5))
    inside = Zones(inspect=(arrow,)).cells((10, 10))
    assert inside[4, 6] and not inside[4, 1]


@given(MAPS, arrays(bool, (6, 8)).filter(lambda cells: bool(cells.any())), st.integers(1, 60))
def test_the_score_is_that_of_the_inspected_cells(map: np.ndarray, cells: np.ndarray, count: int) -> None:
    parts = (TopMean(cells=1, weight=0.5), TopMean(cells=count, weight=2.0))
    inside = sorted((float(each) for each in map[cells]), reverse=True)
    top = inside[:count]
    expected = 0.5 * inside[0] + 2.0 * sum(top) / len(top)
    assert zones.score(map, cells, parts) == pytest.approx(expected, abs=1e-6)


@given(MAPS, arrays(bool, (6, 8)).filter(lambda cells: bool(cells.any())), st.floats(-1, 1))
def test_nothing_is_marked_where_nothing_is_inspected(map: np.ndarray, cells: np.ndarray, score: float) -> None:
    found = decide(map, score, limits(image=0.0, low=-2.0, pixel=0.2), (12, 16), inspected=cells)
    assert not (found.low_mask.unpack() & ~cells).any()
    changed = np.where(cells, map, np.float32(0.9))
    again = decide(changed, score, limits(image=0.0, low=-2.0, pixel=0.2), (12, 16), inspected=cells)
    np.testing.assert_array_equal(found.mask, again.mask)
    assert not (found.mask & ~np.repeat(np.repeat(cells, 2, axis=0), 2, axis=1)).any()
    assert found.defects == again.defects and found.passed == again.passed


def test_what_is_not_finite_rejects_wherever_it_lies() -> None:
    map, cells = np.zeros((4, 4), np.float32), np.zeros((4, 4), bool)
    cells[0, 0], map[3, 3] = True, np.nan
    assert not decide(map, 0.1, limits(), (8, 8), inspected=cells).passed


def panel(spot: int) -> np.ndarray:
    frames = np.full((2, 32, 32), 50, np.uint8)
    frames[:, 8:16, 24:32] = spot
    return frames


def zoned(make_recipe: Make, **polygons: tuple) -> Recipe:
    return make_recipe(score=MAXIMUM, limits=limits().model_copy(update={"zones": Zones(**polygons)}))


def test_the_production_path_sees_a_defect_only_where_it_looks(make_recipe: Make) -> None:
    with open_detector(make_recipe()) as everywhere, open_detector(zoned(make_recipe, ignore=(RIGHT_HALF,))) as left:
        assert not everywhere.inspect([panel(250)])[0].passed
        found = left.inspect([panel(250)])[0]
        assert found.passed and found.score == pytest.approx(50 / 255) and not found.mask.any()
    with open_detector(zoned(make_recipe, ignore=(LEFT_HALF,))) as right:
        (found,) = right.inspect([panel(250)])
        assert not found.passed and found.mask.any() and found.score == pytest.approx(250 / 255)


def test_zones_need_a_rule_for_the_score(make_recipe: Make) -> None:
    with pytest.raises(RecipeError, match="teach again"):
        make_recipe(limits=limits().model_copy(update={"zones": Zones(ignore=(LEFT_HALF,))}))


def test_zones_between_the_cells_are_refused(make_recipe: Make) -> None:
    sliver = ((0.0, 0.0), (0.01, 0.0), (0.01, 0.01))
    with pytest.raises(RecipeError, match="no cell"), open_detector(zoned(make_recipe, inspect=(sliver,))):
        pass


def test_zones_are_kept_in_the_recipe_and_name_another_one(make_recipe: Make) -> None:
    first, second = zoned(make_recipe, ignore=(LEFT_HALF,)), zoned(make_recipe, ignore=(RIGHT_HALF,))
    assert recipes.load(first.path).manifest.limits.zones == Zones(ignore=(LEFT_HALF,))
    assert first.hash != second.hash


def test_a_recipe_of_the_first_format_still_loads(make_recipe: Make) -> None:
    recipe = make_recipe()
    content = json.loads((recipe.path / "manifest.json").read_text()) | {"format": 1}
    del content["score"], content["limits"]["zones"], content["limits"]["cell_px"]
    (recipe.path / "manifest.json").write_text(json.dumps(content))
    assert recipes.load(recipe.path).manifest.limits == facts(2)["limits"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("inspct = []", "did you mean 'inspect'"),
        ("inspect = [[[0, 0], [2, 0], [0, 1]]]", "less than or equal to 1"),
        ("inspect = [[[0, 0], [1, 0]]]", "at least 3"),
        ('unit = "px"\nignore = [[[0, 0], [9, 0], [0, 9]]]', "go together"),
        ("size = [10, 10]", "go together"),
        ("ignore = [[[0, 0], [1, 0], [1, 1], [0, 1]]]", "nothing of the panel"),
        ("inspect = [[[0, 0], [1, 1]", "not a TOML file"),
    ],
)
def test_a_wrong_zone_file_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "zones.toml").write_text(text)
    with pytest.raises(UsageError, match=says) as raised:
        zones.read(tmp_path / "zones.toml")
    assert "\n" not in str(raised.value)


def test_pixels_become_shares(tmp_path: Path) -> None:
    (tmp_path / "zones.toml").write_text('unit = "px"\nsize = [200, 100]\nignore = [[[0, 0], [100, 0], [0, 50]]]')
    assert zones.read(tmp_path / "zones.toml") == Zones(ignore=(((0.0, 0.0), (0.5, 0.0), (0.0, 0.5)),))
