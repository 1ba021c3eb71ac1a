"""`takt bench predict` and `takt bench compare`: what passports say of other products, and of each other."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.bench.group import bench_group

if TYPE_CHECKING:
    from pipeline.bench.compare import Change

WIDE = 120  # columns, where no terminal says its own


def register(app: typer.Typer) -> None:
    """Add `bench predict` and `bench compare` to the root command."""
    group = bench_group(app)
    group.command("predict")(bench_predict)
    group.command("compare")(bench_compare)


def bench_predict(
    passports: Annotated[
        list[Path] | None, typer.Argument(metavar="PASSPORT.json...", help="of one engine; default: takt-passport's")
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="frames of a panel")] = 1,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of a frame, px")] = "1024x1024",
    batch: Annotated[int, typer.Option(min=1, help="panels in a batch")] = 1,
    takt_ms: Annotated[float | None, typer.Option("--takt", min=1, help="whether it is kept, and its wait")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
) -> None:
    """What another product would take on the machine that was measured, with the error of the stages' models.

    Several passports, of other sizes and channels, part what their time follows from; of a line they predict the line.
    """
    from pipeline.bench.passport import JSON, read
    from pipeline.bench.predict import Asked, predicted
    from pipeline.figures import write_json

    read_ones = [read(path) for path in passports or [Path("takt-passport") / JSON]]
    figures = predicted(read_ones, Asked(channels, _size(size), batch, takt_ms))
    for text in _expected(figures):
        print(text)  # noqa: T201
    write_json(json_file, figures)


def _size(text: str) -> tuple[int, int]:
    """Height, width."""
    from pipeline.errors import UsageError

    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if found is None or not int(found[1]) * int(found[2]):
        raise UsageError(f"--size {text}: WIDTHxHEIGHT in pixels, as 8192x6144")
    return int(found[2]), int(found[1])


def _expected(figures: dict[str, Any]) -> list[str]:
    error = "unknown" if figures["error"] is None else f"{figures['error']:.0%}, 95 % sure"
    p99 = figures["expected_p99_ms"]
    what = f"{figures['channels']} channels of {figures['size'][1]} x {figures['size'][0]} px, {figures['rows']} rows"
    tail = f"{p99:.1f} ms p99" if p99 else "no p99: measure 2,000 runs and more"
    lines = [f"{what}: {figures['expected_median_ms']:.1f} ms median, {tail}; error {error}"]
    lines += [f"  {name:<10} {ms:.2f} ms" for name, ms in figures["stages_ms"].items()]
    if "takt_ms" in figures:
        follows = "follows" if figures["follows"] else "cannot follow"
        lines.append(
            f"takt {figures['takt_ms']:g} ms: the inspector {follows}, busy {figures['inspector_busy']:.0%} of it"
        )
        if figures["expected_p99_at_takt_ms"]:
            lines.append(f"p99 with the wait for the panel before: {figures['expected_p99_at_takt_ms']:.1f} ms")
    return [*lines, *(f"note: {note}" for note in figures["notes"])]


def bench_compare(
    before: Annotated[Path, typer.Argument(metavar="A.json")],
    after: Annotated[Path, typer.Argument(metavar="B.json")],
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
) -> None:
    """How many times as long B takes as A, with 95 % intervals; a difference only beyond both noise floors."""
    from pipeline.bench import compare
    from pipeline.bench.passport import read
    from pipeline.figures import write_json

    both = read(before), read(after)
    found = compare.changes(*both)
    apart = list(compare.differences(*both))
    _print_changes(found)
    for text in apart:
        print(f"not the same: {text}")  # noqa: T201
    write_json(json_file, {"changes": [one.figures() for one in found], "not_the_same": apart})


def _print_changes(found: list["Change"]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "A ms", "B ms", "B / A", "95 %", "noise", "")
    for one in found:
        interval = f"{one.interval[0]:.3f} to {one.interval[1]:.3f}"
        ms = (f"{one.before_ms:.3g}", f"{one.after_ms:.3g}", f"{one.ratio:.3f}")
        table.add_row(one.what, *ms, interval, f"{one.noise:.1%}", one.verdict)
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)
