"""How long does a network take? By hand: `python tests/bench/network_times.py [--channels N] [--side PX]`.

Every method's network is exported untaught (its weights do not change its time), and all of them run one panel after
the other in turns, so that what else the machine does falls on all alike. The first row is what the others are measured
against: ResNet-18, a thin student and the map of distances. Median, 99th percentile and ratio of the medians.
`--networks mkd --engines onnxruntime-fp32,onnxruntime-int8,openvino-int8` compares engines; int8 learns its ranges from
noise here, which changes no time.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from untaught import network

from engines import graphs, runtimes
from engines.detector import INPUT
from engines.runtimes import Network, Source

CONSOLE = Console()
WARM_UP = 20
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "mkd": ("mkd", {"teacher": "resnet18"}),
    "mcd": ("mcd", {"teacher": "resnet18"}),
    "mixed_teacher": ("mixed_teacher", {"second": "mobilenet_v2"}),
    "adps": ("adps", {"teacher": "resnet18"}),
    "fused": ("fused", {"teacher": "resnet18"}),
    "fused, teacher takt": ("fused", {"teacher": "takt"}),
}


def main(
    channels: Annotated[int, typer.Option(min=1)] = 3,
    side: Annotated[int, typer.Option(min=64)] = 256,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    rounds: Annotated[int, typer.Option(min=20)] = 300,
    networks: Annotated[str, typer.Option(help="some of them, with semicolons between")] = ";".join(NETWORKS),
    engines: Annotated[str, typer.Option(help="RUNTIME-PRECISION, with commas between")] = "onnxruntime-fp32",
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Time them and print the table."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as opened:
        running = {}
        for name in track(networks.split(";"), "exporting", console=CONSOLE):
            method, changes = NETWORKS[name]
            path = network(Path(place) / name.replace(" ", "_"), channels, (side, side), method, changes)
            for engine in engines.split(","):
                running[f"{name} on {engine}"] = opened.enter_context(opening(path, engine, threads))
        panel = np.random.default_rng(0).random((1, channels, side, side), dtype=np.float32)
        times = {name: np.array(each) for name, each in timed(running, panel, rounds).items()}
    show(times, channels, side, threads)
    if json_file:
        json_file.write_text(json.dumps({name: figures(each, times) for name, each in times.items()}, indent=1) + "\n")


def opening(path: Path, engine: str, threads: int) -> AbstractContextManager[Network]:
    """The network at `path` in the engine RUNTIME-PRECISION, its graph derived where that needs one."""
    runtime, precision = engine.split("-")
    module = runtimes.load(runtime, precision)
    network, form = path.read_bytes(), module.made_from(precision)
    if form != runtimes.AS_TAUGHT:
        network = graphs.derive(network, form, noise(network))
    return module.open_network(Source(f"{path} in {precision}", network), precision, threads, 1)


def noise(network: bytes) -> NDArray[np.float32]:
    """Four panels for the ONNX graph `network`."""
    entry = onnx.load_from_string(network).graph.input[0].type.tensor_type.shape.dim[1:]
    return np.random.default_rng(0).random((4, *(each.dim_value for each in entry)), dtype=np.float32)


def timed(running: dict[str, Any], panel: NDArray[np.float32], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each run, by network."""
    times: dict[str, list[float]] = {name: [] for name in running}
    for number in track(range(WARM_UP + rounds), "timing", console=CONSOLE):
        for name, ms in _round(running, panel):
            if number >= WARM_UP:
                times[name].append(ms)
    return times


def _round(running: dict[str, Any], panel: NDArray[np.float32]) -> Iterator[tuple[str, float]]:
    for name, opened in running.items():
        began = time.perf_counter()
        opened.run({INPUT: panel})
        yield name, 1000 * (time.perf_counter() - began)


def figures(ms: NDArray[np.float64], times: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    first = next(iter(times.values()))
    median = float(np.median(ms))
    return {"median_ms": median, "p99_ms": float(np.quantile(ms, 0.99)), "ratio": median / float(np.median(first))}


def show(times: dict[str, NDArray[np.float64]], channels: int, side: int, threads: int) -> None:
    title = f"one {side} x {side} panel of {channels} channels, {threads} threads"
    table = Table("network", "median ms", "p99 ms", "ratio", title=title)
    for name, ms in times.items():
        found = figures(ms, times)
        table.add_row(name, *(f"{found[key]:.2f}" for key in ("median_ms", "p99_ms", "ratio")))
    CONSOLE.print(table)


if __name__ == "__main__":
    typer.run(main)
