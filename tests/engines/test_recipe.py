"""A recipe folder is taken only as it was written."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines import recipe as recipes
from engines.errors import RecipeError
from engines.recipe import Golden, Recipe

Make = Callable[..., Recipe]


def test_a_written_recipe_loads_with_the_same_hash(make_recipe: Make) -> None:
    written = make_recipe()
    loaded = recipes.load(written.path)
    assert loaded.hash == written.hash
    assert len(loaded.hash) == 64
    assert loaded.manifest == written.manifest


def test_the_hash_names_the_content_not_the_spelling(make_recipe: Make) -> None:
    recipe = make_recipe()
    manifest = recipe.path / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(dict(reversed(content.items()))))
    assert recipes.load(recipe.path).hash == recipe.hash
    content["product"] = "other"
    manifest.write_text(json.dumps(content))
    assert recipes.load(recipe.path).hash != recipe.hash


def change_network(path: Path) -> None:
    (path / "network.onnx").write_bytes((path / "network.onnx").read_bytes() + b"\0")


def edit(path: Path, **changes: object) -> None:
    content = json.loads((path / "manifest.json").read_text()) | changes
    (path / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (change_network, "network.onnx was changed"),
        (lambda path: (path / "network.onnx").unlink(), "network.onnx is missing"),
        (lambda path: (path / "stray.txt").write_text("x"), "stray.txt does not belong"),
        (lambda path: (path / "manifest.json").write_text("{"), "is damaged"),
        (lambda path: (path / "manifest.json").write_text("[]"), "states no format"),
        (lambda path: (path / "manifest.json").unlink(), "is no recipe"),
        (lambda path: edit(path, format=4), "format 4 is newer"),
        (lambda path: edit(path, dtype="float32"), "dtype"),
        (lambda path: edit(path, surprise=1), "surprise"),
        (lambda path: edit(path, files={}), "network.onnx is missing"),
        (lambda path: edit(path, mm_per_px=float("nan")), "NaN is no number"),
    ],
)
def test_damage_is_one_clear_line(make_recipe: Make, damage: Callable[[Path], None], says: str) -> None:
    recipe = make_recipe()
    damage(recipe.path)
    with pytest.raises(RecipeError, match=says) as raised:
        recipes.load(recipe.path)
    assert "\n" not in str(raised.value)


def test_golden_panels_come_back_as_they_were_written(make_recipe: Make) -> None:
    recipe = make_recipe(channels=2)
    random = np.random.default_rng(0)
    golden = Golden(
        "good_0", False, random.integers(0, 256, (2, 9, 7), np.uint8), 0.25, np.full((3, 2), 0.5, np.float32)
    )
    recipes.write_golden(recipe.path, (golden,))
    (recipe.path / "manifest.json").unlink()
    sealed = recipes.write(recipe.path, _facts(recipe))
    (read,) = sealed.golden
    np.testing.assert_array_equal(read.frames, golden.frames)
    np.testing.assert_array_equal(read.map, golden.map)
    assert (read.name, read.defective, read.score) == ("good_0", False, 0.25)


def _facts(recipe: Recipe) -> dict:
    return {name: value for name, value in recipe.manifest if name != "files"}
