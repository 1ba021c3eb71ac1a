"""The line file: what is wrong in it is said in one line that names the key and, where it can, the remedy."""

from pathlib import Path

import pytest

from pipeline.config import LineConfig, load
from pipeline.errors import ConfigError

PLAIN = """
format = 1
station = "cell_1"
[recipes]
3 = "recipes/display"
[[cameras]]
name = "top"
kind = "simulated"
channels = ["bright", "dark"]
"""
SECOND = '[[cameras]]\nname = "{name}"\nkind = "folder"\nchannels = ["a"]\n'


def line_file(folder: Path, text: str = PLAIN) -> Path:
    path = folder / "line.toml"
    path.write_text(text)
    return path


def refusal(path: Path) -> str:
    """What is said of a file; always one line that begins with the file."""
    with pytest.raises(ConfigError) as error:
        load(path)
    said = str(error.value)
    assert said.startswith(f"{path}: ") and "\n" not in said
    assert error.value.exit_status == 2
    return said.removeprefix(f"{path}: ")


def test_a_short_file_is_enough(tmp_path):
    config = load(line_file(tmp_path))
    assert (config.station, config.cameras[0].slots, config.timing.window_ms) == ("cell_1", 8, 1000)
    assert config.camera("top").channels == ("bright", "dark")
    assert config.recipe_paths() == {3: tmp_path / "recipes" / "display"}


def test_a_loaded_file_survives_its_way_to_the_stages(tmp_path):
    config = load(line_file(tmp_path))
    again = LineConfig.model_validate_json(config.model_dump_json())
    assert again == config and again.run_id == config.run_id and again.state == config.state


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (("station =", "staton ="), "unknown setting; did you mean 'station'?"),
        (("kind =", "kid ="), "cameras.0.kid: unknown setting; did you mean 'kind'?"),
        (("channels =", "chanels ="), "cameras.0.chanels: unknown setting; did you mean 'channels'?"),
        (("[recipes]", "[timing]\nwindow = 5\n[recipes]"), "timing.window: unknown setting; did you mean 'window_ms'?"),
        (
            ("[recipes]", "[engine]\nrun_time = 'x'\n[recipes]"),
            "engine.run_time: unknown setting; did you mean 'runtime'?",
        ),
        (("[recipes]", "[bus]\nzzz = 5\n[recipes]"), "bus.zzz: unknown setting; known here: outcomes"),
        (('"cell_1"', "1"), "station: input should be a valid string"),
        (('"cell_1"', '"Cell 1"'), "station: string should match pattern"),
        (("format = 1", "format = 0"), "format: input should be 1"),
        (("format = 1", ""), "format: field required"),
        (("format = 1", "format = 2"), "format 2 is newer than 1: update takt"),
        (("format = 1", "format = 2\nunheard = 'of'"), "format 2 is newer than 1: update takt"),
        (('kind = "simulated"', ""), "cameras.0.kind: field required"),
        (('["bright", "dark"]', "[]"), "cameras.0.channels: tuple should have at least 1 item"),
        (('["bright", "dark"]', '["bright", 7]'), "cameras.0.channels.1: input should be a valid string"),
        (
            ('kind = "simulated"', 'kind = "simulated"\nslots = 1'),
            "cameras.0.slots: input should be greater than or equal to 2",
        ),
        (('kind = "simulated"', 'kind = "simulated"\nslots = 2.0'), "cameras.0.slots: input should be a valid integer"),
        (
            ('kind = "simulated"', 'kind = "simulated"\nslots = true'),
            "cameras.0.slots: input should be a valid integer",
        ),
        (('kind = "simulated"', 'kind = "simulated"\nslots = "8"'), "cameras.0.slots: input should be a valid integer"),
        (
            ('kind = "simulated"', 'kind = "simulated"\ncarrier = "mail"'),
            "cameras.0.carrier: input should be 'ring' or 'frames'",
        ),
        (("[recipes]", "[engine]\nprecision = 'fp31'\n[recipes]"), "engine.precision: input should be 'fp32', 'bf16'"),
        (("[recipes]", "[timing]\npoll_ms = 0\n[recipes]"), "timing.poll_ms: input should be greater than 0"),
        (
            ("[recipes]", "[archive]\nsample_passes = 1.5\n[recipes]"),
            "archive.sample_passes: input should be less than",
        ),
        (('3 = "recipes/display"', ""), "recipes: dictionary should have at least 1 item"),
        (('3 = "recipes/display"', "3 = 7"), "recipes.3: "),
        (("3 =", "three ="), "recipes.three: a recipe number is 0 to 65535"),
        (("3 =", "65536 ="), "recipes.65536: a recipe number is 0 to 65535"),
        (("3 =", '03 = "recipes/other"\n3 ='), "recipes.3: two recipes have the number 3"),
        (("[recipes]", "[timing]\nmargin_ms = 1000\n[recipes]"), "timing.margin_ms must be below window_ms"),
        (
            ("[recipes]", '[engine]\nstandby = true\n[bus]\nimages = "tcp://127.0.0.1:5572"\n[recipes]'),
            "engine.standby: both inspectors would bind bus.images",
        ),
        (("[recipes]", "[recipes"), "not a TOML file: "),
        (("[[cameras]]", "state_dir = 5\n[[cameras]]"), "recipes.state_dir: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changed, says):
    assert changed[0] in PLAIN
    assert says in refusal(line_file(tmp_path, PLAIN.replace(changed[0], changed[1], 1)))


@pytest.mark.parametrize("word", ["camera", "recipe", "station_name", "conveyer", "supervisr", "state"])
def test_a_near_miss_of_a_table_is_named_too(tmp_path, word):
    assert "did you mean" in refusal(line_file(tmp_path, PLAIN.replace("[recipes]", f"[{word}]\nx = 1\n[recipes]")))


def test_two_cameras_of_one_name_are_refused(tmp_path):
    assert "two cameras have the same name: top, top" in refusal(line_file(tmp_path, PLAIN + SECOND.format(name="top")))
    assert len(load(line_file(tmp_path, PLAIN + SECOND.format(name="side"))).cameras) == 2


@pytest.mark.parametrize("name", ["evidence", "map"])
def test_a_camera_cannot_take_the_name_of_something_else_of_the_line(tmp_path, name):
    assert f"cameras: {name!r} is taken" in refusal(line_file(tmp_path, PLAIN + SECOND.format(name=name)))


def test_two_channels_of_one_name_are_refused(tmp_path):
    text = PLAIN.replace('"dark"', '"bright"')
    assert "camera top: two channels have the same name" in refusal(line_file(tmp_path, text))


@pytest.mark.parametrize("place", ["none.toml", "folder"])
def test_a_file_that_cannot_be_read_says_how_to_get_one(tmp_path, place):
    (tmp_path / "folder").mkdir()
    assert "cannot be read" in (said := refusal(tmp_path / place)) and "takt new" in said


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "line.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not a TOML file" in refusal(path)


def test_paths_are_taken_from_the_files_folder(tmp_path, monkeypatch):
    (tmp_path / "plant").mkdir()
    path = line_file(
        tmp_path / "plant", PLAIN.replace('station = "cell_1"', 'station = "cell_1"\nstate_dir = "../state"')
    )
    monkeypatch.chdir(tmp_path)
    config = load(Path("plant/line.toml"))
    assert config.state == tmp_path / "state" and config.ledger == tmp_path / "state" / "ledger"
    assert config.recipe_paths()[3] == tmp_path / "plant" / "recipes" / "display"
    assert config.under(Path("/abs")) == Path("/abs")
    assert config.run_id == load(path).run_id


def test_without_a_state_folder_it_is_the_users_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert load(line_file(tmp_path)).state == tmp_path / "data" / "takt" / "cell_1"


def test_two_lines_share_neither_sockets_nor_memory(tmp_path):
    configs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        text = PLAIN.replace('station = "cell_1"', 'station = "cell_1"\nstate_dir = "state"')
        configs.append(load(line_file(tmp_path / name, text)))
    one, two = configs
    assert one.run_dir != two.run_dir and one.ring("top") != two.ring("top")
    assert len(one.socket("images-" + "x" * 32)) < 107
