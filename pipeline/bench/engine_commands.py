"""`takt bench engine`: how fast an engine is on this machine, and how far from what the machine can do."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.bench.group import BROKEN, STOPPED, bench_group

if TYPE_CHECKING:
    from engines.cache import Choice
    from engines.recipe import Recipe
    from pipeline.bench.passport import EnginePassport, Row

WIDE = 120  # columns, where no terminal says its own


def register(app: typer.Typer) -> None:
    """Add `bench engine` to the root command."""
    bench_group(app).command("engine")(bench_engine)


def bench_engine(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="recipe folder; it is only read")],
    line: Annotated[Path | None, typer.Option(metavar="LINE.toml", help="measure what this line uses")] = None,
    runtime: Annotated[str, typer.Option(help="what runs the network; a line says its own")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, bf16, fp16, int8 or fp8; a line says its own")] = "fp32",
    batch: Annotated[str | None, typer.Option(help="panels in a batch, as 1,2; default: 1, 2, 4 to the most")] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="that the engine was built for")] = 8,
    threads: Annotated[int, typer.Option(min=1, help="that the engine was built for")] = 2,
    runs: Annotated[int, typer.Option(min=2, help="of each batch; a p99 needs 2,000, a p99.9 10,000")] = 2_000,
    out: Annotated[Path, typer.Option(help="folder for passport.json and passport.html")] = Path("takt-passport"),
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures to this file too")] = None,
) -> None:
    """Time raw frames to findings, host copies inside, beside this machine's floor. Ctrl-C writes what there is."""
    from engines import recipe as recipes
    from engines.cache import Choice
    from pipeline.config import data_home, load
    from pipeline.engine_room import choice_of
    from pipeline.signatures import load_recipe

    config = load(line) if line else None
    choice = choice_of(config) if config else Choice(runtime, precision, threads, max_batch)
    batches = _batches(batch, choice.max_batch)
    loaded = load_recipe(config, recipe) if config else recipes.load(recipe)
    options = f"--line {line}" if line else f"--runtime {runtime} --precision {precision} --threads {threads}"
    listed = ",".join(map(str, batches))
    command = f"takt bench engine {recipe} {options} --max-batch {choice.max_batch} --batch {listed} --runs {runs}"
    passport = _measured(loaded, choice, config.state if config else data_home(), (batches, runs), command)
    _left(passport, out, json_file)


def _batches(text: str | None, most: int) -> list[int]:
    from pipeline.errors import UsageError

    if text is None:
        return [1 << power for power in range(most.bit_length())]
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--batch {text}: panels in a batch, with commas between, as 1,2,4")
    batches = sorted({int(part) for part in parts})
    if batches[-1] > most:
        raise UsageError(
            f"--batch {batches[-1]}: the engine takes {most} panels at most: build one for more, --max-batch"
        )
    return batches


def _measured(
    recipe: "Recipe", choice: "Choice", state: Path, asked: tuple[list[int], int], command: str
) -> "EnginePassport":
    from pipeline.bench import engine as bench
    from pipeline.bench import floors, machine
    from pipeline.bench.clocks import Clocks
    from pipeline.bench.passport import EnginePassport, header
    from pipeline.bench.subject import subject_of
    from pipeline.bench.telling import telling
    from pipeline.supervisor import Interrupted

    engine = bench.engine_for(recipe, choice, state)
    batches, runs = asked
    panels = bench.panels_of(recipe, batches[-1])
    with bench.opened(recipe, engine) as detectors, telling() as show:
        show("rates of this machine", 0, 1)
        interrupted, clocks = Interrupted(), Clocks()
        rates = floors.rates(choice.runtime, choice.precision, choice.threads)
        show("warming up", 0, 1)
        told = (lambda done, total: show("rounds of all batches", done, total), lambda: interrupted.asked)
        times = bench.timed(detectors, panels, batches, runs, *told)
        for one in times if not interrupted.asked else ():
            bench.device_copies(detectors[0], panels, one)
            one.energy = bench.energy(detectors[0], panels, one.batch)
    kept = [one for one in times if one.every]
    if not kept:
        raise typer.Abort
    more = {
        "subject": subject_of(recipe, engine, panels[0]),
        "own_share": bench.own_share(kept),
        "interrupted": interrupted.asked,
        "warnings": list(clocks.said()),
        "rates": {"operations_per_s": rates.operations, "bytes_per_s": rates.bytes, "why_none": rates.why},
        "rows": [bench.row(recipe, engine, one, panels[0], rates) for one in kept],
    }
    return EnginePassport.model_validate(header(command, machine.facts()) | more)


def _left(passport: "EnginePassport", out: Path, json_file: Path | None) -> None:
    """Files, the figures for people, and the exit status."""
    from pipeline.bench.files import write_passport

    written = write_passport(passport, out, json_file)
    _show(passport)
    print(f"passport: {written}")  # noqa: T201
    for warning in passport.warnings:
        print(f"takt: {warning}", file=sys.stderr)  # noqa: T201
    raise typer.Exit(STOPPED if passport.interrupted else BROKEN if passport.warnings else 0)


def _show(passport: "EnginePassport") -> None:
    from rich.console import Console
    from rich.table import Table

    heads = (
        "batch",
        "median ms",
        "p90",
        "p99",
        "p99.9",
        "longest",
        "panels/s",
        "Mpx/s",
        "floor ms",
        "times it",
        "noise",
    )
    title = f"{passport.subject.runtime} {passport.subject.precision}, {passport.subject.threads} threads"
    table = Table(*heads, title=title)
    for row in passport.rows:
        ms = (row.ms.median, row.ms.p90, row.ms.p99, row.ms.p999, row.ms.max)
        rates = (row.panels_per_s, row.pixels_per_s / 1e6, row.floor_ms, row.ratio)
        noise = "-" if row.noise_floor is None else f"{row.noise_floor:.1%}"
        table.add_row(str(row.batch), *map(_number, ms), *map(_number, rates), noise)
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    console.print(table)
    console.print(f"copies, medians: {'; '.join(map(_copies, passport.rows))}", highlight=False, markup=False)
    if passport.rates.why_none:
        console.print(f"no floor: {passport.rates.why_none}", highlight=False, markup=False)
    for row in passport.rows:
        if row.energy_j_per_panel:
            console.print(f"batch {row.batch}, joules a panel: {row.energy_j_per_panel}", highlight=False)


def _copies(row: "Row") -> str:
    told = ", ".join(f"{name.replace('_', ' ')} {_number(each.median)} ms" for name, each in row.copies_ms.items())
    return f"batch {row.batch}: {told}"


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}"
