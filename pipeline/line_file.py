"""Writes a line file for a new station: every setting with its default, the plug-ins' own ones from their models."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engines import plugins
from pipeline import plcs
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
)
from pipeline.errors import ConfigError
from pipeline.plcs.simulated import Settings as ConveyorSettings

EXAMPLE = ("bright", "dark")  # for a camera that cannot know its lights
FROM_THE_LINE = ("wire", "wires", "record")  # filled in by the line itself
HEADER = """\
# A line file of takt. Settings behind a # show their default. Check it with `takt check`, start it with `takt run`.
format = 1
station = "front"                 # names this place on the line in every message and record
# state_dir = "state"             # ledger, store, spool, evidence, logs; default: the user's data folder
# weaknesses taken on purpose: "same_product", "small_zones", "unproven_recipe", "unsigned_recipe"
# allow = []

[recipes]                         # the PLC's recipe number -> recipe folder, from this file's folder
1 = "recipe"
"""
NOTES = {
    "metrics": "\n# Prometheus series, on this host's loopback only: one port a process from first_port on.",
    "logs": "\n# One file a process, one JSON object a line.",
    "store": "\n# PostgreSQL by URL (extra postgres); not set: a file in the state folder.",
    "review": "\n# The review station, a process of the line; needs the extra review.",
}

SIGNING = """
# Whose recipes run here: public keys as `takt sign` prints them, files or folders of *.pub.pem. Private ones stay away.
# For instance ["keys/engineer.pub.pem"]; unsigned recipes need "unsigned_recipe" above."""
CAMERA = """
[[cameras]]                       # repeat for every camera of this station
name = "top"
kind = {kind}
# in the order of exposure; the recipe must have been taught on the same
channels = {channels}
slots = 8                         # image sets that may wait or be under inspection
slot_mb = 4.0                     # room for one image set: channels x height x width x bytes, in 1e6 bytes
# carrier = "ring"                # "frames": pixels travel over ZeroMQ to an inspector on another host
"""


def write_line(path: Path, camera: str, plc: str) -> None:
    """Write `path`.

    Raises:
        ConfigError: it is there already.
        UsageError: there is no such kind of camera or PLC.
    """
    simulated = plc == "simulated"
    driver = plcs.driver("modbus" if simulated else plc)
    text = "".join(_parts(plugins.load("pipeline.cameras", camera), camera, driver, simulated))
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} is there already: name another file or delete it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


def _parts(camera: ModuleType, kind: str, driver: ModuleType, simulated: bool) -> Iterator[str]:
    yield HEADER
    yield SIGNING + _table("signing", SigningConfig)
    yield CAMERA.format(kind=json.dumps(kind), channels=_toml(getattr(camera, "CHANNELS", EXAMPLE)))
    yield _table("cameras.settings", camera.Settings, hidden=FROM_THE_LINE if simulated else ())
    yield f"\n[plc]\nkind = {json.dumps(driver.__name__.rpartition('.')[2])}\n"
    yield _table("plc.settings", driver.Settings, {"port": 5020} if simulated else {})
    if simulated:
        yield "\n# A conveyor of ours with its PLC; delete this table where a real PLC is connected."
        yield _table("conveyor.settings", ConveyorSettings, hidden=FROM_THE_LINE)
    sections = {"engine": EngineConfig, "timing": TimingConfig, "archive": ArchiveConfig, "store": StoreConfig}
    sections |= {"review": ReviewConfig, "bus": BusConfig}
    sections |= {"metrics": MetricsConfig, "logs": LogConfig, "supervisor": SupervisorConfig}
    for name, model in sections.items():
        yield NOTES.get(name, "")
        yield _table(name, model, {"enabled": False} if name == "review" else {})


def _table(
    name: str, model: type[BaseModel], chosen: dict[str, Any] | None = None, hidden: tuple[str, ...] = ()
) -> str:
    shown = {key: field for key, field in model.model_fields.items() if key not in hidden}
    return "\n".join([f"\n[{name}]", *(_setting(key, field, chosen or {}) for key, field in shown.items())]) + "\n"


def _setting(key: str, field: FieldInfo, chosen: dict[str, Any]) -> str:
    if key in chosen:
        return f"{key} = {_toml(chosen[key])}"
    if field.is_required():
        return f"# {key} = ?                    # must be set"
    default = field.get_default(call_default_factory=True)
    return f"# {key} = ?                    # not set" if default is None else f"# {key} = {_toml(default)}"


def _toml(value: Any) -> str:
    if isinstance(value, BaseModel):
        inside = ", ".join(f"{key} = {_toml(part)}" for key, part in value if part is not None)
        return f"{{ {inside} }}"
    if isinstance(value, (tuple, list, frozenset)):
        return f"[{', '.join(_toml(part) for part in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(part)}' for key, part in value.items())} }}"
    return json.dumps(str(value) if isinstance(value, Path) else value)
