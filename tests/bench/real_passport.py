"""The passport of this machine: `python tests/bench/real_passport.py --out DIR [--panels N --threads N]`.

The production default method on 8 channels of 512 x 512 px, by hand on a machine that does nothing else: the engine is
built and certified, timed (`takt bench engine`), and the simulated line searched for its shortest takt, from what the
engine takes on (`takt bench line --find-limit`). Left in DIR: `engine/` and `line/` with passport.json and
passport.html, and what was reached beside what is asked for. Without `--recipe` the network is untaught, with a teacher
like ResNet-18, which changes no time; raw frames are checked by limits learnt from simulated panels.

Ctrl-C ends the part that is under way with what it has measured. What DIR has whole is not measured again.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from untaught import made

from engines import methods
from pipeline.bench.group import BROKEN, STOPPED
from pipeline.bench.storm import free_port
from pipeline.simulation.panel import CHANNELS

CONSOLE = Console()
EXPOSURE_MS, ASKED_PER_S, START, CHECKED = 2, 4.0, 1.25, 24
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
poll_ms = {poll_ms}

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
    runs: Annotated[int, typer.Option(min=2, help="of the engine, each batch")] = 100,
    panels: Annotated[int, typer.Option(min=20)] = 2_000,
    trial: Annotated[int, typer.Option(min=20)] = 40,
    window_ms: Annotated[int, typer.Option(min=100)] = 2_000,
    recipe: Annotated[Path | None, typer.Option(help="taught for such panels; else an untaught one is made")] = None,
    poll_ms: Annotated[int, typer.Option(min=1, help="looks at the PLC take of the network's time")] = 10,
) -> None:
    """Build, time, search, and say what was reached."""
    with tempfile.TemporaryDirectory(prefix="takt-passport-") as place:
        folder = Path(place)
        if recipe:
            shutil.copytree(recipe, folder / "recipe")
        else:
            CONSOLE.print(f"exporting {method}, {channels} x {side} x {side}")
            made(folder / "recipe", channels, (side, side), method, checked=CHECKED)
        write_line(folder, channels, side, threads, max_batch, window_ms, poll_ms)
        takt(folder, "build", "recipe", "--line", "line.toml")
        if part(out / "engine", folder, "engine", "recipe", "--line", "line.toml", "--runs", runs):
            sizes = ["--panels", panels, "--trial", trial, "--takt", start_ms(out / "engine" / "passport.json")]
            part(out / "line", folder, "line", "line.toml", "--find-limit", *sizes)
    if (path := out / "line" / "passport.json").exists():
        found = reached(json.loads(path.read_text()))
        (out / "reached.json").write_text(json.dumps(found, indent=1) + "\n")
        CONSOLE.print_json(json.dumps(found))


def part(out: Path, folder: Path, *words: object) -> bool:
    """Measure a part unless it is there; whether it is whole."""
    if not whole(out / "passport.json"):
        takt(folder, "bench", *words, "--out", out.resolve())
    return whole(out / "passport.json")


def whole(path: Path) -> bool:
    return path.exists() and not json.loads(path.read_text())["interrupted"]


def start_ms(engine: Path) -> int:
    """Where the search begins: a little above what a panel takes in the batch that suits the engine best."""
    return round(START * 1000 / max(row["panels_per_s"] for row in json.loads(engine.read_text())["rows"]))


def write_line(
    folder: Path, channels: int, side: int, threads: int, max_batch: int, window_ms: int, poll_ms: int
) -> None:
    sizes = {"threads": threads, "max_batch": max_batch, "side": side, "exposure_ms": f"{EXPOSURE_MS:.1f}"}
    slot = {"slot_mb": round(channels * side * side / 1e6 + 0.1, 1)}
    times = {"takt_ms": 1000, "window_ms": window_ms, "poll_ms": poll_ms}
    ports = {"plc_port": free_port(), "bus_port": free_port()}
    text = LINE.format(channels=json.dumps(list(CHANNELS[:channels])), **sizes, **slot, **times, **ports)
    (folder / "line.toml").write_text(text)


def takt(folder: Path, *words: object) -> None:
    """Run the command in `folder`, so that what it names can be made again anywhere; what it says is shown."""
    CONSOLE.print(f"takt {' '.join(map(str, words))}", highlight=False, soft_wrap=True)
    with subprocess.Popen([sys.executable, "-m", "pipeline.cli", *map(str, words)], cwd=folder) as process:
        while (status := waited(process)) is None:
            CONSOLE.print("ending it in order")
    if status not in (0, STOPPED, BROKEN):
        raise SystemExit(status)


def waited(process: subprocess.Popen) -> int | None:
    """Its exit status; None for a Ctrl-C, which it gets as well."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        return None


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
