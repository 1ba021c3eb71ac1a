"""`takt bench faults`: the fault storm on the command line."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.bench.group import bench_group
from pipeline.errors import UsageError

SAY_EVERY_S = 10.0
REPORT = "report.html"


def register(app: typer.Typer) -> None:
    """Add `bench faults` to the root command."""
    bench_group(app).command("faults")(bench_faults)


def bench_faults(
    triggers: Annotated[int, typer.Option(min=1, help="how many panels are triggered")] = 100_000,
    process_faults: Annotated[int, typer.Option(min=0, help="kills, stops and black holes over the run")] = 50,
    rate: Annotated[float, typer.Option(min=0, max=0.05, help="of each kind of message and pixel fault")] = 0.01,
    takt_ms: Annotated[int, typer.Option("--takt", min=12, help="milliseconds from panel to panel")] = 18,
    seed: Annotated[int, typer.Option(min=0, help="of everything that is drawn by lot")] = 0,
    out: Annotated[Path, typer.Option(help="new folder for the line's state and report.html")] = Path("takt-faults"),
    keep: Annotated[bool, typer.Option(help="leave every panel's pictures there: 25 kB a panel")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
) -> None:
    """A storm of faults over the whole line with simulated devices; counts wrong passes, mixed sets and lost triggers.

    The three counts come from a checker that reads the PLC's own record and the marks in the pictures alone. Exit
    status 1 if one of them is not 0.
    """
    from pipeline.bench.fault_figures import is_clean
    from pipeline.bench.fault_report import conclusion, page
    from pipeline.bench.faults import run_storm
    from pipeline.bench.storm import Storm

    storm = Storm(triggers=triggers, takt_ms=takt_ms, rate=rate, process_faults=process_faults, seed=seed)
    console = Console()
    with _progress(console, triggers) as progress:
        figures, checker = run_storm(storm, out, _shown(console, progress, triggers, takt_ms), keep=keep)
    _write(out / REPORT, page(figures, list(checker.decisions())))
    _write(json_file, json.dumps(figures, indent=1) + "\n")
    console.print(conclusion(figures), highlight=False)
    console.print(f"report: {out / REPORT}")
    raise typer.Exit(0 if is_clean(figures) else 1)


def _progress(console: Console, triggers: int) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    progress.add_task("starting", total=triggers)
    return progress


def _shown(console: Console, progress: Progress, triggers: int, takt_ms: int) -> Callable[[int, int], None]:
    """A living bar on a terminal, a line now and then elsewhere."""
    said_s = [time.monotonic()]

    def show(done: int, passed: int) -> None:
        progress.update(progress.task_ids[0], description=f"{passed} passed", completed=done)
        if not console.is_terminal and time.monotonic() - said_s[0] > SAY_EVERY_S:
            said_s[0] = time.monotonic()
            left_s = (triggers - done) * takt_ms / 1000
            console.print(f"{done} of {triggers} panels, {passed} passed, about {left_s:.0f} s left", highlight=False)

    return show


def _write(path: Path | None, text: str) -> None:
    if path is None:
        return
    try:
        path.write_text(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}; name another file") from None
