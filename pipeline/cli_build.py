"""`takt build`: an engine for a recipe, and the proof on this machine that its verdicts are the reference's."""

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from engines import derivation
from engines import recipe as recipes
from engines.cache import Choice
from engines.certifying import Built
from engines.derivation import Labelled
from engines.detector import open_detector
from engines.recipe import Recipe
from pipeline import engine_room
from pipeline.config import data_home, load
from pipeline.engine_room import choices_of, workshop_of
from pipeline.figures import show
from pipeline.progress import progress
from pipeline.signatures import load_recipe

REFUSED = 1


def register(app: typer.Typer) -> None:
    """Add this file's command to the root command."""
    app.command("build")(build)


def build(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="recipe folder; it is only read")],
    line: Annotated[
        Path | None, typer.Option(metavar="LINE.toml", help="build what this line uses, where it looks for it")
    ] = None,
    runtime: Annotated[str, typer.Option(help="what runs the network; a line says its own")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, bf16, fp16, int8 or fp8; a line says its own")] = "fp32",
    max_batch: Annotated[int, typer.Option(min=1, help="panels in one batch at most")] = 8,
    threads: Annotated[int, typer.Option(min=1, help="processor threads for the network")] = 2,
    panels: Annotated[
        Path | None, typer.Option(metavar="SET", help="int8 learns from its good panels too; its test/ is judged")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="derive and measure anew even where a certificate is")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")] = None,
) -> None:
    """Build an engine and certify it. Exit status 1 where it is refused, with the reason."""
    from calibration.derivation import calibrating, judging
    from calibration.panels import PanelSet

    config = load(line) if line else None
    choices = choices_of(config) if config else [Choice(runtime, precision, threads, max_batch)]
    loaded = load_recipe(config, recipe) if config else recipes.load(recipe)
    labelled = PanelSet(panels) if panels else None
    with progress() as tell:
        workshop = workshop_of(config.state if config else data_home(), tell)
        more = calibrating(labelled, loaded.manifest) if labelled else None
        built = engine_room.build(workshop, loaded, choices, list(more) if more and len(choices) > 1 else more, again)
        test = judging(labelled, loaded.manifest) if labelled else ()
        changed = _changed(loaded, built, test, workshop.cache.folder)
    show(_figures(built) | changed, json_file)
    if not built.certificate.granted:
        print(f"takt: refused: {built.certificate.reason}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(REFUSED)


def _figures(built: Built) -> dict[str, Any]:
    certificate, key = built.certificate, built.engine.key
    return {
        "engine": key.hash,
        "runtime": key.runtime,
        "precision": key.precision,
        "granted": certificate.granted,
        "flipped": list(certificate.flipped),
        "score_error": certificate.score_error,
        "nearest_margin": certificate.nearest_margin,
        "nearest": certificate.nearest,
        "rows_differ": max((panel.rows for panel in certificate.panels), default=0.0),
        "rounds_differ": max((panel.repeat for panel in certificate.panels), default=0.0),
        "map_error": max((panel.map_error for panel in certificate.panels), default=0.0),
        "device": key.device,
        "profile": key.profile,
        "measured": certificate.issued,
        "fresh": built.fresh,
    }


def _changed(recipe: Recipe, built: Built, test: Iterable[Labelled], kept: Path) -> dict[str, Any]:
    """What a lower precision changed, on the golden panels and on those of `test`; nothing where none is derived."""
    if built.engine.graph is None:
        return {}
    choice = dataclasses.asdict(built.engine.choice)
    taught = {"runtime": "onnxruntime", "precision": "fp32", "threads": choice["threads"], "max_batch": 1}
    panels = {"golden": derivation.golden(recipe), "test": list(test)}
    found = {}
    with (
        open_detector(recipe, **taught, proving=False) as before,
        open_detector(recipe, **choice, derived=built.engine.graph, proving=False, kept=kept) as after,
    ):
        for name, each in panels.items():
            if each:
                change = derivation.change(derivation.answers(before, each), derivation.answers(after, each))
                found[f"changed_on_{name}"] = dataclasses.asdict(change)
    return found
