"""Files of a recipe are used as they were hashed, and nothing outside of its folder, or too large, is touched."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration import reseal, scores
from engines import contents, golden
from engines import recipe as recipes
from engines.detector import open_detector
from engines.errors import RecipeError
from engines.golden import PNG
from engines.recipe import Golden, Recipe

Make = Callable[..., Recipe]
PANEL = Golden("good_0", False, np.zeros((2, 9, 7), np.uint8), 0.25, np.zeros((3, 2), np.float32))


class Bomb:
    """Pickled: whoever loads it makes the file "loaded"."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def __reduce__(self) -> tuple:
        return Path.touch, (self.where / "loaded",)


def sealed(recipe: Recipe) -> Recipe:
    """The folder as it is now, with a manifest that says so: whoever damaged it also had the manifest."""
    return recipes.write(recipe.path, {name: value for name, value in recipe.manifest if name != "files"})


def with_golden(recipe: Recipe) -> Recipe:
    recipes.write_golden(recipe.path, (PANEL,))
    return sealed(recipe)


def listing(recipe: Recipe, name: str) -> None:
    """Let the manifest list `name`, with the hash that this file has."""
    file = recipe.path / "manifest.json"
    content = json.loads(file.read_text())
    content["files"][name] = sha256((recipe.path / name).read_bytes()).hexdigest()
    file.write_text(json.dumps(content))


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(RecipeError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- names and kinds of files ---


@pytest.mark.parametrize("name", ["../secret", "golden/../../secret", "{absolute}", "./network.onnx", "golden//x"])
def test_a_name_that_leads_elsewhere_is_refused_even_with_the_right_hash(make_recipe: Make, name: str) -> None:
    recipe = make_recipe()
    (recipe.path / "golden").mkdir()
    for place in (recipe.path.parent / "secret", recipe.path / "golden" / "x"):
        place.write_text("x")
    name = name.format(absolute=recipe.path.parent / "secret")
    listing(recipe, name)
    assert f"{name!r} is no file inside a recipe" in refusal(lambda: recipes.load(recipe.path))


@pytest.mark.parametrize("name", ["network.onnx", "golden/good_0.png", "two words", "a/b/c/d"])
def test_what_can_name_a_file(name: str) -> None:
    assert contents.is_name(name)


OUTSIDE = ("", "/a", "a/", "..", "a/..", "a\0", "a\n", "a\\b", ".hidden", "a" * 200, "a/b/c/d/e")


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_cannot_name_a_file(name: str) -> None:
    assert not contents.is_name(name)


def test_a_link_is_never_followed_though_it_leads_to_the_right_bytes(make_recipe: Make) -> None:
    recipe = make_recipe()
    network = recipe.path / "network.onnx"
    outside = recipe.path.parent / "outside.onnx"
    network.rename(outside)
    network.symlink_to(outside)
    assert "network.onnx: is no plain file of the recipe's own" in refusal(lambda: recipes.load(recipe.path))
    assert "network.onnx: is no plain file of the recipe's own" in refusal(lambda: recipe.read("network.onnx"))


def test_a_folder_that_is_a_link_is_not_followed(make_recipe: Make) -> None:
    recipe = with_golden(make_recipe())
    (recipe.path / "golden").rename(recipe.path.parent / "outside")
    (recipe.path / "golden").symlink_to(recipe.path.parent / "outside")
    assert "is missing" in refusal(lambda: recipes.load(recipe.path))
    assert "is no plain file of the recipe's own" in refusal(lambda: recipe.read("golden/maps.npz"))


def test_the_recipes_own_folder_may_be_a_link(make_recipe: Make) -> None:
    recipe = make_recipe()
    current = recipe.path.parent / "current"
    current.symlink_to(recipe.path)
    assert recipes.load(current).hash == recipe.hash


def test_a_pipe_does_not_hold_the_line_up(make_recipe: Make) -> None:
    recipe = make_recipe()
    (recipe.path / "network.onnx").unlink()
    os.mkfifo(recipe.path / "network.onnx")
    assert "is no plain file" in refusal(lambda: recipes.load(recipe.path))


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to("/etc/hostname")])
def test_surplus_is_found_whatever_it_is(make_recipe: Make, plant: Callable[[Path], None]) -> None:
    recipe = make_recipe()
    plant(recipe.path / "stray")
    assert "stray does not belong to the recipe" in refusal(lambda: recipes.load(recipe.path))


@pytest.mark.parametrize(("name", "most"), [("manifest.json", 16), ("network.onnx", 2048)])
def test_an_absurd_size_is_refused_unread(make_recipe: Make, name: str, most: int) -> None:
    recipe = make_recipe()
    with (recipe.path / name).open("ab") as file:
        file.truncate((most << 20) + 1)  # sparse: it costs no disk
    assert "MB are too many for it" in refusal(lambda: recipes.load(recipe.path))


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"format": 2, "product": "\\ud800"}', b"\xff"])
def test_a_manifest_that_is_no_json_text_is_one_line(make_recipe: Make, text: bytes) -> None:
    recipe = make_recipe()
    (recipe.path / "manifest.json").write_bytes(text)
    assert "is damaged" in refusal(lambda: recipes.load(recipe.path))


def test_a_file_in_place_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "panel.png").touch()
    assert "panel.png: is no recipe, it has no manifest.json" in refusal(lambda: recipes.load(tmp_path / "panel.png"))


# --- between the check and the use ---


def test_a_network_swapped_after_the_check_never_reaches_a_runtime(make_recipe: Make) -> None:
    recipe = recipes.load(make_recipe().path)
    (recipe.path / "network.onnx").write_bytes(b"evil")
    said = refusal(lambda: open_detector(recipe).__enter__())
    assert "network.onnx was changed after teaching" in said


@pytest.mark.parametrize("name", ["golden/good_0.png", "golden/maps.npz", "golden/golden.json"])
def test_golden_panels_swapped_after_the_check_reach_no_decoder(
    make_recipe: Make, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipes.load(with_golden(make_recipe()).path)
    (recipe.path / name).write_bytes((recipe.path / name).read_bytes() + b" ")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("a decoder got bytes that nobody verified"))
    assert f"{name} was changed after teaching" in refusal(lambda: recipe.golden)


def test_a_copy_with_other_facts_is_made_of_verified_files(make_recipe: Make, tmp_path: Path) -> None:
    recipe = make_recipe()
    (recipe.path / "network.onnx").write_bytes(b"evil")
    assert "was changed" in refusal(lambda: reseal.resealed(recipe, tmp_path / "copy", {"product": "other"}))
    assert not (tmp_path / "copy").exists()


def test_a_copy_with_other_facts_does_not_keep_the_signature(make_recipe: Make, tmp_path: Path) -> None:
    recipe = make_recipe()
    (recipe.path / "signature.json").write_text("{}")
    assert recipes.load(recipe.path).hash == recipe.hash  # it is no content
    assert not (reseal.resealed(recipe, tmp_path / "copy", {"product": "other"}).path / "signature.json").exists()
    assert not (sealed(recipe).path / "signature.json").exists()


# --- what the files hold ---


@pytest.mark.parametrize("name", ["golden/maps.npz", "scores.npz"])
def test_no_pickle_is_loaded(make_recipe: Make, tmp_path: Path, name: str) -> None:
    recipe = with_golden(make_recipe())
    trap = np.array([Bomb(tmp_path)], dtype=object)
    parts = {"good_0": trap, **dict.fromkeys(("names", "scores", "weights", "maps", "scale"), trap)}
    np.savez(recipe.path / name, allow_pickle=True, **parts)
    recipe = sealed(recipe)
    said = refusal((lambda: recipe.golden) if "golden" in name else (lambda: scores.read(recipe)))
    assert f"{recipe.path / name}: cannot be used" in said
    (recipe.path / name).write_bytes(pickle.dumps(Bomb(tmp_path)))
    recipe = sealed(recipe)
    assert "cannot be used" in refusal((lambda: recipe.golden) if "golden" in name else (lambda: scores.read(recipe)))
    assert not (tmp_path / "loaded").exists()


def npz(**parts: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(f"{name}.npy", content)
    return packed.getvalue()


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


SHORT, WHOLE = npz(good_0=header("(2, 3)") + bytes(4)), npz(good_0=header("(2, 3)") + bytes(24))
HUGE = npz(good_0=header("(1000000000000, 1000)"))


@pytest.mark.parametrize("content", [b"", b"PK", npz(), npz(good_0=b"text"), HUGE, SHORT, WHOLE[:-40]])
def test_damaged_maps_are_one_line(content: bytes) -> None:
    assert "maps.npz: cannot be used" in refusal(lambda: contents.unpacked(content, "maps.npz", "good_0"))


def test_an_archive_that_would_fill_the_memory_is_refused_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = npz(good_0=header("(2048, 128)") + bytes(1 << 20))
    assert contents.unpacked(packed, "maps.npz", "good_0")[0].shape == (2048, 128)
    monkeypatch.setattr(contents, "MOST_BYTES", 1 << 20)
    assert len(packed) < 1 << 20
    assert "it unpacks to more" in refusal(lambda: contents.unpacked(packed, "maps.npz", "good_0"))


@pytest.mark.parametrize(
    "content",
    [b"", b"not a picture" * 4, PNG[:20], PNG + (1 << 20).to_bytes(4, "big") * 2 + bytes(20), b"II*\0" + bytes(60)],
)
def test_what_is_no_png_of_a_possible_size_reaches_no_decoder(
    make_recipe: Make, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = with_golden(make_recipe())
    (recipe.path / "golden" / "good_0.png").write_bytes(content)
    recipe = sealed(recipe)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("a decoder got it"))
    assert f"good_0.png: is no PNG of at most {golden.MOST_PX} pixels" in refusal(lambda: recipe.golden)


@pytest.mark.parametrize("index", ["{}", "[1]", '[{"name": "../x"}]', '[{"name": 1, "defective": 0, "score": "a"}]'])
def test_a_damaged_index_of_golden_panels_is_one_line(make_recipe: Make, index: str) -> None:
    recipe = with_golden(make_recipe())
    (recipe.path / "golden" / "golden.json").write_text(index)
    recipe = sealed(recipe)
    assert "golden.json: " in refusal(lambda: recipe.golden)


def test_an_index_that_names_a_file_elsewhere_finds_none(make_recipe: Make) -> None:
    recipe = with_golden(make_recipe())
    (recipe.path.parent / "x.png").write_bytes((recipe.path / "golden" / "good_0.png").read_bytes())
    entry = {"name": "../../x", "defective": False, "score": 0.5}
    (recipe.path / "golden" / "golden.json").write_text(json.dumps([entry]))
    (recipe.path / "golden" / "maps.npz").write_bytes(npz(**{"../../x": header("(2, 3)") + bytes(24)}))
    recipe = sealed(recipe)
    assert "has no golden/../../x.png" in refusal(lambda: recipe.golden)
