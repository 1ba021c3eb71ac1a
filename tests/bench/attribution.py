"""Channel attribution and lost channels on simulated panels: `python tests/bench/attribution.py RECIPE [--json FILE]`.

Which channels show a defect is known by drawing the same panel twice without noise, with the defect and without. A
channel shows it where the difference, averaged over 3x3 px, reaches 1.5 times the noise at some pixel. Found is a
reject with a listed defect that touches the defect's true mask. Lost channels: how many more good panels are rejected
by the network when one channel is black, integrity checks left aside.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from calibration.metrics import rate
from engines import recipe as recipes
from engines.decide import Defect
from engines.detector import Detector, open_detector
from pipeline.simulation import defects, panel, watermark
from pipeline.simulation.panel import Look
from pipeline.simulation.plan import derived_seed

CONSOLE = Console()
SHOWS = 1.5  # times the noise


def main(
    recipe: Annotated[Path, typer.Argument(help="of a simulated product")],
    defective: Annotated[int, typer.Option(min=1, help="panels of each kind")] = 40,
    good: Annotated[int, typer.Option(min=1)] = 200,
    seed: Annotated[int, typer.Option()] = 400,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print what was found and named."""
    loaded = recipes.load(recipe)
    names = tuple(channel.name for channel in loaded.manifest.channels)
    look = Look(height=loaded.manifest.geometry.height, width=loaded.manifest.geometry.width)
    with open_detector(loaded, max_batch=1) as detector:
        named = attribution(detector, names, look, defective, seed)
        lost = lost_channels(detector, names, look, good, seed)
    figures = {"attribution": named, "lost_channel": lost}
    CONSOLE.print_json(json.dumps(figures))
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


def attribution(detector: Detector, names: tuple[str, ...], look: Look, count: int, seed: int) -> dict[str, Any]:
    """Of found defects: how often the first named channel, any, and all named channels show the defect."""
    cells: dict[str, list[tuple[bool, bool, bool]]] = {kind: [] for kind in defects.KINDS}
    for kind, number in track([(k, n) for k in cells for n in range(count)], "defective panels", console=CONSOLE):
        own = derived_seed("attribution", seed, kind, number)
        drawn = panel.render(own, look, names, defects.draw(kind, own))
        (finding,) = detector.inspect([watermark.stamp_set(drawn.frames, number)])
        found = [] if finding.passed else [one for one in finding.defects if _touches(one, drawn.mask)]
        if found and found[0].channels:
            shown = {name for name, seen in zip(names, visible(own, look, names, kind), strict=True) if seen}
            hits = [name in shown for name in found[0].channels]
            cells[kind].append((hits[0], any(hits), all(hits)))
    rows = {kind: _counted(found, count) for kind, found in cells.items()}
    return {"by_kind": rows, "all": _counted([hit for found in cells.values() for hit in found], count * len(cells))}


def _counted(found: list[tuple[bool, bool, bool]], count: int) -> dict[str, Any]:
    sums = [rate(sum(one[place] for one in found), len(found)) for place in range(3)]
    return {"found": rate(len(found), count), "first_shows": sums[0], "any_shows": sums[1], "all_show": sums[2]}


def _touches(one: Defect, mask: NDArray[np.bool_]) -> bool:
    return bool(mask[one.y : one.y + one.height, one.x : one.x + one.width].any())


def visible(seed: int, look: Look, names: tuple[str, ...], kind: str) -> NDArray[np.bool_]:
    """bool [C]."""
    with_it = panel.render(seed, look, names, defects.draw(kind, seed), noisy=False).frames.astype(np.float32)
    without = panel.render(seed, look, names, None, noisy=False).frames.astype(np.float32)
    shown = []
    for one, other in zip(with_it, without, strict=True):
        change = np.abs(np.asarray(cv2.blur(one - other, (3, 3))))
        at = np.unravel_index(int(change.argmax()), change.shape)
        shown.append(bool(change[at] > SHOWS * panel.noise_sigma(float(other[at]))))
    return np.array(shown)


def lost_channels(detector: Detector, names: tuple[str, ...], look: Look, count: int, seed: int) -> dict[str, Any]:
    """False rejects of whole sets, and of sets without each channel."""
    passed = np.zeros((count, 1 + len(names)), bool)
    for number in track(range(count), "good panels", console=CONSOLE):
        frames = watermark.stamp_set(panel.render(derived_seed("good", seed, number), look, names).frames, number)
        for lost in range(-1, len(names)):
            partial = frames.copy()
            if lost >= 0:
                partial[lost] = 0
            passed[number, 1 + lost] = detector.inspect([partial])[0].passed
    rejected = (~passed).sum(0).tolist()
    return {name: rate(hits, count) for name, hits in zip(("none", *names), rejected, strict=True)}


if __name__ == "__main__":
    typer.run(main)
