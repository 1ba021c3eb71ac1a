"""`takt limits`: other limits for a recipe that is taught."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines import recipe as recipes
from engines import zones as zoning
from engines.errors import UsageError
from engines.recipe import Promise
from pipeline.figures import show
from pipeline.signatures import unsigned

if TYPE_CHECKING:
    from calibration.relimit import Relimited

CONFIDENCE = 0.95
Chance = Annotated[float | None, typer.Option(min=0.0001, max=0.5, help="share of good panels that may be rejected")]


def register(app: typer.Typer) -> None:
    """Add this file's commands to the root command."""
    app.command("limits")(limits)


def limits(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="recipe folder")],
    out: Annotated[Path, typer.Option(help="folder to make; must not exist")],
    false_reject: Chance = None,
    confidence: Annotated[
        float | None, typer.Option(min=0.5, max=0.9999, help="with which that is promised; 0.95 unless said")
    ] = None,
    limit: Annotated[float | None, typer.Option(help="the score above which a panel is a reject, instead")] = None,
    pixel_limit: Annotated[float | None, typer.Option(help="the map's height above which a pixel is marked")] = None,
    min_area_mm2: Annotated[float | None, typer.Option(min=0, help="smaller defects are not listed")] = None,
    min_area_px: Annotated[float | None, typer.Option(min=0, help="the same in pixels of the panel")] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="a training panel that was looked at and is no good one; may be repeated"),
    ] = None,
    zones: Annotated[Path | None, typer.Option(help="TOML file with the polygons to inspect or ignore")] = None,
    no_zones: Annotated[bool, typer.Option("--no-zones", help="inspect the whole panel again")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")] = None,
) -> None:
    """Set a recipe's limits anew: a copy with another hash, its network kept, nothing exported."""
    from calibration.relimit import Wish, relimit

    if min_area_mm2 is not None and min_area_px is not None:
        raise UsageError("--min-area-mm2 and --min-area-px say the same: give one of them")
    wish = Wish(
        promise=_promise(false_reject, confidence),
        image=limit,
        pixel=pixel_limit,
        min_area_px=min_area_px,
        min_area_mm2=min_area_mm2,
        zones=zoning.read(zones) if zones else None,
        everywhere=no_zones,
        without=tuple(without or ()),
    )
    made = relimit(recipes.load(recipe), wish, out)
    for remark in (*made.remarks, unsigned(out)):
        print(remark, file=sys.stderr)  # noqa: T201
    show(_figures(made, out), json_file)


def _promise(rate: float | None, confidence: float | None) -> Promise | None:
    if rate is None and confidence is None:
        return None
    if rate is None:
        raise UsageError("--confidence belongs to --false-reject: give both")
    return Promise(rate=rate, confidence=CONFIDENCE if confidence is None else confidence)


def _figures(made: "Relimited", out: Path) -> dict[str, object]:
    found = made.recipe.manifest.limits
    return {
        "recipe": made.recipe.hash,
        "limit": found.image,
        "low": found.low,
        "pixel_limit": found.pixel,
        "min_area_px": found.min_area_px,
        "inspected": found.zones.share if found.zones else 1.0,
        "panels": found.statistics.panels,
        "promised_false_reject": found.promise.model_dump(),
        "out": str(out),
    }
