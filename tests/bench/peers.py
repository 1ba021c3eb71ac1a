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
processor has it), ours in what the name says. The processor's time of a call, of all threads, is less
moved by what else the machine does. Ctrl-C prints what was timed so far.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import typer
from network_times import opening
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from untaught import made

from engines import runtimes
from engines.build import derive
from engines.detector import INPUT, open_detector
from engines.runtimes import WEIGHTS
from pipeline.bench.telling import telling

CONSOLE = Console(width=None if sys.stdout.isatty() else 160)
SCRIPT = Path(__file__).with_name("anomalib_peer.py")
ENGINES = "onnxruntime-fp32,onnxruntime-int8,openvino-fp32,openvino-bf16,openvino-int8,pytorch-fp32"
PICTURES, WARM_UP, METHOD = 16, 20, "mkd"
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
    size = (pictures.shape[1], pictures.shape[2])
    recipe, running = made(place / "recipe", pictures.shape[3], size, METHOD, passing=True), {}
    for engine in track(engines, "opening ours", console=CONSOLE):
        runtime, precision = engine.split("-")
        if runtimes.load(runtime, precision).made_from(precision) != WEIGHTS:  # else it is opened by the detector alone
            network = opened.enter_context(opening(recipe.network, engine, threads))
            running[f"{engine}, network"] = network_run(network, frames)
        options: dict[str, Any] = {"threads": threads, "max_batch": 1, "derived": derive(recipe, runtime, precision)}
        detector = opened.enter_context(open_detector(recipe, runtime, precision, proving=False, **options))
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
            command,
            cwd=place,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            bufsize=1,
            start_new_session=True,  # Ctrl-C is ours
        ) as child,
    ):
        assert child.stdin and child.stdout
        try:
            while "exporting" in (about := answered(child.stdout, place / "peer.log")):
                CONSOLE.print(f"the peer exports {about['exporting']}")
            ends = child.stdin, child.stdout, place / "peer.log"
            yield {PEER + name: peer_run(name, *ends) for name in about["engines"]}, about
        finally:
            child.kill()  # it has nothing to lose, and libraries' threads may keep it from ending


def answered(answers: IO[str], log: Path) -> dict[str, Any]:
    """What the peer says next."""
    if line := answers.readline():
        return json.loads(line)
    said = log.read_text().splitlines()[-3:] if log.exists() else []
    raise SystemExit(f"the peer ended: {' / '.join(said)}; it needs anomalib 2.7, openvino and nncf")


def peer_run(name: str, asked: IO[str], answers: IO[str], log: Path) -> Run:
    def run(number: int) -> tuple[float, float]:
        asked.write(json.dumps({"engine": name, "picture": number}) + "\n")
        answer = answered(answers, log)
        return answer["ms"], answer["cpu_ms"]

    return run


def timed(running: dict[str, Run], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Milliseconds [rounds, 2] of each, in turns; every round begins with another one."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
    names, every = list(running), WARM_UP + rounds
    with telling() as show, suppress(KeyboardInterrupt):
        for number in range(every):
            first = number % len(names)
            taken = {name: running[name](number % PICTURES) for name in names[first:] + names[:first]}
            for name in names if number >= WARM_UP else ():
                times[name].append(taken[name])
            show("rounds", number + 1, every)
    if not times[names[0]]:
        raise KeyboardInterrupt
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
