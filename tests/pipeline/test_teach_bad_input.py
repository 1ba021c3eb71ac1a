"""What is wrong with a set is said before it is taught from, and panels that do not belong are named after."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from calibration.panels import PanelSet, write_panel
from calibration.stack import read_good, read_labelled
from engines import recipe as recipes
from engines.errors import PanelError, UsageError
from engines.recipe import Resize
from pipeline.cli_recipe import register

CHANNELS = ("dark_surface", "bright_surface")
SIZE = Resize(height=64, width=64)


def frames(seed: int, defect: float = 0.0, dtype: type = np.uint8) -> np.ndarray:
    random = np.random.default_rng(seed)
    columns = 1 + 0.3 * np.sin(np.arange(64) * 2 * np.pi / 8)
    picture = np.array([50, 150])[:, None, None] * columns + random.normal(0, 1, (2, 64, 64))
    if defect:
        row, column = random.integers(8, 44, 2)
        picture[:, row : row + 12, column : column + 12] *= 1 - defect
    return np.clip(picture, 0, 255).astype(dtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        write_panel(tmp_path / "toys" / "train" / "good", f"p{number}", frames(number), CHANNELS)
    return tmp_path / "toys"


def teach(folder: Path, *arguments: object) -> Result:
    app = typer.Typer()
    register(app)
    app.callback()(lambda: None)
    sizes = ["--method", "mkd", "--set", "height=64", "--set", "width=64"]
    words = ["teach", folder, "--out", folder.parent / "recipe", *sizes, *arguments]
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(folder: Path) -> str:
    with pytest.raises(PanelError) as raised:
        read_good(PanelSet(folder), SIZE, lambda phase, done, total: None)
        read_labelled(PanelSet(folder), SIZE)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_constant_picture_is_named(folder: Path) -> None:
    dark = frames(7)
    dark[0] = 3
    write_panel(folder / "train" / "good", "p7", dark, CHANNELS)
    assert "train/good/p7: every pixel of dark_surface is 3" in refused(folder)


def test_panels_of_another_depth_or_channel_are_named(folder: Path) -> None:
    write_panel(folder / "train" / "good", "p8", frames(8, dtype=np.uint16), CHANNELS)
    assert "p8: is uint16, the panels before are uint8" in refused(folder)
    shutil.rmtree(folder / "train" / "good" / "p8")
    (folder / "train" / "good" / "p9" / "bright_surface.png").unlink()
    assert "p9: channel bright_surface is missing" in refused(folder)


def test_labelled_panels_need_masks_of_their_size(folder: Path) -> None:
    write_panel(folder / "train" / "pit", "d1", frames(1, 0.6), CHANNELS)
    assert "d1: a labelled panel needs its mask in ground_truth/pit" in refused(folder)
    mask = folder / "ground_truth" / "pit" / "d1_mask.png"
    mask.parent.mkdir(parents=True)
    cv2.imencode(".png", np.zeros((64, 63), np.uint8))[1].tofile(mask)
    assert "d1_mask.png: is 63x64 uint8, but its panel is 64x64" in refused(folder)


def test_only_defective_panels_are_labelled_ones(folder: Path) -> None:
    assert read_labelled(PanelSet(folder), SIZE) is None
    write_panel(folder / "train" / "pit", "d1", frames(1, 0.6), CHANNELS)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:30, 20:30] = 255
    (folder / "ground_truth" / "pit").mkdir(parents=True)
    cv2.imencode(".png", mask)[1].tofile(folder / "ground_truth" / "pit" / "d1_mask.png")
    labelled = read_labelled(PanelSet(folder), SIZE)
    assert labelled is not None
    assert labelled[0].shape == (1, 2, 64, 64)
    np.testing.assert_array_equal(labelled[1], mask[None] > 0)


def test_doubts_are_said_on_stderr_before_anything_else(folder: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra [teach]")
    good = folder / "train" / "good"
    shutil.copytree(good / "p1", good / "p12")
    write_panel(good, "p5", np.zeros((2, 64, 64), np.uint8), CHANNELS)
    done = teach(folder)
    assert isinstance(done.exception, PanelError) and "p5" in str(done.exception)
    assert "train/good/p1/bright_surface.png is the same picture as train/good/p12/bright_surface.png" in done.stderr


@pytest.mark.slow
def test_defective_panels_among_the_good_are_named(folder: Path) -> None:
    """Taught for real: half a minute of processor time."""
    pytest.importorskip("torch", reason="needs the extra [teach]")
    planted = {"p11", "p30", "p52"}
    for number in range(60):
        name = f"p{number}"
        write_panel(folder / "train" / "good", name, frames(number, 0.3 * (name in planted)), CHANNELS)
    small = ["teacher=takt", "student_width=8", "schedule.image_passes=800"]
    settings = [part for setting in small for part in ("--set", setting)]
    figures = folder.parent / "teach.json"
    done = teach(folder, *settings, "--json", figures)
    assert done.exit_code == 0, done.output
    told = json.loads(figures.read_text())
    assert set(told["suspects"]) == planted and told["synthetic"]["without_highest"]["panel"] in planted
    assert 0 < told["synthetic"]["rejected"] <= told["synthetic"]["drawn"]
    assert all(name in done.stderr for name in planted) and "may be defective" in done.stderr
    recipe = recipes.load(folder.parent / "recipe")
    assert set(str(recipe.manifest.training.facts["suspects"]).split(", ")) == planted
    assert all(name in (recipe.path / "report.html").read_text() for name in planted)


def test_a_hold_out_that_leaves_too_few_is_refused_before_anything_is_taught(folder: Path) -> None:
    result = teach(folder, "--hold-out-every", 2)
    assert isinstance(result.exception, UsageError)
    assert "keeps 6 of 12 good panels back, 8 are needed" in str(result.exception)
    assert not list(folder.parent.glob(".recipe*"))
