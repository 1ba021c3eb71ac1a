"""Figures of the line on this machine, by hand: `python tests/bench/line_figures.py [carrier] [memory] [--json FILE]`.

carrier: eight 1024x1024 channels at 5 sets/s; capture ready -> inspector received, through the ring. memory: the most
that each process of the demo's line has resident (VmRSS, its part of the rings included), and whether PyTorch is among
what the inspector has loaded. `soak.py` runs the same line for its hour.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from pipeline.config import LineConfig, SigningConfig, load
from pipeline.engine_room import build_all
from pipeline.summary import Before, summarise
from pipeline.supervisor import Supervisor

DEMO = Path(__file__).parents[2] / "pipeline" / "demo" / "line.toml"
CONSOLE = Console()


def main(
    what: Annotated[list[str] | None, typer.Argument(help="carrier, memory; none: both")] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Run the line and print what was measured."""
    known = {"carrier": carrier, "memory": memory}
    if unknown := set(what or ()) - set(known):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there is {', '.join(known)}")
    measured = {name: known[name]() for name in what or known}
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

    summary = run_line(panels=150, takt_ms=200, slot_mb=8.5, camera={"look": look, "plan": plan}, watch=watch)
    return {"median_ms": received[-1], "sets": summary["triggers"], "summary": summary}


def memory() -> dict[str, Any]:
    """Of every stage, the largest of what was seen each half second, MB."""
    most: dict[str, float] = {}
    torch: list[bool] = []

    def watch(supervisor: Supervisor) -> None:
        for name, row in supervisor.running.items():
            most[name] = max(most.get(name, 0.0), resident_mb(row.process.pid))
        torch.append("libtorch" in proc(supervisor.running["inspector"].process.pid, "maps"))

    summary = run_line(panels=60, takt_ms=500, slot_mb=0.5, camera={}, watch=watch)
    return {"resident_mb": most, "pytorch": any(torch), "summary": summary}


def resident_mb(pid: int) -> float:
    """VmRSS of a process; 0 where it has ended."""
    lines = [line.split() for line in proc(pid, "status").splitlines() if line.startswith("VmRSS")]
    return int(lines[0][1]) / 1024 if lines else 0.0


def proc(pid: int, name: str) -> str:
    """What the system says of a process; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def run_line(
    panels: int, takt_ms: int, slot_mb: float, camera: dict[str, Any], watch: Callable[[Supervisor], None]
) -> dict[str, Any]:
    """The demo's line with `panels` at `takt_ms`; `watch` looks at it every half second. Its summary."""
    with tempfile.TemporaryDirectory(prefix="takt-figures-") as place:
        config = _config(Path(place), panels, takt_ms, slot_mb, camera)
        build_all(config)
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
    changes |= {"signing": SigningConfig(), "allow": ("unsigned_recipe",)}  # it is the one that ships
    changes["timing"] = config.timing.at_takt(takt_ms * 3 // 4)
    return config.model_copy(update=changes)


if __name__ == "__main__":
    typer.run(main)
