"""Our engines beside anomalib's. By hand: `python tests/bench/peers.py --peer PYTHON [--threads N] [--json FILE]`.

PYTHON is that of an environment with anomalib 2.7 and nncf (torch and torchvision of one release, for the CPU); it runs
`anomalib_peer.py`, so that nothing of anomalib is needed here. Both sides answer in turns, each time the next one after
the other, one picture at a time, the same pictures, with as many threads; what else the machine does falls on all
alike. Whoever is not asked sleeps.

What is fair and what is not: theirs is STFPM with two full ResNet-18 (7.3 GFLOP), ours a ResNet-18 with a thin student
(4.3 GFLOP); both are untaught, which changes no time. `pytorch` is ours in plain PyTorch; `plain PyTorch` is theirs,
with no inferencer around it. Their `predict` is timed from the picture in memory, 8 bits deep, and includes the change
to floats, resizing, normalising, the map at full size and its thresholds. Ours is timed twice: `network` alone, where
normalising, comparison, map and score are inside the network, and `inspect`, from the raw frame to the finding. In a
line, `inspect` also carries one golden defect in every batch, as a check on the engine that they have not: that is one
more row, and not in these times. Their default export runs in the precision that OpenVINO chooses (bf16 where the
processor has it), ours in what the name says. The processor's time of a call, of all threads, is less moved by what
else the machine does.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import typer
from network_times import NETWORKS, exported, opening
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from engines import recipe as recipes
from engines import runtimes
from engines.build import derive
from engines.detector import INPUT, open_detector
from engines.recipe import Channel, Limits, Promise, Recipe, Resize, ScoreStatistics, Training
from engines.runtimes import WEIGHTS

CONSOLE = Console()
SCRIPT = Path(__file__).with_name("anomalib_peer.py")
ENGINES = "onnxruntime-fp32,onnxruntime-int8,openvino-fp32,openvino-bf16,openvino-int8,pytorch-fp32"
PICTURES, WARM_UP, METHOD = 16, 20, "mkd"
COLOURS = ("red", "green", "blue")
PEER = "anomalib "
Run = Callable[[int], tuple[float, float]]  # one picture by its number; milliseconds, and those of the processor


def main(
    peer: Annotated[Path | None, typer.Option(help="its python; none: ours alone")] = None,
    engines: Annotated[str, typer.Option(help="RUNTIME-PRECISION, with commas between")] = ENGINES,
    side: Annotated[int, typer.Option(min=64)] = 256,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    rounds: Annotated[int, typer.Option(min=20)] = 300,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Time both sides and print the table."""
    pictures = np.random.default_rng(0).integers(0, 255, (PICTURES, side, side, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as place, ExitStack() as opened:
        theirs, about = opened.enter_context(peer_runs(peer, pictures, threads, Path(place))) if peer else ({}, {})
        running = ours(engines.split(","), pictures, threads, Path(place), opened) | theirs
        load = os.getloadavg()[0]
        times = timed(running, rounds)
    found = {"threads": threads, "side": side, "load": [load, os.getloadavg()[0]], "peer": about, "rows": rows(times)}
    show(found)
    if json_file:
        json_file.write_text(json.dumps(found, indent=1) + "\n")


def ours(engines: list[str], pictures: NDArray, threads: int, place: Path, opened: ExitStack) -> dict[str, Run]:
    """The network alone, and the detector, in every engine."""
    frames = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
    made, running = untaught(pictures.shape[1], place / "recipe"), {}
    for engine in track(engines, "opening ours", console=CONSOLE):
        runtime, precision = engine.split("-")
        if runtimes.load(runtime, precision).made_from(precision) != WEIGHTS:  # else it is opened by the detector alone
            network = opened.enter_context(opening(made.network, engine, threads))
            running[f"{engine}, network"] = network_run(network, frames)
        options: dict[str, Any] = {"threads": threads, "max_batch": 1, "derived": derive(made, runtime, precision)}
        detector = opened.enter_context(open_detector(made, runtime, precision, proving=False, **options))
        running[f"{engine}, inspect"] = detector_run(detector, frames)
    return running


def network_run(network: Any, frames: NDArray) -> Run:
    panels = [frame[None] / np.float32(255) for frame in frames]
    return lambda number: took(lambda: network.run({INPUT: panels[number]}))


def detector_run(detector: Any, frames: NDArray) -> Run:
    return lambda number: took(lambda: detector.inspect([frames[number]]))


def took(call: Callable[[], Any]) -> tuple[float, float]:
    began, worked = time.perf_counter(), time.process_time()
    call()
    return 1000 * (time.perf_counter() - began), 1000 * (time.process_time() - worked)


def untaught(side: int, folder: Path) -> Recipe:
    """A recipe that passes every panel: a good one is what a line sees most of the time."""
    folder.mkdir()
    exported(METHOD, len(COLOURS), side, folder)
    golden = np.random.default_rng(1).integers(0, 255, (4, len(COLOURS), side, side), dtype=np.uint8)
    map = np.zeros((side // 4, side // 4), np.float32)
    panels = (recipes.Golden(f"good_{number}", False, each, 0.0, map) for number, each in enumerate(golden))
    recipes.write_golden(folder, tuple(panels))
    return recipes.write(folder, facts(side))


def facts(side: int) -> dict[str, Any]:
    statistics = ScoreStatistics(panels=20, mean=0, std=1, minimum=0, median=0, maximum=1)
    promise = Promise(rate=0.2, confidence=0.9)
    return {
        "product": "picture",
        "channels": tuple(Channel(name=name, light=name) for name in COLOURS),
        "geometry": Resize(height=side, width=side),
        "dtype": "uint8",
        "method": METHOD,
        "settings": {"height": side, "width": side, **NETWORKS[METHOD][1]},
        "training": Training(panels=20, held_out=20, seed=0, teacher="none"),
        "limits": Limits(image=1e9, pixel=1e9, low=-1e9, min_area_px=1, promise=promise, statistics=statistics),
    }


@contextmanager
def peer_runs(
    python: Path, pictures: NDArray, threads: int, place: Path
) -> Iterator[tuple[dict[str, Run], dict[str, Any]]]:
    """The peer's engines, and what it says of itself; in a process of its own."""
    np.save(place / "pictures.npy", pictures)
    command = [str(python.absolute()), str(SCRIPT.absolute()), str(place / "pictures.npy"), str(threads)]
    with (
        (place / "peer.log").open("w") as log,
        subprocess.Popen(
            command, cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
        ) as child,
    ):
        assert child.stdin and child.stdout
        with CONSOLE.status("the peer exports its engines"):
            about = json.loads(child.stdout.readline() or refused(place / "peer.log"))
        yield {PEER + name: peer_run(name, child.stdin, child.stdout) for name in about["engines"]}, about
        child.stdin.close()


def refused(log: Path) -> str:
    raise SystemExit(f"the peer ended: {log.read_text().splitlines()[-1:]}; it needs anomalib 2.7, openvino and nncf")


def peer_run(name: str, asked: IO[str], answers: IO[str]) -> Run:
    def run(number: int) -> tuple[float, float]:
        asked.write(json.dumps({"engine": name, "picture": number}) + "\n")
        answer = json.loads(answers.readline())
        return answer["ms"], answer["cpu_ms"]

    return run


def timed(running: dict[str, Run], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Milliseconds [rounds, 2] of each, in turns; every round begins with another one."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
    names = list(running)
    for number in track(range(WARM_UP + rounds), "timing", console=CONSOLE):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            taken = running[name](number % PICTURES)
            if number >= WARM_UP:
                times[name].append(taken)
    return {name: np.array(each) for name, each in times.items()}


def rows(times: dict[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Median, 99th percentile, the processor's time, and how many times as long the peer's engines take."""
    medians = {name: float(np.median(taken[:, 0])) for name, taken in times.items()}
    theirs = {name: ms for name, ms in medians.items() if name.startswith(PEER)}
    return [
        {
            "engine": name,
            "median_ms": medians[name],
            "p99_ms": float(np.quantile(taken[:, 0], 0.99)),
            "cpu_ms": float(np.median(taken[:, 1])),
            "ratios": {peer: each / medians[name] for peer, each in theirs.items()},
        }
        for name, taken in times.items()
    ]


def show(found: dict[str, Any]) -> None:
    loads = " to ".join(f"{load:.1f}" for load in found["load"])
    title = f"one {found['side']} x {found['side']} picture of 3 channels, {found['threads']} threads, load {loads}"
    peers = list(found["rows"][0]["ratios"])
    table = Table("engine", "median ms", "p99 ms", "of processor", *(f"{peer} / it" for peer in peers), title=title)
    for row in found["rows"]:
        ratios = (f"{row['ratios'][peer]:.2f}" for peer in peers)
        ms = (f"{row[key]:.2f}" for key in ("median_ms", "p99_ms", "cpu_ms"))
        table.add_row(row["engine"], *ms, *ratios)
    CONSOLE.print(table)
    for name, why in found["peer"].get("left_out", {}).items():
        CONSOLE.print(f"left out: {PEER}{name}: {why}", markup=False)


if __name__ == "__main__":
    typer.run(main)
