"""The simulated PLC and belt as a stage of a demonstration line."""

import threading
from pathlib import Path
from typing import Any

from engines.settings import checked
from pipeline import cameras
from pipeline.bus import Bus
from pipeline.capture import camera_settings
from pipeline.config import LineConfig
from pipeline.errors import ConfigError
from pipeline.plcs.simulated import Conveyor, Settings
from pipeline.stage import Life

TURN_S = 0.1


def main(config: LineConfig, part: str, life: Life, bus: Bus) -> None:
    """Convey until told to stop; after the last panel it says so and keeps answering."""
    finished, stop, failed = threading.Event(), threading.Event(), []
    conveyor = Conveyor(conveyor_settings(config), finished=finished.set, stop=stop)

    def run() -> None:
        try:
            conveyor.run()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="conveyor")
    thread.start()
    while not life.stopping and thread.is_alive():
        life.tell("finished" if finished.is_set() else "ready")
        thread.join(TURN_S)
    stop.set()
    thread.join()
    if failed:
        raise failed[0]


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
