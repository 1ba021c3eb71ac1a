"""The line on real pictures, by hand: `python tests/bench/real_pictures.py RECIPE=SET... [--json FILE]`.

For every recipe: `takt eval` on the set's `test/`, then the whole line with a folder camera over the same panels
and a simulated PLC; prints one row each. The two must agree on every panel, or the row says so.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from calibration.evaluate import evaluate
from calibration.panels import PanelSet
from engines import recipe as recipes
from engines.detector import open_detector
from pipeline.config import load
from pipeline.engine_room import build_all
from pipeline.run import run_line

CONSOLE = Console()
LINE = """
format = 1
station = "pictures"
state_dir = "state"
allow = ["unsigned_recipe"]
[recipes]
1 = {recipe}
[engine]
threads = 1
[timing]
window_ms = 2000
poll_ms = 4
takt_ms = {least}
early_ms = {early}
exposure_ms = 40
[[cameras]]
name = "top"
kind = "folder"
channels = {channels}
slot_mb = 4.0
settings = {{ set = {set} }}
[plc.settings]
port = 5022
[bus]
outcomes = "tcp://127.0.0.1:5572"
[conveyor.settings]
takt_ms = {takt}
window_ms = 2000
"""


def main(
    pairs: Annotated[list[str], typer.Argument(help="RECIPE=SET, two folders")],
    takt_ms: Annotated[int, typer.Option("--takt")] = 200,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Measure and print."""
    rows = {}
    for pair in pairs:
        recipe, _, panels = pair.partition("=")
        rows[Path(panels).name] = measured(Path(recipe).resolve(), Path(panels).resolve(), takt_ms)
    CONSOLE.print(table(rows))
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1) + "\n")


def measured(recipe: Path, panels: Path, takt_ms: int) -> dict[str, Any]:
    """Figures of `takt eval` and of the line for one set."""
    loaded = recipes.load(recipe)
    with open_detector(loaded, threads=2, max_batch=1) as detector:
        figures = evaluate(detector, PanelSet(panels), lambda phase, done, total: None)
    with tempfile.TemporaryDirectory(prefix="takt-pictures-") as place:
        line = Path(place) / "line.toml"
        channels = [channel.name for channel in loaded.manifest.channels]
        names = {"recipe": str(recipe), "set": str(panels), "channels": channels}
        least_ms = takt_ms * 3 // 4  # of the belt; a set's exposures take 40 ms
        times = {"takt": takt_ms, "least": least_ms, "early": least_ms - 41}
        line.write_text(LINE.format(**times, **{key: json.dumps(value) for key, value in names.items()}))
        build_all(load(line))
        summary = run_line(load(line), CONSOLE)
    return {"eval": figures, "line": summary, "agree": agree(figures, summary)}


def agree(figures: dict[str, Any], summary: dict[str, Any]) -> bool:
    """Misses and false rejects of the line are those of the evaluation."""
    line = (summary["false_rejects"], summary["missed"])
    return line == (figures["false_reject"]["k"], figures["miss"]["k"])


def table(rows: dict[str, dict[str, Any]]) -> Table:
    """One row a set."""
    shown = Table("set", "image AUROC", "pixel AP", "false rejects", "misses", "ms", "line p50/p99 ms", "reconciled")
    for name, row in rows.items():
        figures, summary = row["eval"], row["line"]
        by_type = figures["image_auroc_by_defect"].values()
        shown.add_row(
            name,
            f"{figures['image_auroc']:.3f} (mean over types {sum(by_type) / len(by_type):.3f})",
            "-" if figures["pixel_ap"] is None else f"{figures['pixel_ap']:.3f}",
            *(f"{figures[key]['k']}/{figures[key]['n']}" for key in ("false_reject", "miss")),
            f"{figures['ms_per_panel']['median']:.1f}",
            f"{summary['latency_ms']['median']} / {summary['latency_ms']['p99']}",
            ("yes" if summary["reconciled"] else "NO") + ("" if row["agree"] else ", differs from eval"),
        )
    return shown


if __name__ == "__main__":
    typer.run(main)
