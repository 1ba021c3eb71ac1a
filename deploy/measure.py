"""See `deploy/measure`. One cell is one recipe taught and evaluated; its JSON holds both commands' figures."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from calibration import bootstrap, paired
from calibration.bootstrap import Floats
from engines.errors import TaktError, UsageError
from engines.recipe import MANIFEST
from engines.settings import checked, read_toml
from pipeline.bench import machine

CONSOLE = Console(stderr=True)
PLAN = Path(__file__).with_suffix(".toml")
HEADS = ("set", "method", "seed", "image AUROC", "mean over types", "pixel AP", "AU-PRO 0.3 / 0.05", "false rejects",
         "misses", "promise", "ms", "teach s")  # fmt: skip
METRICS = ("image_auroc_mean", "pixel_ap", "aupro30", "aupro05")
WITHOUT = "mean without"
FACTS = ("cpu", "cpu_kind", "cores_usable", "load", "python", "versions")  # of the machine, that figures can hang on


class Method(BaseModel):
    """Options of `takt teach`, and the sets it is for; empty: all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    teach: tuple[str, ...]
    sets: tuple[str, ...] = ()


class Plan(BaseModel):
    """The table to fill. `without`: by set, kinds of defect without which the mean over kinds is told as well."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sets: tuple[str, ...] = Field(min_length=1)
    methods: dict[str, Method] = Field(min_length=1)
    seeds: tuple[int, ...] = (0,)
    without: dict[str, tuple[str, ...]] = {}


@dataclass(frozen=True)
class Cell:
    """One entry of the table."""

    method: str
    set: str
    seed: int
    teach: tuple[str, ...]

    @property
    def name(self) -> str:
        """A file name."""
        return "--".join(re.sub(r"[^a-z0-9_]+", "-", part.lower()) for part in (self.set, self.method, f"s{self.seed}"))


@dataclass(frozen=True)
class Bench:
    """Where cells are measured: the program, the sets, the teachers' weights, and the folder of results."""

    takt: str
    data: Path
    weights: Path | None
    results: Path
    threads: int

    def file(self, cell: Cell) -> Path:
        return self.results / f"{cell.name}.json"

    def recipe(self, cell: Cell) -> Path:
        return self.results / "recipes" / cell.name


def plan_of(path: Path) -> Plan:
    """The table that the TOML file `path` describes."""
    return checked(Plan, read_toml(path, str(path)), str(path))


def cells(plan: Plan) -> Iterator[Cell]:
    """All entries, set by set."""
    for name in dict.fromkeys([*plan.sets, *(each for method in plan.methods.values() for each in method.sets)]):
        for title, method in plan.methods.items():
            for seed in plan.seeds if name in (method.sets or plan.sets) else ():
                yield Cell(title, name, seed, method.teach)


def chosen(entries: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """Those that `only`, NAME=VALUE each, leaves: of one name any value, of several names all.

    Raises:
        UsageError: there is no such name, or no entry of that value.
    """
    wanted: dict[str, set[str]] = {}
    for pair in only:
        name, mark, value = pair.partition("=")
        if not mark or name not in ("method", "set", "seed"):
            raise UsageError(f"--only {pair}: write method=..., set=... or seed=...")
        there = dict.fromkeys(str(getattr(cell, name)) for cell in entries)
        if value not in there:
            raise UsageError(f"--only {pair}: the plan has {', '.join(there)}")
        wanted.setdefault(name, set()).add(value)
    return [cell for cell in entries if all(str(getattr(cell, name)) in each for name, each in wanted.items())]


def known(bench: Bench, cell: Cell) -> dict[str, Any] | None:
    """The cell's figures, if it was measured.

    Raises:
        UsageError: it was measured with other options.
    """
    path = bench.file(cell)
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    if tuple(found["options"]) != cell.teach:
        raise UsageError(f"{path}: was measured with {' '.join(found['options'])}: remove it to measure it anew")
    return found


def measure(bench: Bench, cell: Cell) -> dict[str, Any]:
    """Teach and evaluate; a recipe that is there is not taught again, a teaching that was interrupted goes on.

    Raises:
        UsageError: one of the commands failed; its last words.
    """
    panels, recipe = bench.data / cell.set, bench.recipe(cell)
    told, found = recipe.with_suffix(".teach.json"), recipe.with_suffix(".eval.json")
    recipe.parent.mkdir(parents=True, exist_ok=True)
    if not (recipe.is_dir() and told.is_file()):
        shutil.rmtree(recipe, ignore_errors=True)
        weights = ["--teacher-weights", str(bench.weights)] if bench.weights else []
        own = ["--seed", str(cell.seed), "--out", str(recipe), "--json", str(told)]
        _run([bench.takt, "teach", str(panels), *cell.teach, *weights, *own])
    _run([bench.takt, "eval", str(recipe), str(panels), "--threads", str(bench.threads), "--json", str(found)])
    figures = {
        "method": cell.method,
        "set": cell.set,
        "seed": cell.seed,
        "options": cell.teach,
        "teach": json.loads(told.read_text()) | {"out": ""},
        "eval": json.loads(found.read_text()),
        "settings": json.loads((recipe / MANIFEST).read_text(encoding="utf-8"))["settings"],
        "machine": {name: fact for name, fact in machine.facts().items() if name in FACTS},
    }
    part = bench.file(cell).with_suffix(".part")
    part.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    part.replace(bench.file(cell))
    return figures


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UsageError(f"takt {command[1]} ended with {done.returncode}: {said}")


def table(found: list[dict[str, Any]]) -> str:
    """Markdown, a row a cell; intervals in brackets."""
    return _markdown(HEADS, map(_row, found))


def by_type(found: list[dict[str, Any]]) -> str:
    """Markdown, a row a kind of defect of each cell."""
    heads = ("set", "method", "seed", "defect", "image AUROC", "image AP", "pixel AP", "misses")
    rows = []
    for each in found:
        figures = each["eval"]
        for kind, own in figures["by_defect"].items():
            auroc = _number(own["image_auroc"], own["interval95"])
            pixel = _number(figures["pixel_ap_by_defect"].get(kind))
            rows.append((*_name(each), kind, auroc, _number(own["image_ap"]), pixel, _count(own["miss"])))
    return _markdown(heads, rows)


def without_kinds(found: list[dict[str, Any]], without: dict[str, tuple[str, ...]]) -> str:
    """Markdown: the mean of image AUROC over the kinds of defect but those that `without` names for the set."""
    rows = []
    for each in found:
        if kinds := without.get(each["set"]):
            left = _left(each["eval"], kinds)
            names, scores = zip(*((row["defect"], row["score"]) for row in left["results"]), strict=True)
            drawn = np.concatenate([np.ones((1, len(names))), bootstrap.weights(names)])
            values = bootstrap.image_figures(names, bootstrap.ranked(scores), drawn).get("image_auroc_mean")
            said = "-" if values is None else _number(values[0], bootstrap.interval(values[1:]))
            rows.append((*_name(each), ", ".join(kinds), said))
    return _markdown(("set", "method", "seed", "without", "image_auroc_mean"), rows)


def against(found: list[dict[str, Any]], first: str, without: dict[str, tuple[str, ...]]) -> str:
    """Markdown: by set and seed, each metric of method `first` less that of each other, on the same draws of panels.

    Then the mean of those differences over the sets, whose panels are drawn independently.
    """
    rows, by_method = [], {}
    for number, each in enumerate(found):
        partner = next((one for one in found if _place(one) == _place(each) and one["method"] == first), None)
        if partner and each["method"] != first:
            drawn = _draws(partner, each, without.get(each["set"], ()), number)
            by_method.setdefault(each["method"], []).append(drawn)
            rows.append((*_name(each), *_differences([drawn])))
    rows += [("all", method, f"{len(cells)} cells", *_differences(cells)) for method, cells in by_method.items()]
    return _markdown(("set", f"{first} less", "seed", *METRICS, "image_auroc_mean_without"), rows)


def _draws(one: dict[str, Any], other: dict[str, Any], kinds: tuple[str, ...], seed: int) -> dict[str, Floats]:
    drawn = paired.draws(one["eval"], other["eval"], seed)
    left = paired.draws(_left(one["eval"], kinds), _left(other["eval"], kinds), seed) if kinds else {}
    return drawn | ({WITHOUT: left["image_auroc_mean"]} if "image_auroc_mean" in left else {})


def _left(figures: dict[str, Any], kinds: tuple[str, ...]) -> dict[str, Any]:
    """The evaluation without the panels of some kinds of defect; its figures are left out, which told of all."""
    return {"results": [row for row in figures["results"] if row["defect"] not in kinds]}


def _differences(cells: list[dict[str, Floats]]) -> Iterator[str]:
    """For each metric the mean over the cells that have it: difference, interval, share of draws above 0."""
    for name in (*METRICS, WITHOUT):
        there = [cell[name] for cell in cells if name in cell]
        found = paired.difference(np.mean(there, axis=0)) if there else None
        yield _difference(found) + (f" ({len(there)})" if len(cells) > 1 else "") if found else "-"


def _difference(found: dict[str, Any]) -> str:
    low, high = found["interval95"]
    return f"{found['difference']:+.3f} [{low:+.3f}, {high:+.3f}], better in {found['share_above']:.0%}"


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, ("---",) * len(heads), *rows))


def over_sets(found: list[dict[str, Any]], everywhere: Sequence[str]) -> str:
    """Markdown, a row for each of the methods `everywhere`: the mean of each metric over the cells that all have.

    Behind a mean stands of how many cells it is: a set without masks has no pixel figures.
    """
    by_method = {name: {_place(each): each["eval"] for each in found if each["method"] == name} for name in everywhere}
    started = {name: cells for name, cells in by_method.items() if cells}
    shared = sorted(set.intersection(*(set(cells) for cells in started.values())) if started else set())
    rows = []
    for name, cells in by_method.items():
        values = [[cells[key][metric] for key in shared if key in cells] for metric in METRICS]
        rows.append((name, f"{sum(key in cells for key in shared)} of {len(cells)}", *map(_mean, values)))
    return _markdown(("method", "cells", *METRICS), rows)


def _place(each: dict[str, Any]) -> tuple[str, int]:
    return each["set"], each["seed"]


def _mean(values: Sequence[float | None]) -> str:
    there = [value for value in values if value is not None]
    return f"{sum(there) / len(there):.3f} ({len(there)})" if there else "-"


def _name(each: dict[str, Any]) -> tuple[str, str, str]:
    return each["set"], each["method"], str(each["seed"])


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    figures, taught = each["eval"], each["teach"]
    spread, promise = figures["intervals95"], taught["promised_false_reject"]
    return (
        *_name(each),
        *(_number(figures[name], spread.get(name)) for name in ("image_auroc", "image_auroc_mean", "pixel_ap")),
        f"{_number(figures['aupro30'])} / {_number(figures['aupro05'])}",
        _count(figures["false_reject"]),
        _count(figures["miss"]),
        f"{promise['rate']:.1%} at {promise['confidence']:.0%}",
        f"{figures['ms_per_panel']['median']:.0f}",
        f"{taught['seconds']:.0f}",
    )


def _number(value: float | None, interval: Sequence[float] | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def _count(of: dict[str, Any]) -> str:
    if not of["n"]:
        return "-"
    low, high = of["interval95"]
    return f"{of['k']}/{of['n']} [{low:.0%}, {high:.0%}]"


def fill(bench: Bench, wanted: Sequence[Cell]) -> int:
    """Measure what is not there; how many cells failed, each said on stderr."""
    failed = 0
    for number, cell in enumerate(wanted):
        if known(bench, cell) is not None:
            continue
        CONSOLE.print(f"{number + 1} of {len(wanted)}: {cell.method} on {cell.set}, seed {cell.seed}")
        try:
            measure(bench, cell)
        except UsageError as error:
            failed += 1
            CONSOLE.print(f"{cell.name}: {error}")
    return failed


def main(
    data: Annotated[Path, typer.Option(help="folder that holds the sets")] = Path(),
    weights: Annotated[Path | None, typer.Option(help="folder with the teachers' weights")] = None,
    plan: Annotated[Path, typer.Option(help="the table to fill")] = PLAN,
    results: Annotated[Path | None, typer.Option(help="where cells are kept; outside this tree unless said")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="method=..., set=... or seed=...; several may be given")
    ] = None,
    takt: Annotated[str, typer.Option(help="the program to measure")] = str(Path(sys.executable).with_name("takt")),
    threads: Annotated[int, typer.Option(min=1, help="of `takt eval`")] = 2,
    print_only: Annotated[bool, typer.Option("--print", help="measure nothing; print what there is")] = False,
) -> None:
    """Fill the table and print it as Markdown; exit status 1 where a cell failed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    bench = Bench(takt, data, weights, results or cache / "takt" / "measure", threads)
    try:
        table_of = plan_of(plan)
        wanted = chosen(list(cells(table_of)), only or [])
        failed = 0 if print_only else fill(bench, wanted)
        found = [figures for cell in wanted if (figures := known(bench, cell))]
    except TaktError as error:
        CONSOLE.print(str(error))
        raise typer.Exit(error.exit_status) from None
    everywhere = [name for name, method in table_of.methods.items() if not method.sets]
    first, without = next(iter(table_of.methods)), table_of.without
    tables = (table(found), by_type(found), without_kinds(found, without), over_sets(found, everywhere))
    print(*tables, against(found, first, without), sep="\n\n")  # noqa: T201
    raise typer.Exit(int(failed > 0))


if __name__ == "__main__":
    typer.run(main)
