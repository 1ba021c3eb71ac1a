"""`takt new`: a file of comments that loads, checks, and tells every setting with its default."""

from pathlib import Path

import pytest
import signers
from line.toy_line import write_recipe
from pydantic import BaseModel

from engines import plugins
from engines.errors import UsageError
from pipeline import plcs
from pipeline.bench.storm import free_port
from pipeline.cameras.simulated import Settings as CameraSettings
from pipeline.check import check_line
from pipeline.config import (
    ArchiveConfig,
    BusConfig,
    EngineConfig,
    LogConfig,
    MetricsConfig,
    ReviewConfig,
    SigningConfig,
    StoreConfig,
    SupervisorConfig,
    TimingConfig,
    load,
)
from pipeline.errors import ConfigError
from pipeline.line_file import FROM_THE_LINE, write_line
from pipeline.plcs.modbus import Settings as ModbusSettings
from pipeline.plcs.simulated import Settings as ConveyorSettings
from pipeline.simulation.panel import CHANNELS

SECTIONS: dict[str, type[BaseModel]] = {
    "signing": SigningConfig,
    "engine": EngineConfig,
    "timing": TimingConfig,
    "archive": ArchiveConfig,
    "store": StoreConfig,
    "review": ReviewConfig,
    "bus": BusConfig,
    "metrics": MetricsConfig,
    "logs": LogConfig,
    "supervisor": SupervisorConfig,
    "cameras.settings": CameraSettings,
    "conveyor.settings": ConveyorSettings,
    "plc.settings": ModbusSettings,
}


def written(tmp_path: Path, camera: str = "simulated", plc: str = "simulated") -> Path:
    path = tmp_path / "line.toml"
    write_line(path, camera, plc)
    return path


def uncommented(text: str) -> str:
    """The file with every default switched on."""
    return "\n".join(line[2:] if _is_default(line) else line for line in text.splitlines())


def _is_default(line: str) -> bool:
    return line.startswith("# ") and " = " in line and " = ? " not in line


def test_it_passes_takt_check_once_a_recipe_is_there(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the extra [teach]")
    path = written(tmp_path)
    port = f"port = {free_port()}"
    text = path.read_text().replace("port = 5020", port).replace('# outcomes = "tcp://127.0.0.1:5570"', "", 1)
    text = text.replace("[bus]", f'[bus]\noutcomes = "tcp://127.0.0.1:{free_port()}"')
    text = text.replace('# state_dir = "state"  ', 'state_dir = "state"  ')
    text = text.replace("# trusted = []", f'trusted = ["{signers.folder()}"]')
    path.write_text(text.replace("# allow = []", 'allow = ["unproven_recipe"]'))
    write_recipe(tmp_path / "recipe", CHANNELS)
    assert list(check_line(load(path)))[-1] == f"state: {tmp_path / 'state'}"


def test_the_channels_of_a_new_file_are_those_of_its_camera(tmp_path: Path) -> None:
    """Else the first `takt check` of a new user fails on the file that takt wrote."""
    assert load(written(tmp_path)).cameras[0].channels == CHANNELS


@pytest.mark.parametrize("camera", plugins.kinds("pipeline.cameras"))
@pytest.mark.parametrize("plc", ["simulated", *plcs.drivers()])
def test_every_pair_of_plug_ins_gives_a_file_that_loads(tmp_path: Path, camera: str, plc: str) -> None:
    config = load(written(tmp_path, camera, plc))
    assert config.cameras[0].kind == camera
    assert (config.conveyor is not None, config.plc.kind) == (
        plc == "simulated",
        "modbus" if plc == "simulated" else plc,
    )


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_shown_and_no_other(tmp_path: Path, section: str) -> None:
    text = written(tmp_path).read_text()
    table = text.partition(f"\n[{section}]\n")[2].partition("\n[")[0]
    shown = {line.removeprefix("# ").partition(" = ")[0] for line in table.splitlines() if " = " in line}
    assert shown == set(SECTIONS[section].model_fields) - set(FROM_THE_LINE)


def test_the_defaults_it_shows_are_the_defaults(tmp_path: Path) -> None:
    """Switching every comment on changes nothing."""
    path = written(tmp_path)
    plain = load(path)
    path.write_text(uncommented(path.read_text()))
    full = load(path)
    hidden = {"state_dir", "cameras", "plc", "conveyor"}
    assert full.model_dump(exclude=hidden) == plain.model_dump(exclude=hidden)
    assert CameraSettings(wire=tmp_path) == CameraSettings.model_validate(full.cameras[0].settings | {"wire": tmp_path})
    assert full.conveyor is not None
    assert ConveyorSettings(record=tmp_path) == ConveyorSettings(record=tmp_path, **full.conveyor.settings)


def test_it_never_writes_over_a_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is there already: name another file or delete it"):
        write_line(path, "simulated", "simulated")
    assert path.read_bytes() == before


def test_an_unknown_kind_leaves_no_file(tmp_path: Path) -> None:
    for camera, plc in (("simulatd", "simulated"), ("simulated", "modbsu"), ("simulated", "registers")):
        with pytest.raises(UsageError, match="there is"):
            write_line(tmp_path / "line.toml", camera, plc)
    assert not (tmp_path / "line.toml").exists()
