"""What keeps a line from running is said before it starts: one line that names the place and the remedy."""

import dataclasses
import fcntl
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from line.toy_line import CHANNELS, camera, write_recipe

from engines import recipe as recipes
from engines.errors import TaktError
from engines.recipe import Golden, Tiles
from engines.zones import TopMean, Zones
from pipeline.bench import storm
from pipeline.check import check_line
from pipeline.config import check_timing, load
from pipeline.refusals import _area_px, refuse

LineFile = Callable[..., Path]
DEMO_LINE = Path(__file__).parents[2] / "pipeline" / "demo" / "line.toml"


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def refusal(path: Path) -> str:
    """The one line that is said instead of a start."""
    with pytest.raises(TaktError) as caught:
        list(check_line(load(path)))
    assert caught.value.exit_status == 2
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_good_line_is_told_in_order_and_can_start(line_file: LineFile) -> None:
    found = list(check_line(load(line_file())))
    assert [line.partition(":")[0].split()[0] for line in found] == [
        "allowed", "recipe", "camera", "plc", "conveyor", "outcomes", "store", "shared", "state",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"timing": {"windw_ms": 5}}, "timing.windw_ms: unknown setting; did you mean 'window_ms'?"),
        ({"cammeras": []}, "cammeras: unknown setting; did you mean 'cameras'?"),
        ({"plc": {"settings": {"prot": 1}}}, "prot: unknown setting; did you mean 'port'?"),
        ({"conveyor": {"settings": {"takt": 1}}}, "takt: unknown setting; did you mean 'takt_ms'?"),
        ({"timing": {"window_ms": "long"}}, "timing.window_ms: input should be a valid integer"),
        ({"timing": {"window_ms": 40}}, "timing.margin_ms must be below window_ms"),
        ({"timing": {"early_ms": 80}}, "exposure_ms + early_ms is 90 and must be below takt_ms (90), else a panel's"),
        ({"timing": {"quiet_ms": 80}}, "exposure_ms + quiet_ms is 90 and must be below takt_ms (90), else a panel's"),
        ({"timing": {"takt_ms": 91}}, "panels may follow within 90 ms, three quarters of it, and timing.takt_ms is 91"),
        ({"timing": {"exposure_ms": 1}}, "the last exposure begins 2 ms after the edge, timing.exposure_ms is 1"),
        ({"timing": {"quiet_ms": 4}}, "a frame too many may come 4 ms after the last one began: set timing.quiet_ms"),
        ({"archive": {"sample_recipes": {"7": 0.5}}}, "archive.sample_recipes.7: no recipe has that number"),
        ({"store": {"url": "mysql://u@h/d"}}, "store.url: mysql: expected postgresql://USER@HOST/DATABASE"),
        ({"store": {"url": "postgresql://u:p@h/d"}}, "store.url: holds a password: put it into ~/.pgpass"),
        ({"review": {"address": "192.0.2.1"}}, "192.0.2.1 is not loopback: name certificate and private_key"),
        ({"review": {"codes": "none.toml"}}, "none.toml: cannot be read"),
        ({"review": {"adress": "127.0.0.1"}}, "review.adress: unknown setting; did you mean 'address'?"),
        ({"format": 2}, "format 2 is newer than 1: update takt"),
        ({"plc": {"kind": "modbsu"}}, "no 'modbsu' in pipeline.plcs; there is"),
        ({"plc": {"kind": "registers", "settings": None}}, "'registers' is no kind of PLC; there is modbus"),
        ({"engine": {"runtime": "tensorflow"}}, "tensorflow"),
        ({"bus": {"outcomes": "tcp://0.0.0.0:5570"}}, "is not loopback"),
        ({"bus": {"outcomes": "tcp://192.168.0.7:5570"}}, "is not loopback"),
        ({"bus": {"outcomes": "5570"}}, "expected tcp://127.0.0.1:PORT or ipc://PATH"),
        ({"archive": {"slots": 256}, "cameras": "huge"}, "lower cameras.slots, slot_mb or archive.slots"),
    ],
)
def test_a_wrong_setting_is_named(line_file: LineFile, changes: dict, said: str) -> None:
    if changes.get("cameras") == "huge":
        changes = changes | {"cameras": [camera("top") | {"slot_mb": 100_000.0}]}
    assert said in refusal(line_file(**changes))


def test_times_that_just_fit_are_taken(line_file: LineFile) -> None:
    """Early, exposure, least takt and quiet at their bounds."""
    at_bound = {"early_ms": 79, "takt_ms": 90, "quiet_ms": 5}
    assert list(check_line(load(line_file(timing=at_bound))))
    assert list(check_line(load(line_file(timing={"exposure_ms": 2}))))


@pytest.mark.parametrize("takt_ms", [50, 100, 150, 500])
def test_the_demos_windows_follow_its_takt(takt_ms: int) -> None:
    timing = load(DEMO_LINE).timing
    fitted = timing.at_takt(takt_ms * 3 // 4)
    check_timing(fitted, DEMO_LINE)
    assert fitted.takt_ms <= takt_ms * 3 // 4
    assert fitted == timing or takt_ms < 150


@pytest.mark.parametrize("takt_ms", [12, 18, 30])
def test_the_storms_windows_fit_its_takt(tmp_path: Path, takt_ms: int) -> None:
    config = storm.line(storm.Storm(takt_ms=takt_ms), tmp_path)
    check_timing(config.timing, config.source)
    assert config.timing.takt_ms == takt_ms * 3 // 4


def test_a_wrong_camera_setting_is_named(line_file: LineFile) -> None:
    assert "did you mean 'exposure_ms'?" in refusal(line_file(cameras=[camera("top", exposure=1.0)]))
    assert "no 'simulatd' in pipeline.cameras" in refusal(line_file(cameras=[camera("top") | {"kind": "simulatd"}]))


def test_a_missing_line_file_is_said_with_the_command_that_writes_one(tmp_path: Path) -> None:
    path = tmp_path / "line.toml"
    assert refusal(path) == f"{path}: cannot be read: No such file or directory; takt new {path} writes one"


def test_a_file_that_is_no_line_file(tmp_path: Path) -> None:
    path = tmp_path / "line.toml"
    path.write_text("format = ")
    assert "not a TOML file" in refusal(path)
    path.write_bytes(b"\xff\xfe\x00")
    assert "not a TOML file" in refusal(path)
    assert "Is a directory" in refusal(tmp_path)


def test_a_recipe_must_be_whole_and_unchanged(line_file: LineFile, recipe: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(recipe, copy)
    path = line_file(recipe=copy)
    with (copy / "network.onnx").open("ab") as network:
        network.write(b"x")
    assert "network.onnx was changed after teaching (SHA-256 differs)" in refusal(path)
    (copy / "network.onnx").unlink()
    assert "network.onnx is missing; copy the recipe again" in refusal(path)
    shutil.rmtree(copy)
    assert "is no recipe, it has no manifest.json; make one with takt teach" in refusal(path)


@pytest.mark.parametrize(
    "channels", [("dark_right_surface", "dark_left_surface"), ("dark_left_surface",), ("bright_pixel", "coaxial_pixel")]
)
def test_cameras_must_deliver_what_the_recipe_was_taught_on(line_file: LineFile, channels: tuple[str, ...]) -> None:
    said = refusal(line_file(cameras=[camera("top", channels)]))
    assert f"cameras deliver {', '.join(channels)}; recipe toy was taught on dark_left_surface, dark_right" in said


def test_a_port_in_use_is_named(line_file: LineFile, busy_port: int) -> None:
    said = refusal(line_file(plc={"settings": {"port": busy_port}}))
    assert said.startswith(f"conveyor.settings.port: 127.0.0.1:{busy_port} cannot be used (Address already in use)")
    said = refusal(line_file(bus={"outcomes": f"tcp://127.0.0.1:{busy_port}"}))
    assert said.startswith(f"bus.outcomes: 127.0.0.1:{busy_port} cannot be used (Address already in use)")


def test_a_state_folder_that_cannot_be_written(line_file: LineFile, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = refusal(line_file(state_dir=str(tmp_path / "file" / "state")))
    assert re.search(r"state_dir .*/file/state: Not a directory; choose another", said)


def test_a_line_that_runs_is_said_before_its_ports(line_file: LineFile, busy_port: int) -> None:
    config = load(path := line_file(plc={"settings": {"port": busy_port}}))
    config.state.mkdir()
    with config.lock.open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert refusal(path) == f"a line is running already in {config.state}: stop it first"
    assert "cannot be used" in refusal(path)


def test_a_replay_without_its_panels_is_said(line_file: LineFile, tmp_path: Path) -> None:
    replay = {"name": "top", "kind": "folder", "channels": CHANNELS, "settings": {"set": str(tmp_path / "nowhere")}}
    assert "nowhere" in refusal(line_file(cameras=[replay]))


# --- settings that would pass everything ---


def test_a_recipe_that_cannot_show_a_sick_engine_or_a_dead_lamp_is_refused_unless_allowed(line_file: LineFile) -> None:
    said = refusal(line_file(allow=[]))
    assert "has no golden defects and no integrity limits" in said and "takt relearn" in said
    allowed = [line for line in check_line(load(line_file())) if line.startswith("allowed")]
    assert len(allowed) == 1 and "no golden defects" in allowed[0]


def test_two_recipe_numbers_for_one_product_are_refused_unless_allowed(line_file: LineFile, recipe: Path) -> None:
    twice = {"1": str(recipe), "2": str(recipe)}
    assert "recipe numbers 1, 2 are all product 'toy'" in refusal(line_file(recipes=twice))
    path = line_file(recipes=twice, allow=["unproven_recipe", "same_product"])
    assert any("all product 'toy'" in line for line in check_line(load(path)))


def test_a_replay_without_end_is_refused(line_file: LineFile, tmp_path: Path) -> None:
    replay = camera("top") | {"kind": "folder", "settings": {"set": str(tmp_path), "loop": True}}
    assert "a replay without end" in refusal(line_file(cameras=[replay]))


def test_a_minimum_area_that_hides_a_golden_defect_is_refused(tmp_path: Path) -> None:
    demo = recipes.load(Path(__file__).parents[2] / "pipeline" / "demo" / "recipe")
    limits = demo.manifest.limits.model_copy(update={"min_area_px": 40_000})
    blunt = dataclasses.replace(demo, manifest=demo.manifest.model_copy(update={"limits": limits}))
    config = load(DEMO_LINE)
    with pytest.raises(TaktError, match="larger than its smallest golden defect"):
        list(refuse(config, {1: blunt}, []))
    assert list(refuse(config, {1: demo}, [])) == []


def test_a_defect_that_is_mirrored_over_a_tile_is_as_large_as_one_of_it(tmp_path: Path) -> None:
    one = Tiles(height=32, width=32, halo=0, grid=4, panel=(64, 64), piece=(16, 16))
    write_recipe(tmp_path / "tiled", geometry=one, score=(TopMean(cells=1, weight=1.0),))
    tiled = recipes.load(tmp_path / "tiled")
    map = np.pad(np.eye(4, dtype=np.float32), (0, 4), "symmetric")
    golden = Golden("defect_0", True, np.zeros((2, 16, 16), np.uint8), 1.0, map)
    assert _area_px(tiled, golden) == 4 * 16, "four cells of 16 px each"


def zoned(tmp_path: Path, edge: float) -> Path:
    """A recipe that inspects the panel but for a strip of width `edge` at its right."""
    strip = ((1 - edge, 0.0), (1.0, 0.0), (1.0, 1.0), (1 - edge, 1.0))
    write_recipe(tmp_path / "plain")
    limits = recipes.load(tmp_path / "plain").manifest.limits
    limits = limits.model_copy(update={"zones": Zones(ignore=(strip,))})
    write_recipe(tmp_path / "zoned", score=(TopMean(cells=1, weight=1.0),), limits=limits)
    return tmp_path / "zoned"


def test_zones_that_leave_much_uninspected_are_refused_unless_allowed(line_file: LineFile, tmp_path: Path) -> None:
    folder = zoned(tmp_path, 0.25)
    assert "inspects 75.0% of the panel, 95% are the least" in refusal(line_file(recipe=folder))
    path = line_file(recipe=folder, allow=["unproven_recipe", "small_zones"])
    said = [line for line in check_line(load(path)) if "inspects 75.0%" in line]
    assert said == ["allowed: recipe zoned inspects 75.0% of the panel"]


def test_zones_that_leave_little_uninspected_need_no_leave(line_file: LineFile, tmp_path: Path) -> None:
    assert not any("inspects" in line for line in check_line(load(line_file(recipe=zoned(tmp_path, 0.04)))))
