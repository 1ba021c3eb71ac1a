"""Recall of the integrity checks on real pictures: `python tests/bench/integrity_real.py DATA [--json FILE]`.

magnetic_tile_stack has real good sets: limits are learned from train/good, and test/good is damaged. Of multi_light
and focus_stack there is one scene each; sets of it are made as a station would take them: handling of a few pixels, a
light that wanders by 2 %, and noise of the size that the picture itself shows, fresh in every frame.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from calibration.injector import noise_of
from calibration.metrics import rate
from calibration.panels import GOOD, PanelSet, read_panel
from calibration.rates import upper_bound
from engines.integrity import Guard, History, learn
from pipeline.bench.integrity import injected

CONSOLE = Console()
SCENES = {"multi_light/cat": "*.png", "focus_stack/pcb_a": "pcb_*.jpg"}
TAUGHT, ASKED = 60, 60
HANDLING_PX, LIGHT, WIDTH_PX = 3, 0.02, 512

Good = tuple[list[NDArray], list[NDArray], tuple[str, ...]]  # to learn from, to damage, each channel's light


def main(
    data: Annotated[Path, typer.Argument(help="folder of the sets")],
    each: Annotated[int, typer.Option(min=1, help="injections of every cause and strength")] = 100,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print k of n for every set and cause."""
    sources: dict[str, Callable[[], Good]] = {"magnetic_tile_stack": lambda: stack(data / "magnetic_tile_stack")}
    sources |= {name: lambda name=name: scene(sorted((data / name).glob(SCENES[name]))) for name in SCENES}
    figures = {name: measured(source(), each) for name, source in sources.items()}
    for name, found in figures.items():
        show(name, found)
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


def stack(path: Path) -> Good:
    """Real sets: six exposures under one light."""
    panels = PanelSet(path)
    taught = [read_panel(one.path, panels.channels) for one in panels.panels("train", GOOD)]
    asked = [read_panel(one.path, panels.channels) for one in panels.panels("test", GOOD)]
    return taught, asked, tuple(panels.channels)


def scene(pictures: list[Path]) -> Good:
    """Sets of one scene, a channel a picture."""
    whole = np.stack([_picture(path) for path in pictures])
    rng = np.random.default_rng(0)
    sets = [_taken(whole, rng) for _ in range(TAUGHT + ASKED)]
    return sets[:TAUGHT], sets[TAUGHT:], tuple(path.stem for path in pictures)


def measured(good: Good, each: int) -> dict[str, Any]:
    """False alarms on good sets and recall by cause and strength."""
    taught, asked, lights = good
    guard, history = Guard(learn(iter(taught))), History()
    alarms = sum(guard.examine(frames, history) is not None for frames in asked)
    cases = injected(guard, asked, lights, each, seed=0)
    rows = [{"cause": one.cause.value, "strength": one.strength} | tally.recall(one.cause) for one, tally in cases]
    return {"false_alarms": rate(alarms, len(asked)), "cases": rows, "causes": list(_by_cause(rows))}


def _by_cause(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for cause in dict.fromkeys(row["cause"] for row in rows):
        k, n = (sum(row[key] for row in rows if row["cause"] == cause) for key in ("k", "n"))
        yield {"cause": cause, "k": k, "n": n, "lower95": 1 - upper_bound(n - k, n)}


def _picture(path: Path) -> NDArray[np.uint8]:
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise typer.BadParameter(f"{path}: is no picture")
    height = round(grey.shape[0] * WIDTH_PX / grey.shape[1])
    return np.asarray(cv2.resize(grey, (WIDTH_PX, height), interpolation=cv2.INTER_AREA), np.uint8)


def _taken(whole: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One handling for all channels; light and noise of each."""
    shift = rng.uniform(-HANDLING_PX, HANDLING_PX, 2)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    edge = 2 * HANDLING_PX
    frames = []
    for picture in whole:
        moved = cv2.warpAffine(picture.astype(np.float32), matrix, picture.shape[::-1], flags=cv2.INTER_CUBIC)
        lit = moved[edge:-edge, edge:-edge] * rng.uniform(1 - LIGHT, 1 + LIGHT)
        frames.append(lit + rng.normal(0, max(noise_of(picture), 0.7), lit.shape))
    return np.clip(np.rint(np.stack(frames)), 0, 255).astype(np.uint8)


def show(name: str, found: dict[str, Any]) -> None:
    """One table a set."""
    alarms = found["false_alarms"]
    table = Table(
        "cause", "strength", "found", "rightly named", title=f"{name}: false alarms {alarms['k']}/{alarms['n']}"
    )
    for row in found["cases"]:
        table.add_row(row["cause"], row["strength"], f"{row['k']}/{row['n']}", str(row["named"]))
    for row in found["causes"]:
        table.add_row(row["cause"], "all", f"{row['k']}/{row['n']}", f"at least {row['lower95']:.1%}")
    CONSOLE.print(table)


if __name__ == "__main__":
    typer.run(main)
