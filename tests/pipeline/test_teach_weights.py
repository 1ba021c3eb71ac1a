"""takt teach works without weights; it fetches them only when told to, and takes no others than the pinned ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from served_files import respond, serving
from typer.testing import CliRunner

pytest.importorskip("torch", reason="needs the extra [teach]")

from calibration.panels import write_panel
from engines import recipe as recipes
from engines.backbones import TEACHERS
from engines.errors import UsageError
from pipeline.cli_recipe import register
from pipeline.simulation.panel import Look
from pipeline.simulation.panelset import items, write_set

NAME = "resnet18-f37072fd.pth"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "takt" / "weights"


@pytest.fixture
def panels(tmp_path: Path) -> Path:
    for number in range(12):
        frames = np.random.default_rng(number).integers(0, 255, (1, 64, 64), np.uint8)
        write_panel(tmp_path / "set" / "train" / "good", f"p{number}", frames, ("bright_surface",))
    return tmp_path / "set"


def teach(panels: Path, *options: object) -> None:
    app = typer.Typer()
    register(app)
    sizes = ["--set", "height=64", "--set", "width=64"]
    arguments = ["teach", panels, "--out", panels.parent / "out", *sizes, *options]
    CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)


@pytest.mark.slow
def test_without_weights_the_teacher_that_ships_teaches(tmp_path: Path) -> None:
    look = Look(height=64, width=64, bezel_px=2)
    channels = ("bright_surface", "dark_left_pixel")
    write_set(tmp_path / "set", list(items(24, 4, 4, ("stain",))), look, 3, channels, scale=2)
    short = {"schedule.image_passes": 1200, "student_width": 8, "decoder_passes": 400, "contrast_passes": 80}
    options = [part for name, value in short.items() for part in ("--set", f"{name}={value}")]
    options += ["--hold-out-every", 2, "--false-reject", 0.3, "--json", tmp_path / "teach.json"]
    teach(tmp_path / "set", *options)
    said = json.loads((tmp_path / "teach.json").read_text())
    manifest = recipes.load(tmp_path / "out").manifest
    assert said["method"] == "fused"
    assert said["teacher"] == manifest.training.teacher == manifest.settings["teacher"] == "takt"
    shipped = TEACHERS["takt"].shipped
    assert shipped and manifest.training.teacher_sha256 == shipped.sha256


def test_missing_weights_say_both_ways_to_get_them(panels: Path) -> None:
    with pytest.raises(UsageError, match=r"--teacher-weights DIR with resnet18\*\.pth, or --download-weights"):
        teach(panels, "--set", "teacher=resnet18")


def test_only_one_way_can_be_asked_for(panels: Path) -> None:
    with pytest.raises(UsageError, match="give one of them"):
        teach(panels, "--teacher-weights", panels, "--download-weights")


def test_a_download_that_fails_stops_before_anything_is_made(panels: Path, own_cache: Path) -> None:
    with serving(lambda handler: handler.send_error(403, "Forbidden")) as server:
        with pytest.raises(UsageError, match=rf"{server.url}/{NAME}: the server answers 403 Forbidden; copy"):
            teach(panels, "--download-weights", "--weights-mirror", server.url)
        server.answer = lambda handler: respond(handler, b"not weights", 11)
        with pytest.raises(UsageError, match="is not the pinned file"):
            teach(panels, "--download-weights", "--weights-mirror", server.url)
        assert server.asked == [f"/models/{NAME}"] * 2
    assert not (panels.parent / "out").exists() and not list(own_cache.iterdir())


def test_the_teacher_that_ships_asks_no_server() -> None:
    from calibration import weights

    with serving(lambda handler: handler.send_error(500)) as server:
        weights.fetch("mkd", {"teacher": "takt"}, server.url, lambda phase, done, total: None)
        with pytest.raises(UsageError, match="500"):
            weights.fetch("mkd", {"teacher": "vgg16"}, server.url, lambda phase, done, total: None)
        assert server.asked == ["/models/vgg16-397923af.pth"]


def test_every_teacher_of_a_method_is_fetched() -> None:
    from calibration import weights

    late = {"levels": ["late16"]}
    with serving(lambda handler: handler.send_error(500)) as server:
        for settings in (late, late | {"second": "mobilenet_v2"}, {}):
            with pytest.raises(UsageError, match="500"):
                weights.fetch("mixed_teacher", settings, server.url, lambda phase, done, total: None)
        names = ["efficientnet_b0_rwightman-7f5810bc.pth", "mobilenet_v2-b0353104.pth", NAME]
        assert server.asked == [f"/models/{name}" for name in names]
