"""Figures of the line on this machine, by hand: `python tests/bench/line_figures.py [carrier] [memory] [--json FILE]`.

carrier: eight 1024x1024 channels at 5 sets/s; capture ready -> inspector received, through the ring.
memory:  2,000 panels; resident memory of every process over time, as a slope.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from pipeline.config import LineConfig, load
from pipeline.summary import Before, summarise
from pipeline.supervisor import Supervisor

DEMO = Path(__file__).parents[2] / "pipeline" / "demo" / "line.toml"
CONSOLE = Console()
PAGE = os.sysconf("SC_PAGE_SIZE")


def main(
    figures: Annotated[list[str] | None, typer.Argument(help="carrier, memory; both when none is named")] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    panels: Annotated[int, typer.Option(help="panels of the memory run")] = 2000,
) -> None:
    """Run the lines one after the other and print what was measured."""
    wanted = figures or ["carrier", "memory"]
    measured: dict[str, Any] = {}
    if "carrier" in wanted:
        measured["carrier"] = carrier()
    if "memory" in wanted:
        measured["memory"] = memory(panels)
    CONSOLE.print_json(json.dumps(measured))
    if json_file:
        json_file.write_text(json.dumps(measured, indent=1) + "\n")


def carrier() -> dict[str, Any]:
    """Median of the last 256 sets, milliseconds."""
    look = {"height": 1024, "width": 1024}
    plan = {"pool_good": 2, "pool_defective": 1, "kinds": ["dust"]}
    received: list[float] = []

    def watch(supervisor: Supervisor) -> None:
        received.append(supervisor.counter("inspector", "carried_ms"))

    summary = _run(panels=150, takt_ms=200, slot_mb=8.5, camera={"look": look, "plan": plan}, watch=watch)
    return {"median_ms": received[-1], "sets": summary["triggers"], "summary": summary}


def memory(panels: int) -> dict[str, Any]:
    """Least-squares slope of resident memory in MB per hour and per 1,000 panels, for every process."""
    seen: dict[str, list[tuple[float, float]]] = {}

    def watch(supervisor: Supervisor) -> None:
        for name, row in supervisor.running.items():
            seen.setdefault(name, []).append((time.monotonic(), resident_mb(row.process.pid)))

    summary = _run(panels=panels, takt_ms=100, slot_mb=0.5, camera={"plan": {"defective_share": 0.2}}, watch=watch)
    return {"processes": {name: _slope(points, panels) for name, points in seen.items()}, "summary": summary}


def resident_mb(pid: int) -> float:
    """Resident memory without what is shared with the other processes (the rings)."""
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except OSError:
        return float("nan")
    return (int(resident) - int(shared)) * PAGE / 1e6


def _slope(points: list[tuple[float, float]], panels: int) -> dict[str, float]:
    """Of the second half of the run: caches and pools fill in the first."""
    half = np.array([point for point in points if np.isfinite(point[1])])[len(points) // 2 :]
    per_s = float(np.polyfit(half[:, 0] - half[0, 0], half[:, 1], 1)[0])
    took_s = points[-1][0] - points[0][0]
    return {
        "end_mb": round(float(half[-1, 1]), 1),
        "mb_per_hour": round(per_s * 3600, 2),
        "mb_per_1000_panels": round(per_s * took_s / panels * 1000, 3),
    }


def _run(
    panels: int, takt_ms: int, slot_mb: float, camera: dict[str, Any], watch: Callable[[Supervisor], None]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="takt-figures-") as place:
        config = _config(Path(place), panels, takt_ms, slot_mb, camera)
        with Supervisor(config) as supervisor:
            for _ in track(range(panels * takt_ms // 500 + 60), "measuring", console=CONSOLE, transient=True):
                end = time.monotonic() + 0.5
                while time.monotonic() < end and not supervisor.finished():
                    supervisor.watch()
                watch(supervisor)
                if supervisor.finished():
                    break
        summary = summarise(config, Before())
    return {key: summary[key] for key in ("triggers", "passed", "rejected", "faults", "reconciled", "latency_ms")}


def _config(place: Path, panels: int, takt_ms: int, slot_mb: float, camera: dict[str, Any]) -> LineConfig:
    config = load(DEMO)
    top = config.cameras[0].model_copy(update={"slot_mb": slot_mb, "settings": camera})
    port = {"port": 5021}
    plc = config.plc.model_copy(update={"settings": port})
    if config.conveyor is None:
        raise SystemExit(f"{DEMO} has no conveyor")
    belt = {"panels": panels, "takt_ms": takt_ms, "recipe_no": 1}
    conveyor = config.conveyor.model_copy(update={"settings": belt})
    bus = config.bus.model_copy(update={"outcomes": "tcp://127.0.0.1:5571"})
    changes = {"cameras": (top,), "plc": plc, "conveyor": conveyor, "bus": bus, "state_dir": place}
    return config.model_copy(update=changes)


if __name__ == "__main__":
    typer.run(main)
