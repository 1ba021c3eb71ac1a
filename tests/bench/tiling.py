"""What do tiles cost? By hand: `python tests/bench/tiling.py [--channels N] [--side PX] [--method M] [--threads N]`.

One panel goes in turns through the network as a whole, through the same network in tiles, and through a detector around
those tiles (gather, stitching, score, mask) without and with the golden row that travels in every batch, `--panels` of
them at once. That row is a whole tile, shared by all tiles of the panels that are ready. The weights are untaught,
which changes no time. Figures are pixels of the panel a second, the halo not counted; peak memory is that of a process
of its own that ran this once. ONNX Runtime, fp32.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from calibration.export import export
from calibration.stack import Stack
from engines import methods, recipe, runtimes, tiles
from engines.detector import INPUT, open_detector
from engines.gather import Gather
from engines.methods import MethodSettings
from engines.patches import halo
from engines.recipe import Channel, Golden, Limits, Promise, Recipe, ScoreStatistics, Tiles, Training
from engines.runtimes import Network, Source
from engines.zones import TopMean, TopShare

CONSOLE = Console()
UNTILED, NETWORK, BARE, WHOLE = "untiled network", "tiles, network alone", "detector, no golden row", "detector"
VARIANTS = (UNTILED, NETWORK, BARE, WHOLE)
RULE = (TopMean(cells=1, weight=0.5), TopShare(share=0.01, weight=0.5))
PIECE = 128


def main(
    channels: Annotated[int, typer.Option(min=1)] = 8,
    side: Annotated[int, typer.Option(min=256)] = 2048,
    method: Annotated[str, typer.Option()] = methods.PRODUCTION,
    teacher: Annotated[str, typer.Option()] = "resnet18",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    panels: Annotated[int, typer.Option(min=1, help="at once, for the detector")] = 1,
    rounds: Annotated[int, typer.Option(min=1)] = 10,
    busy: Annotated[bool, typer.Option("--busy", help="count processor time: others use this machine")] = False,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    folder: Annotated[Path | None, typer.Option(help="of a run that is measured; set by itself")] = None,
    only: Annotated[str | None, typer.Option(help="run this once and print the peak memory; set by itself")] = None,
) -> None:
    """Time them in turns and print the table."""
    panel = pictured(channels, side)
    if only and folder:
        with running(folder, only, panel, threads, panels) as run:
            run()
        status = Path("/proc/self/status").read_text()  # getrusage would count the parent's memory before the fork
        print(int(status.split("VmHWM:")[1].split()[0]) // 1024)  # noqa: T201
        return
    with tempfile.TemporaryDirectory() as place, ExitStack() as opened:
        geometry = prepared(Path(place), method, teacher, panel)
        runs = {name: opened.enter_context(running(Path(place), name, panel, threads, panels)) for name in VARIANTS}
        seconds = timed(runs, rounds, panels, time.process_time if busy else time.perf_counter)
        memory = {name: peak_mb(name, Path(place), channels, side, threads, panels) for name in VARIANTS}
    title = f"{method} with {teacher}, {channels} x {side} x {side}, {threads} threads, detector {panels} at once"
    title += ", processor time" * busy
    tile = f"tiles of {geometry.height} x {geometry.width}, halo {geometry.halo}"
    cost = f"{tile}, {tiles.extra(geometry, (side, side)):.0%} extra pixels"
    rows = figures(seconds, memory, side * side)
    show(f"{title}, {cost}", rows)
    if json_file:
        json_file.write_text(json.dumps({"title": title, "cost": cost, "rows": rows}, indent=1) + "\n")


def pictured(channels: int, side: int) -> NDArray[np.uint8]:
    """A panel: stripes of a pixel grid, and noise."""
    stripes = 110 + 30 * np.sin(np.arange(side) * 2 * np.pi / 8)
    noise = np.random.default_rng(0).normal(0, 3, (channels, side, side))
    return np.clip(stripes + noise, 0, 255).astype(np.uint8)


def prepared(folder: Path, method: str, teacher: str, panel: NDArray[np.uint8]) -> Tiles:
    """The untiled network, and a recipe of the same in tiles, with a golden piece."""
    kind, side = methods.load(method), panel.shape[1]
    small = methods.settings_of(kind, {"teacher": teacher} if "teacher" in kind.Settings.model_fields else {})
    field = kind.build(len(panel), small).receptive_field
    geometry = tiles.chosen((side, side), halo(field, small.grid), small.grid)
    geometry = geometry.model_copy(update={"piece": (PIECE, PIECE)})
    CONSOLE.print(f"exporting {method} at {side} x {side} and at {geometry.height} x {geometry.width}")
    exported(kind, small.sized(side, side), panel, folder / "untiled")
    made = folder / "tiled"
    exported(kind, small.sized(geometry.height, geometry.width), panel, made)
    facts = told(geometry, len(panel), method, small)
    piece = np.random.default_rng(1).integers(0, 255, (len(panel), PIECE, PIECE), np.uint8)
    with open_detector(recipe.write(made, facts | {"limits": limits(1e6)}), threads=1, max_batch=2) as detector:
        [(found, map)] = detector.inspect_golden([piece])
    recipe.write_golden(made, (Golden("defect_0", True, piece, found.score, map),), half=True)
    recipe.write(made, facts | {"limits": limits(found.score / 2)})
    return geometry


def exported(kind: Any, settings: MethodSettings, panel: NDArray[np.uint8], folder: Path) -> None:
    folder.mkdir()
    torch.manual_seed(0)
    model = kind.build(len(panel), settings).eval()
    part = np.zeros((2, len(panel), settings.height, settings.width), np.uint8)
    export(model, Stack(part, ("a", "b"), 16), folder)


def told(geometry: Tiles, channels: int, method: str, settings: MethodSettings) -> dict[str, Any]:
    return {
        "product": "bench",
        "channels": tuple(Channel(name=f"c{number}", light=f"c{number}") for number in range(channels)),
        "geometry": geometry,
        "dtype": "uint8",
        "method": method,
        "settings": settings.sized(geometry.height, geometry.width).model_dump(mode="json"),
        "training": Training(panels=0, held_out=0, seed=0, teacher="none"),
        "score": RULE,
    }


def limits(image: float) -> Limits:
    nothing = ScoreStatistics(panels=0, mean=0.0, std=0.0, minimum=0.0, median=0.0, maximum=0.0)
    promise = Promise(rate=1.0, confidence=0.0)
    return Limits(image=image, pixel=1e6, low=-1e6, min_area_px=16, promise=promise, statistics=nothing)


@contextmanager
def running(
    folder: Path, name: str, panel: NDArray[np.uint8], threads: int, panels: int
) -> Iterator[Callable[[], Any]]:
    """What does one panel's work; of the detector, that of `panels`."""
    if name == UNTILED:
        with network(folder / "untiled" / recipe.NETWORK, threads) as whole:
            scaled = np.multiply(panel[None], np.float32(1 / 255))
            yield lambda: whole.run({INPUT: scaled})
        return
    made = recipe.load(folder / "tiled")
    if name == NETWORK:
        with network(made.network, threads) as tile:
            gather = Gather(len(panel), made.manifest.geometry, "uint8")
            rows = [row[None] for row in gather.rows(panel)]
            yield lambda: [tile.run({INPUT: row}) for row in rows]
        return
    with detecting(made, name, threads, panels) as inspect:
        yield lambda: inspect([panel] * panels)


@contextmanager
def network(path: Path, threads: int) -> Iterator[Network]:
    module = runtimes.load("onnxruntime", "fp32")
    with module.open_network(Source(str(path), path.read_bytes()), "fp32", threads, 1) as opened:
        yield opened


@contextmanager
def detecting(made: Recipe, name: str, threads: int, panels: int) -> Iterator[Callable[..., Any]]:
    count = panels * tiles.count(made.manifest.geometry, made.manifest.geometry.panel)  # type: ignore[union-attr,arg-type]
    with open_detector(made, threads=threads, max_batch=count, proving=name == WHOLE) as detector:
        yield detector.inspect


def timed(
    runs: dict[str, Callable[[], Any]], rounds: int, panels: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds a panel of each run, by variant; the first round warms up, and each is told, since a run takes long."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            began = clock()
            run()
            passed = (clock() - began) / (panels if name in (BARE, WHOLE) else 1)
            CONSOLE.print(f"round {number}: {name} {passed:.2f} s")
            if number:
                taken[name].append(passed)
    return taken


def peak_mb(name: str, folder: Path, channels: int, side: int, threads: int, panels: int) -> int:
    words = ["--only", name, "--folder", folder, "--channels", channels, "--side", side, "--threads", threads]
    words += ["--panels", panels]
    command = [sys.executable, __file__, *map(str, words)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def figures(seconds: dict[str, list[float]], memory: dict[str, int], pixels: int) -> list[dict[str, Any]]:
    untiled = float(np.median(seconds[UNTILED]))
    rows = []
    for name, each in seconds.items():
        median = float(np.median(each))
        row = {"name": name, "median_ms": 1e3 * median, "useful_mpx_per_s": pixels / median / 1e6}
        rows.append(row | {"of_untiled": untiled / median, "peak_mb": memory[name]})
    return rows


def show(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table("what", "median ms", "useful Mpx/s", "of untiled", "peak MB", title=title)
    for row in rows:
        numbers = (f"{row['median_ms']:.0f}", f"{row['useful_mpx_per_s']:.3f}", f"{row['of_untiled']:.2f}")
        table.add_row(row["name"], *numbers, str(row["peak_mb"]))
    CONSOLE.print(table)


if __name__ == "__main__":
    typer.run(main)
