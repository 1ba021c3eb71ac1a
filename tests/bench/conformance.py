"""Do all engines of a recipe say the same? By hand: `python tests/bench/conformance.py RECIPE[=SET]... [--json FILE]`.

Every CPU runtime and precision inspects the recipe's golden panels and, with `=SET`, those of `test/`, through
`Detector.inspect`, and is compared with onnxruntime in fp32 and with pytorch. Graphs are derived here: int8 learns its
ranges from the golden good panels and, with a set, from up to 64 of its `train/good`. Told of each: flipped verdicts,
errors of scores (median and largest, in shares of the score; largest in shares of the limit, and of the deviation of
good scores from which the limit was set), map error in shares of the maps' range, AUROC before and after, and of the
golden panels how near the limit they lie. `needed` is the margin, in shares of the limit, with which the largest error
on golden panels would be a quarter of it, as a certificate asks.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from calibration.derivation import calibrating, judging
from calibration.panels import PanelSet
from engines import recipe as recipes
from engines.build import derive
from engines.derivation import Answer, Labelled, answers, change, golden
from engines.detector import Detector, open_detector
from engines.recipe import Recipe

CONSOLE = Console()
REFERENCES = ("onnxruntime-fp32", "pytorch-fp32")
OTHERS = "openvino-fp32,openvino-bf16,openvino-int8,onnxruntime-int8"
SHARE = 4  # an error is to be under one in so many of the margin
Told = dict[str, list[Answer]]  # by engine


def main(
    given: Annotated[list[str], typer.Argument(metavar="RECIPE[=SET]...")],
    engines: Annotated[str, typer.Option(help="RUNTIME-PRECISION, with commas between")] = OTHERS,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    most: Annotated[int | None, typer.Option(min=2, help="test panels of a set, spread over it")] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Compare them and print the table."""
    found: list[dict[str, Any]] = []
    for each in given:
        path, _, panels = each.partition("=")
        found += compared(Path(path), PanelSet(Path(panels)) if panels else None, engines.split(","), threads, most)
        if json_file:
            json_file.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


def compared(
    path: Path, panels: PanelSet | None, engines: Sequence[str], threads: int, most: int | None
) -> list[dict[str, Any]]:
    """A row a reference and engine."""
    made = recipes.load(path)
    with ExitStack() as opened:
        detectors = {
            engine: opened.enter_context(opening(made, panels, engine, threads)) for engine in (*REFERENCES, *engines)
        }
        own = told(detectors, golden(made), f"{path.name}: golden panels")
        asked = spread(list(judging(panels, made.manifest)), most) if panels else []
        test = told(detectors, asked, f"{path.name}: test panels") if asked else None
    pairs = ((reference, engine) for reference in REFERENCES for engine in detectors if engine != reference)
    return [row(made, *pair, own, test) for pair in pairs]


def opening(made: Recipe, panels: PanelSet | None, engine: str, threads: int) -> Any:
    """The detector, its graph derived where that needs one."""
    runtime, precision = engine.split("-")
    more = calibrating(panels, made.manifest) if panels and precision == "int8" else ()
    derived = derive(made, runtime, precision, more)
    return open_detector(made, runtime, precision, threads, max_batch=1, derived=derived, proving=False)


def told(detectors: dict[str, Detector], panels: Iterable[Labelled], what: str) -> Told:
    """What each engine says of every panel; a panel is read once."""
    said: Told = {engine: [] for engine in detectors}
    for panel in track(list(panels), what, console=CONSOLE, transient=True):
        for engine, detector in detectors.items():
            said[engine] += answers(detector, [panel])
    return said


def spread(panels: list[Labelled], most: int | None) -> list[Labelled]:
    if most is None or most >= len(panels):
        return panels
    return [panels[index] for index in np.linspace(0, len(panels) - 1, most).round().astype(int)]


def row(made: Recipe, reference: str, engine: str, own: Told, test: Told | None) -> dict[str, Any]:
    limits = made.manifest.limits
    margins = {
        kind: min(one.margin for one in own[reference] if one.defective is defective) / abs(limits.image)
        for kind, defective in (("good", False), ("defect", True))
    }
    on_golden = errors(own[reference], own[engine], limits.image, limits.statistics.std)
    return {
        "recipe": made.path.name,
        "method": made.manifest.method,
        "engine": engine,
        "against": reference,
        "limit": limits.image,
        "golden": on_golden,
        "golden_margin": margins,
        "needed": SHARE * on_golden["share_of_limit"],
        "test": errors(test[reference], test[engine], limits.image, limits.statistics.std) if test else None,
    }


def errors(before: Sequence[Answer], after: Sequence[Answer], limit: float, deviation: float) -> dict[str, Any]:
    """What became of the answers, see `engines.derivation.change`, and how large the errors of the scores are."""
    old, new = (np.array([one.score for one in each]) for each in (before, after))
    off = np.abs(new - old)
    relative = off / np.maximum(np.abs(old), np.finfo(float).tiny)
    return {
        **asdict(change(before, after)),
        "relative_median": float(np.median(relative)),
        "relative_max": float(relative.max()),
        "share_of_limit": float(off.max() / abs(limit)),
        "share_of_deviation": float(off.max() / deviation),
        "bias_of_limit": float(np.mean(new - old) / abs(limit)),
    }


def show(found: Sequence[dict[str, Any]]) -> None:
    for of in ("golden", "test"):
        rows = [each for each in found if each[of]]
        if rows:
            CONSOLE.print(tabled(of, rows))


def tabled(of: str, rows: Sequence[dict[str, Any]]) -> Table:
    columns = ("recipe", "engine", "against", "flipped", "error median", "max", "of limit", "of deviation", "map")
    more = ("nearest good", "defect", "needed") if of == "golden" else ("AUROC before", "after", "loss, points")
    table = Table(*columns, *more, title=f"{of} panels")
    for each in rows:
        one = each[of]
        shares = (one["relative_median"], one["relative_max"], one["share_of_limit"], one["share_of_deviation"])
        flipped = f"{len(one['flipped'])} of {one['panels']}"
        last = of_golden(each) if of == "golden" else of_test(one)
        table.add_row(
            each["recipe"], each["engine"], flipped, *map("{:.1e}".format, (*shares, one["map_error"])), *last
        )
    return table


def of_golden(each: dict[str, Any]) -> list[str]:
    margins = each["golden_margin"]
    return [f"{share:.1e}" for share in (margins["good"], margins["defect"], each["needed"])]


def of_test(one: dict[str, Any]) -> list[str]:
    before, after = one["auroc_before"], one["auroc_after"]
    if before is None or after is None:
        return ["", "", ""]
    return [f"{before:.4f}", f"{after:.4f}", f"{100 * (before - after):.2f}"]


if __name__ == "__main__":
    typer.run(main)
