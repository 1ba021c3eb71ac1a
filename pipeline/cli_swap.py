"""`takt recipe`: which recipe answers to a number of the PLC, changed while the line runs."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.config import load
from pipeline.figures import write_json
from pipeline.wishes import Place

recipe_app = typer.Typer(no_args_is_help=True, help="The recipes in use: show them, use another one, go back.")
Line = Annotated[Path, typer.Argument(metavar="LINE.toml", help="the line file")]
Number = Annotated[int, typer.Argument(min=0, max=65535, help="the PLC's recipe number")]
Wait = Annotated[float, typer.Option("--wait", min=0.1, help="seconds to wait for a line that runs")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")]


def register(app: typer.Typer) -> None:
    """Add this file's commands to the root command."""
    app.add_typer(recipe_app, name="recipe")


@recipe_app.command()
def use(
    line: Line,
    number: Number,
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="recipe folder")],
    other_product: Annotated[bool, typer.Option("--other-product", help="it is for another product")] = False,
    wait_s: Wait = 60.0,
    json_file: JsonFile = None,
) -> None:
    """Use another recipe for a number: between two panels where the line runs, else from the next start."""
    place = Place(path=recipe.resolve())
    _ask(line, number, place, wait_s, json_file, other_product=other_product)


@recipe_app.command()
def back(line: Line, number: Number, wait_s: Wait = 60.0, json_file: JsonFile = None) -> None:
    """Use the recipe again that was in use before; again: the one before that."""
    from pipeline import asking

    _ask(line, number, asking.back(load(line), number), wait_s, json_file, other_product=True)


@recipe_app.command()
def show(line: Line, json_file: JsonFile = None) -> None:
    """List number, product, recipe, engine and state; exit status 3 where one is refused."""
    from pipeline import asking

    found = asking.shown(load(line))
    if found["trouble"]:
        _print(f"the wishes are not heard: {found['trouble']}")
    for row in found["recipes"]:
        _print(_text(row))
    write_json(json_file, found)
    wrong = found["trouble"] or any(row["state"] == "refused" for row in found["recipes"])
    raise typer.Exit(3 if wrong else 0)


def _ask(line: Path, number: int, place: Place, wait_s: float, json_file: Path | None, *, other_product: bool) -> None:
    from pipeline import asking

    config = load(line)
    place, remarks = asking.checked(config, number, place, other_product=other_product)
    for remark in remarks:
        print(remark, file=sys.stderr)  # noqa: T201
    said = asking.ask(config, number, place, wait_s)
    _print(f"recipe {number}: {place.recipe[:12]} {said}  {place.path}")
    write_json(json_file, {"number": number, "recipe": place.recipe, "path": str(place.path), "said": said})


def _text(row: dict[str, Any]) -> str:
    names = f"{row['recipe'][:12]:12}  {row['engine'][:12]:12}"
    return f"{row['number']:5}  {row['product']:16} {names}  {row['state']:8} {row['reason'] or row['path']}"


def _print(text: str) -> None:
    print(text)  # noqa: T201
