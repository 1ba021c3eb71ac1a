"""teach, eval and inspect from the outside: exit status, JSON keys, one line for an error."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from calibration import scores
from calibration.panels import write_panel
from calibration.relimit import Wish, relimit
from engines import recipe as recipes
from engines.errors import PanelError, TaktError, UsageError
from engines.zones import Zones
from pipeline.cli_recipe import register, spelled_out

RUNNER = CliRunner()
CHANNELS = ("dark_surface", "dark_pixel", "bright_surface", "bright_pixel")
TEACH = {
    "height": 64,
    "width": 64,
    "teacher": "takt",
    "student_width": 8,
    "blend": "balanced",
    "schedule.image_passes": 2400,
    "schedule.flips": "false",
}


def run(*arguments: object, catch: bool = False) -> Result:
    app = typer.Typer()
    register(app)
    return RUNNER.invoke(app, [str(argument) for argument in arguments], catch_exceptions=catch)


def frames(seed: int, defect: bool) -> np.ndarray:
    random = np.random.default_rng(seed)
    columns = 1 + 0.3 * np.sin(np.arange(64) * 2 * np.pi / 8)
    levels = np.array([40, 50, 140, 150])[:, None, None]
    picture = levels * columns * random.uniform(0.98, 1.02) + random.normal(0, 1, (4, 64, 64))
    if defect:
        row, column = random.integers(16, 40, 2)
        picture[:, row : row + 12, column : column + 12] *= 0.3
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def panel_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panels") / "toys"
    for number in range(60):
        write_panel(folder / "train" / "good", f"p{number // 2}_{number % 2}", frames(number, False), CHANNELS)
    for number in range(8):
        write_panel(folder / "test" / "good", f"p{number}", frames(500 + number, False), CHANNELS)
        mask = np.zeros((64, 64), bool)
        mask[20:28, 20:28] = True
        write_panel(folder / "test" / "hole", f"p{number}", frames(700 + number, True), CHANNELS, mask)
    facts = f"product = 'toy'\nmm_per_px = 0.1\nspecimen = '^(p[0-9]+)_'\nchannels = {json.dumps(CHANNELS)}\n"
    (folder / "set.toml").write_text(facts)
    return folder


@pytest.fixture(scope="module")
def taught(panel_set: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    pytest.importorskip("torch", reason="needs the extra [teach]")
    out, figures = tmp_path_factory.mktemp("recipes") / "toy", panel_set.parent / "teach.json"
    settings = [part for name, value in TEACH.items() for part in ("--set", f"{name}={value}")]
    done = run(
        "teach",
        panel_set,
        "--out",
        out,
        "--method",
        "mkd",
        "--hold-out-every",
        2,
        "--false-reject",
        0.2,
        *settings,
        "--json",
        figures,
    )
    assert done.exit_code == 0, done.output
    assert f"not signed yet, and no line takes it before: takt sign {out}" in done.stderr
    return out, json.loads(figures.read_text())


def test_teach_tells_its_figures_and_leaves_a_sealed_recipe(taught: tuple[Path, dict]) -> None:
    out, figures = taught
    recipe = recipes.load(out)
    assert figures["recipe"] == recipe.hash
    assert figures["method"] == "mkd" and figures["panels"] == 60 and figures["teacher"] == "takt"
    assert set(figures["promised_false_reject"]) == {"rate", "confidence"}
    assert figures["seconds"] > 0 and figures["peak_memory_mb"] > 0
    assert figures["limit"] == recipe.manifest.limits.image
    assert recipe.manifest.product == "toy" and recipe.manifest.mm_per_px == 0.1
    assert [channel.light for channel in recipe.manifest.channels] == ["dark", "dark", "bright", "bright"]
    assert not list(out.parent.glob(".*partial"))


def test_a_recipe_carries_golden_panels_on_both_sides_of_its_limit(taught: tuple[Path, dict]) -> None:
    recipe = recipes.load(taught[0])
    limit = recipe.manifest.limits.image
    good = [each for each in recipe.golden if not each.defective]
    defective = [each for each in recipe.golden if each.defective]
    assert len(good) == len(defective) == 8
    assert all(each.score <= limit for each in good) and all(each.score > limit for each in defective)


def test_golden_panels_score_on_the_line_as_they_did_when_taught(taught: tuple[Path, dict]) -> None:
    from engines.detector import open_detector

    recipe = recipes.load(taught[0])
    with open_detector(recipe) as detector:
        found = detector.inspect([each.frames for each in recipe.golden])
    for finding, golden in zip(found, recipe.golden, strict=True):
        assert finding.score == pytest.approx(golden.score, abs=1e-3)
        assert finding.passed is not golden.defective
        np.testing.assert_allclose(finding.map, golden.map, atol=1e-4)


def test_a_recipe_does_not_tell_on_which_machine_it_was_made(taught: tuple[Path, dict]) -> None:
    here = str(Path(recipes.__file__).parents[1]).encode()
    for file in taught[0].rglob("*"):
        assert not file.is_file() or here not in file.read_bytes(), file


def test_the_report_is_one_file_with_pictures(taught: tuple[Path, dict]) -> None:
    text = (taught[0] / "report.html").read_text()
    assert "<svg" in text and "data:image/jpeg;base64," in text
    assert "http" not in text and "<script" not in text
    assert "prefers-color-scheme: dark" in text and "viewport" in text
    for said in ("Synthetic defects by kind", "Learning curve", "will be rejected", "seen in", "integrity checks"):
        assert said in text, said
    assert len(text) < 1_500_000


def test_eval_writes_a_page_with_pictures(taught: tuple[Path, dict], panel_set: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run("eval", taught[0], panel_set, "--report", page).exit_code == 0
    text = page.read_text()
    assert "By kind of defect" in text and "0 of 8" in text and "seen in" in text
    assert text.count("data:image/jpeg;base64,") == 14
    assert "http" not in text and "<script" not in text
    with pytest.raises(UsageError, match="cannot be written"):
        run("eval", taught[0], panel_set, "--report", tmp_path)


def test_eval_gives_every_promised_key(taught: tuple[Path, dict], panel_set: Path, tmp_path: Path) -> None:
    done = run("eval", taught[0], panel_set, "--json", tmp_path / "eval.json")
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "eval.json").read_text())
    for key in [
        "panels",
        "image_auroc",
        "image_auroc_by_defect",
        "pixel_auroc",
        "pixel_ap",
        "aupro30",
        "aupro05",
        "f1_max",
        "segf1",
        "accuracy",
        "false_reject",
        "miss",
        "ms_per_panel",
    ]:
        assert key in figures, key
    assert figures["panels"] == 16
    assert figures["image_auroc"] == 1.0 and figures["miss"]["k"] == 0
    assert {"k", "n", "rate", "upper95"} < set(figures["miss"])
    assert figures["damaged"]["good"]["n"] == 8 and len(figures["results"]) == 16
    assert set(figures["ms_per_panel"]) == {"median", "p99"}


def test_eval_compares_with_another_recipe_panel_by_panel(
    taught: tuple[Path, dict], panel_set: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert run("eval", taught[0], panel_set, "--json", first).exit_code == 0
    assert run("eval", taught[0], panel_set, "--against", first, "--json", second).exit_code == 0
    found = json.loads(second.read_text())["against"]
    assert found["image_auroc"]["difference"] == 0.0 and found["recipe"] == taught[1]["recipe"]
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(UsageError, match="is no evaluation"):
        run("eval", taught[0], panel_set, "--against", tmp_path / "none.json")


def test_a_taught_recipe_keeps_the_scores_that_set_its_limits(taught: tuple[Path, dict]) -> None:
    recipe = recipes.load(taught[0])
    kept, limits = scores.read(recipe), recipe.manifest.limits
    again, _ = kept.limits(None, recipe.manifest.score, limits.promise, limits.min_area_px)
    assert len(kept.names) == limits.statistics.panels == 30
    assert recipe.manifest.training.facts["specimens"] == 30
    assert len(set(kept.specimens)) == 15, "every second specimen, both its image sets"
    assert again.image == pytest.approx(limits.image) and again.low == pytest.approx(limits.low)
    everywhere = kept.within(Zones(), recipe.manifest.score)
    np.testing.assert_allclose(everywhere, kept.scores, rtol=2e-3)


def test_zones_given_later_need_no_teaching(taught: tuple[Path, dict], panel_set: Path, tmp_path: Path) -> None:
    recipe = recipes.load(taught[0])
    wish = Wish(zones=Zones(ignore=(((0.2, 0.2), (0.9, 0.2), (0.9, 0.9), (0.2, 0.9)),)))
    changed = relimit(recipe, wish, tmp_path / "frame").recipe
    assert changed.manifest.files["network.onnx"] == recipe.manifest.files["network.onnx"]
    assert changed.manifest.limits.image < recipe.manifest.limits.image * 1.5
    done = run("inspect", changed.path, panel_set / "test" / "good")
    assert [json.loads(line)["fault"] for line in done.stdout.splitlines()] == [None] * 8
    assert "set anew" in (changed.path / "report.html").read_text()


@pytest.mark.slow
def test_some_channels_and_a_part_of_the_panel_can_be_taught(panel_set: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra [teach]")
    shutil.copytree(panel_set, tmp_path / "set")
    with (tmp_path / "set" / "set.toml").open("a") as facts:
        facts.write("\n[zones]\nignore = [[[0, 0], [0.1, 0], [0.1, 1], [0, 1]]]\n")
    panel_set = tmp_path / "set"
    settings = [part for name, value in TEACH.items() if name != "blend" for part in ("--set", f"{name}={value}")]
    some = ["--method", "mkd", "--channels", "bright_pixel,dark_surface", "--hold-out-every", 2]
    done = run("teach", panel_set, "--out", tmp_path / "r", *some, "--set", "blend=statistics", *settings)
    assert done.exit_code == 0, done.output
    channels = recipes.load(tmp_path / "r").manifest.channels
    assert [each.name for each in channels] == ["bright_pixel", "dark_surface"]
    zones = recipes.load(tmp_path / "r").manifest.limits.zones
    assert zones and zones.share == pytest.approx(0.9, abs=0.01)
    assert run("eval", tmp_path / "r", panel_set).exit_code == 0
    assert run("inspect", tmp_path / "r", panel_set / "test" / "good").exit_code in (0, 1)


def test_inspect_prints_a_line_a_panel_and_writes_pictures(
    taught: tuple[Path, dict], panel_set: Path, tmp_path: Path
) -> None:
    bad, good = panel_set / "test" / "hole" / "p0", panel_set / "test" / "good" / "p1"
    done = run("inspect", taught[0], bad, good, "--out", tmp_path)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 1
    assert [(line["outcome"], line["fault"]) for line in lines] == [("REJECT", None), ("PASS", None)]
    assert lines[0]["score"] > lines[0]["limit"] >= lines[1]["score"]
    assert set(lines[0]["defects"][0]) == {"x", "y", "width", "height", "area_px", "peak", "channels"}
    for line in lines:
        mask = cv2.imread(line["mask"], cv2.IMREAD_UNCHANGED)
        assert mask is not None and mask.shape == (64, 64)
        assert Path(line["overlay"]).is_file()
    assert len({line["mask"] for line in lines}) == 2
    assert run("inspect", taught[0], good).exit_code == 0


def test_a_folder_of_panels_is_every_panel_in_it(taught: tuple[Path, dict], panel_set: Path) -> None:
    done = run("inspect", taught[0], panel_set / "test" / "good")
    assert len(done.stdout.splitlines()) == 8


def test_a_panel_that_cannot_be_inspected_is_a_reject_with_a_fault(
    taught: tuple[Path, dict], panel_set: Path, tmp_path: Path
) -> None:
    write_panel(tmp_path, "short", frames(0, False)[:3], CHANNELS[:3])
    write_panel(tmp_path, "deep", frames(0, False).astype(np.uint16), CHANNELS)
    good = panel_set / "test" / "good" / "p1"
    done = run("inspect", taught[0], tmp_path / "short", tmp_path / "deep", good)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["outcome"] for line in lines] == ["REJECT", "REJECT", "PASS"]
    assert [line["fault"] for line in lines] == ["INCOMPLETE", "GEOMETRY", None]
    assert done.exit_code == 2
    assert "bright_pixel is missing" in done.stderr and "uint16" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        (["--set", "student_widht=3"], UsageError, "student_widht"),
        (["--set", "height"], UsageError, "NAME=VALUE"),
        (["--method", "magic"], UsageError, "no 'magic'"),
        (["--set", "teacher=resnet18"], UsageError, "--teacher-weights"),
        (["--teacher-weights", "nowhere"], UsageError, "holds no resnet18"),
    ],
)
def test_wrong_use_is_one_line(
    panel_set: Path, tmp_path: Path, arguments: list[str], kind: type[TaktError], says: str
) -> None:
    pytest.importorskip("torch", reason="needs the extra [teach]")
    with pytest.raises(kind, match=says) as raised:
        run("teach", panel_set, "--out", tmp_path / "r", *arguments)
    assert "\n" not in str(raised.value) and raised.value.exit_status == 2
    assert not (tmp_path / "r").exists()


def test_a_recipe_is_never_overwritten(taught: tuple[Path, dict], panel_set: Path) -> None:
    with pytest.raises(UsageError, match="never overwritten"):
        run("teach", panel_set, "--out", taught[0], "--set", "teacher=takt")


def test_sets_without_panels_are_named(taught: tuple[Path, dict], tmp_path: Path) -> None:
    with pytest.raises(PanelError, match="no panels in test/"):
        run("eval", taught[0], tmp_path)
    with pytest.raises(PanelError, match="no such picture"):
        run("inspect", taught[0], tmp_path / "nothing.png")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["S", "--tiles", "--out", "x"], ["S", "--tiles", "auto", "--out", "x"]),
        (["--out", "x", "S", "--tiles"], ["--out", "x", "S", "--tiles", "auto"]),
        (["--tiles", "S"], ["--tiles", "auto", "S"]),
        (["--tiles", "1024", "S"], ["--tiles", "1024", "S"]),
        (["--tiles", "512x1024", "S"], ["--tiles", "512x1024", "S"]),
        (["--tiles", "auto"], ["--tiles", "auto"]),
    ],
)
def test_tiles_alone_means_that_their_size_is_chosen(words: list[str], meant: list[str]) -> None:
    assert spelled_out(words) == meant
