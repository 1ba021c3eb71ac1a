"""The settings of a line's devices: what the line file says, completed by what the line itself knows."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from engines.settings import checked
from pipeline import cameras
from pipeline.config import CameraConfig, LineConfig
from pipeline.errors import ConfigError
from pipeline.plcs.simulated import Settings


def camera_settings(config: LineConfig, camera: CameraConfig) -> BaseModel:
    """The plug-in's settings; a simulated line brings its trigger wire."""
    wire = config.wire(camera.name) if config.conveyor else None
    return cameras.settings_of(camera.kind, camera.settings, config.under, wire)


def conveyor_settings(config: LineConfig) -> Settings:
    """The line file's table, completed by the PLC's address, the wires and the record's place."""
    table: dict[str, Any] = dict(config.conveyor.settings) if config.conveyor else {}
    address = {key: value for key, value in config.plc.settings.items() if key in ("host", "port")}
    wires = tuple(config.wire(camera.name) for camera in config.cameras)
    fixed = {"wires": wires, "record": record_path(config)}
    return checked(Settings, address | fixed | _replay(config) | table, "conveyor.settings", ConfigError)


def _replay(config: LineConfig) -> dict[str, Any]:
    """A replay has as many panels as its folder, and their names as bar codes."""
    names = cameras.replayed(config.cameras[0].kind, camera_settings(config, config.cameras[0]))
    if names is None:
        return {}
    return {"panels": len(names), "panel_ids": tuple(name.encode("ascii", "replace").decode()[-16:] for name in names)}


def record_path(config: LineConfig) -> Path:
    """Where the simulated PLC keeps its own record."""
    return config.state / "plc_record.jsonl"
