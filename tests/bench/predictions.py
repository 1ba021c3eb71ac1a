"""Are predictions right? By hand: `python tests/bench/predictions.py [--runs N] [--part N] [--json FILE]`.

A few products are measured as `takt bench engine` does, twelve others are predicted from them alone as `takt bench
predict` does, and then measured. Right is a prediction within 15 % of what was measured; ten of twelve are to be. All
products take turns, one run each, so that what else the machine does falls on all alike; the p99 is compared from 2,000
runs on, the median below. Recipes are in tiles and untaught, which changes no time. Their sides are parts of those in
the tables below, so that 2,000 runs of all fit 20 minutes of two cores; `--part 1` takes them whole. What `--minutes`
or Ctrl-C leave is compared as far as it goes. To export the networks takes some minutes more; `--recipes DIR` keeps
them for the next time.
"""

import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from untaught import made

from engines.cache import Choice, Engine, engine_of
from engines.detector import Detector, open_detector
from engines.recipe import MANIFEST, Recipe, load
from pipeline.bench.engine import PASSES, Panel, Times, panels_of, row, run_once, warmed
from pipeline.bench.floors import Rates
from pipeline.bench.passport import EnginePassport, header
from pipeline.bench.predict import Asked, predicted
from pipeline.bench.subject import subject_of
from pipeline.bench.telling import telling

CONSOLE = Console(width=None if sys.stdout.isatty() else 120)
RIGHT, ASKED_RIGHT, LEAST_RUNS = 0.15, 10, 20
MEASURED = ((1, 256, 256), (8, 256, 256), (2, 512, 384), (8, 512, 512), (4, 768, 768))  # channels, height, width
PREDICTED = (
    (1, 512, 512),
    (2, 256, 256),
    (2, 640, 480),
    (3, 320, 320),
    (3, 512, 768),
    (4, 384, 384),
    (4, 512, 640),
    (6, 256, 384),
    (6, 448, 448),
    (6, 640, 640),
    (8, 384, 384),
    (8, 448, 640),
)
Product = tuple[int, int, int]


def main(
    method: Annotated[str, typer.Option()] = "mkd",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    runs: Annotated[int, typer.Option(min=LEAST_RUNS)] = 2_000,
    part: Annotated[int, typer.Option(min=1, max=4, help="of the sides below")] = 4,
    minutes: Annotated[float, typer.Option(help="of measuring, at most")] = 15,
    kept: Annotated[
        Path | None, typer.Option("--recipes", help="folder for the recipes; none: they are not kept")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Measure, predict, measure again, and print the table."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place, ExitStack() as opened:
        choice = Choice(threads=threads, max_batch=1)
        every = [(one[0], one[1] // part, one[2] // part) for one in (*MEASURED, *PREDICTED)]
        recipes = [recipe_of(kept or Path(place), one, method) for one in track(every, "exporting", console=CONSOLE)]
        engines = [engine_of(recipe, choice, None) for recipe in recipes]
        detectors = [opened.enter_context(open_detector(recipe, threads=threads, max_batch=1)) for recipe in recipes]
        panels = [panels_of(recipe, 1)[0] for recipe in recipes]
        times = in_turns(detectors, panels, runs, minutes)
        passports = [passport(*each) for each in zip(recipes, engines, panels, times, strict=True)]
    known = passports[: len(MEASURED)]
    rows = [compared(one, known, passports[n]) for n, one in enumerate(every) if n >= len(MEASURED)]
    found = {"rows": rows, "right": sum(abs(one["off"]) <= RIGHT for one in rows), "asked": ASKED_RIGHT}
    found |= {"load": [round(load, 2), round(os.getloadavg()[0], 2)], "threads": threads, "method": method}
    found |= {"runs": passports[0].rows[0].runs}
    show(found)
    if json_file:
        json_file.write_text(json.dumps(found, indent=1) + "\n")


def recipe_of(place: Path, product: Product, method: str) -> Recipe:
    folder = place / "x".join([method, *map(str, product)])
    if (folder / MANIFEST).exists():
        return load(folder)
    return made(folder, product[0], product[1:], method, tiled=True)


def in_turns(detectors: list[Detector], panels: list[Panel], runs: int, minutes: float) -> list[Times]:
    """One run of each product after the other, until the time is over or somebody wants it to end."""
    found = [Times(1) for _ in detectors]
    for times, detector, panel in zip(found, detectors, panels, strict=True):
        times.warm_runs = warmed(lambda one=detector, raw=panel: one.inspect([raw]))
    ends_s = time.monotonic() + 60 * minutes
    with telling() as show, suppress(KeyboardInterrupt):
        for number in range(runs):
            for times, detector, panel in zip(found, detectors, panels, strict=True):
                run_once(detector, [panel], times, number % PASSES)
            show("rounds", number + 1, runs)
            if time.monotonic() > ends_s:
                return found
    if len(found[-1].every) < LEAST_RUNS:
        raise KeyboardInterrupt
    return found


def passport(recipe: Recipe, engine: Engine, panel: Panel, times: Times) -> EnginePassport:
    """As `takt bench engine` writes it, without floors."""
    subject = subject_of(recipe, engine, panel)
    more = {"subject": subject, "own_share": 0.0, "rates": {"operations_per_s": None, "bytes_per_s": 1.0}}
    rows = [row(recipe, engine, times, panel, Rates(None, 1.0))]
    return EnginePassport.model_validate(header("tests/bench/predictions.py", {}) | more | {"rows": rows})


def compared(product: Product, known: list[EnginePassport], measured: EnginePassport) -> dict[str, Any]:
    """What was expected of a product and what it took, p99 where enough runs stand behind it."""
    expected = predicted(known, Asked(product[0], product[1:]))
    ms = measured.rows[0].ms
    name = "p99" if ms.p99 and expected["expected_p99_ms"] else "median"
    took, said = getattr(ms, name) or 0.0, expected[f"expected_{name}_ms"]
    sizes = {"channels": product[0], "height": product[1], "width": product[2], "rows": expected["rows"]}
    own = {"figure": name, "expected_ms": said, "measured_ms": took, "off": round(said / took - 1, 4)}
    return (
        sizes
        | own
        | {"stated_error": expected["error"], "expected_median_ms": expected["expected_median_ms"]}
        | {"measured_median_ms": ms.median}
    )


def show(found: dict[str, Any]) -> None:
    loads = " to ".join(f"{load:.1f}" for load in found["load"])
    title = (
        f"{found['method']}, {found['threads']} threads, {found['runs']} runs of each, load {loads}:"
        f" {found['right']} of {len(found['rows'])} right"
    )
    table = Table("product", "rows", "figure", "expected ms", "measured ms", "off", "stated error", title=title)
    for one in found["rows"]:
        product = f"{one['channels']} x {one['height']} x {one['width']}"
        ms = (f"{one['expected_ms']:.1f}", f"{one['measured_ms']:.1f}", f"{one['off']:+.1%}")
        table.add_row(product, str(one["rows"]), one["figure"], *ms, f"{one['stated_error']:.0%}")
    CONSOLE.print(table)


if __name__ == "__main__":
    typer.run(main)
