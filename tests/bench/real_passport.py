"""The passport of this machine: `python tests/bench/real_passport.py --out DIR [--runs N --panels N --threads N]`.

The production default method on 8 channels of 512 x 512 px, by hand on a machine that does nothing else: the engine is
built and certified, timed (`takt bench engine`), and the simulated line searched for its shortest takt
(`takt bench line --find-limit`). Left in DIR: `engine/` and `line/` with passport.json and passport.html, and what was
reached beside what is asked for. The network is untaught, which changes no time.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from untaught import made

from engines import methods
from pipeline.simulation.panel import CHANNELS

CONSOLE = Console()
EXPOSURE_MS, ASKED_PER_S = 2, 4.0
LINE = """\
format = 1
station = "passport"
state_dir = "state"
allow = ["unsigned_recipe", "unproven_recipe"]

[recipes]
1 = "recipe"

[engine]
threads = {threads}
max_batch = {max_batch}

[timing]
window_ms = {window_ms}
takt_ms = 75
early_ms = 54
exposure_ms = 20
poll_ms = 2

[[cameras]]
name = "top"
kind = "simulated"
channels = {channels}
slots = 8
slot_mb = {slot_mb}

[cameras.settings]
exposure_ms = {exposure_ms}

[cameras.settings.look]
height = {side}
width = {side}

[cameras.settings.plan]
defective_share = 0.1
pool_good = 4
pool_defective = 1

[plc]
settings = {{ port = {plc_port} }}

[conveyor.settings]
takt_ms = {takt_ms}
window_ms = {window_ms}

[bus]
outcomes = "tcp://127.0.0.1:{bus_port}"

[metrics]
enabled = false
"""


def main(
    out: Annotated[Path, typer.Option(help="new folder")],
    method: Annotated[str, typer.Option()] = methods.PRODUCTION,
    channels: Annotated[int, typer.Option(min=1, max=8)] = 8,
    side: Annotated[int, typer.Option(min=64)] = 512,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    max_batch: Annotated[int, typer.Option(min=1)] = 4,
    runs: Annotated[int, typer.Option(min=2)] = 2_000,
    panels: Annotated[int, typer.Option(min=20)] = 2_000,
    trial: Annotated[int, typer.Option(min=20)] = 300,
    takt_ms: Annotated[int, typer.Option("--takt", help="where the search begins")] = 400,
    window_ms: Annotated[int, typer.Option(min=100)] = 1_500,
) -> None:
    """Build, time, search, and say what was reached."""
    if out.exists():
        raise SystemExit(f"{out} exists: name a new folder")
    with tempfile.TemporaryDirectory(prefix="takt-passport-") as place:
        folder = Path(place)
        CONSOLE.print(f"exporting {method}, {channels} x {side} x {side}")
        made(folder / "recipe", channels, (side, side), method)
        write_line(folder, channels, side, threads, max_batch, takt_ms, window_ms)
        takt(folder, "build", "recipe", "--line", "line.toml")
        left = [["--out", out.resolve() / name] for name in ("engine", "line")]
        takt(folder, "bench", "engine", "recipe", "--line", "line.toml", "--runs", runs, *left[0])
        sizes = ["--panels", panels, "--trial", trial]
        takt(folder, "bench", "line", "line.toml", "--find-limit", *sizes, *left[1])
    found = reached(json.loads((out / "line" / "passport.json").read_text()))
    (out / "reached.json").write_text(json.dumps(found, indent=1) + "\n")
    CONSOLE.print_json(json.dumps(found))


def write_line(
    folder: Path, channels: int, side: int, threads: int, max_batch: int, takt_ms: int, window_ms: int
) -> None:
    sizes = {"threads": threads, "max_batch": max_batch, "side": side, "exposure_ms": f"{EXPOSURE_MS:.1f}"}
    times = {"takt_ms": takt_ms, "window_ms": window_ms, "slot_mb": round(channels * side * side / 1e6 + 0.1, 1)}
    ports = {"plc_port": free_port(), "bus_port": free_port()}
    text = LINE.format(channels=json.dumps(list(CHANNELS[:channels])), **sizes, **times, **ports)
    (folder / "line.toml").write_text(text)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def takt(folder: Path, *words: object) -> None:
    """Run the command in `folder`, so that what it names can be made again anywhere; what it says is shown."""
    CONSOLE.print(f"takt {' '.join(map(str, words))}", highlight=False, soft_wrap=True)
    subprocess.run([sys.executable, "-m", "pipeline.cli", *map(str, words)], check=True, cwd=folder)


def reached(line: dict[str, Any]) -> dict[str, Any]:
    """Beside what is asked for: four panels a second, p99 inside twice the median, own way inside 5 ms."""
    latency, pace = line["latency_ms"], (line["sustained_panels_per_min"] or 0.0) / 60
    tail = latency["p99"] / latency["median"] if latency["p99"] else None
    return {
        "panels_per_s": round(pace, 3),
        "panels_per_s_asked": ASKED_PER_S,
        "p99_in_medians": tail and round(tail, 3),
        "p99_in_medians_asked": 2.0,
        "overhead_p99_ms": line["overhead_ms"]["p99"],
        "overhead_p99_ms_asked": 5.0,
        "own_share": line["own_share"],
        "load_at_the_end": round(os.getloadavg()[0], 2),
    }


if __name__ == "__main__":
    typer.run(main)
