"""`takt teach`, `takt eval` and `takt inspect`: recipes from panels, and panels through recipes."""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import cv2
import typer
from numpy.typing import NDArray
from typer.core import TyperCommand

from calibration import overlay
from calibration.doubts import doubts
from calibration.panels import PanelSet, panels_at, read_panel
from engines import methods
from engines import recipe as recipes
from engines.cache import Choice
from engines.detector import Detector, Finding, GeometryError, open_detector
from engines.errors import PanelError, UsageError
from engines.recipe import Recipe
from pipeline.config import data_home
from pipeline.engine_room import cache_of
from pipeline.figures import show, write_json
from pipeline.messages import Fault, Outcome
from pipeline.progress import progress
from pipeline.signatures import unsigned
from pipeline.verdicts import PROBLEMS

RecipeArgument = Annotated[Path, typer.Argument(metavar="RECIPE", help="recipe folder")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")]
RuntimeOption = Annotated[str, typer.Option(help="what runs the network")]
PrecisionOption = Annotated[str, typer.Option(help="fp32, bf16, fp16, int8 or fp8")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="processor threads for the network")]


class Teach(TyperCommand):
    """`--tiles` alone stands for `--tiles auto`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spelled_out(args))


def spelled_out(words: Sequence[str]) -> list[str]:
    """The words of a command, with "auto" after a `--tiles` that no size follows."""
    found: list[str] = []
    for word, after in zip(words, [*words[1:], ""], strict=True):
        alone = word == "--tiles" and not (after == "auto" or after[:1].isdecimal())
        found += [word, "auto"] if alone else [word]
    return found


def register(app: typer.Typer) -> None:
    """Add this file's commands to the root command."""
    app.command("teach", cls=Teach)(teach)
    app.command("eval")(evaluate)
    app.command("inspect")(inspect)
    app.command("relearn")(relearn)


def teach(
    panels: Annotated[Path, typer.Argument(metavar="SET", help="panel set with train/good")],
    out: Annotated[Path, typer.Option(help="folder to make; must not exist")],
    method: Annotated[str, typer.Option(help="how to teach")] = methods.PRODUCTION,
    channels: Annotated[str, typer.Option(metavar="A,B", help="teach from these channels alone; all unless said")] = "",
    teacher_weights: Annotated[
        Path | None,
        typer.Option(help="folder with the teacher's weights; else one downloaded before, else the one that ships"),
    ] = None,
    download_weights: Annotated[
        bool, typer.Option("--download-weights", help="fetch them once, checked by SHA-256, instead of giving a folder")
    ] = False,
    weights_mirror: Annotated[
        str | None, typer.Option(metavar="URL", help="where to fetch them instead of download.pytorch.org/models")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="a setting of the method, schedule.batch=4")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="each is scored by a network taught from the others")] = 3,
    hold_out_every: Annotated[
        int | None, typer.Option(min=2, help="instead of folds: every so many-th panel only sets the limit")
    ] = None,
    false_reject: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="share of good panels that may be rejected")
    ] = 0.01,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="with which that is promised")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="of every random draw")] = 0,
    tiles: Annotated[
        str | None,
        typer.Option(metavar="[PX|PXxPX]", help="at the panels' own resolution, in tiles of this or of a fitting size"),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Teach a recipe from good panels."""
    train = _training("train")
    if download_weights and teacher_weights:
        raise UsageError("--teacher-weights and --download-weights: give one of them")
    request = train.Request(
        panels=PanelSet(panels, [name.strip() for name in channels.split(",") if name.strip()]),
        out=out,
        method=method,
        settings=_settings(setting or []),
        teacher_weights=teacher_weights,
        seed=seed,
        folds=folds,
        hold_out_every=hold_out_every,
        promise=recipes.Promise(rate=false_reject, confidence=confidence),
        tiles=tiles,
    )
    _tell_on_stderr(doubts(request.panels, "train"))
    with progress() as tell:
        if download_weights:
            _training("weights").fetch(method, request.settings, weights_mirror, tell)
        taught = train.teach(request, tell)
    remarks = (taught.tiling, *taught.finished.remarks(), unsigned(out))
    _tell_on_stderr(line for line in remarks if line)
    show(_taught(taught), json_file)


def evaluate(
    recipe: RecipeArgument,
    panels: Annotated[Path, typer.Argument(metavar="SET", help="panel set with test/")],
    runtime: RuntimeOption = "onnxruntime",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = 2,
    against: Annotated[
        Path | None, typer.Option(help="figures of another recipe on the same panels, to compare by paired bootstrap")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="also write a page with pictures, FILE.html")] = None,
    json_file: JsonOption = None,
) -> None:
    """Measure a recipe on labelled panels."""
    from calibration.evaluate import compared
    from calibration.evaluate import evaluate as measured

    if find_spec("sklearn") is None:  # known before the panels are inspected, not after
        raise UsageError("measuring needs scikit-learn: pip install 'takt[teach]'")
    loaded, labelled = recipes.load(recipe), PanelSet(panels)
    _tell_on_stderr(doubts(labelled, "test"))
    with _opened(loaded, Choice(runtime, precision, threads, _rows(loaded))) as detector, progress() as tell:
        figures = measured(detector, labelled, tell, report)
    if against:
        figures |= {"against": compared(figures, against)}
    show({name: value for name, value in figures.items() if name != "results"}, None)
    write_json(json_file, figures)


def inspect(
    recipe: RecipeArgument,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="panels, or folders of panels")],
    out: Annotated[Path | None, typer.Option(help="folder for masks and overlays")] = None,
    runtime: RuntimeOption = "onnxruntime",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = 2,
    json_file: JsonOption = None,
) -> None:
    """Inspect panels: one JSON line each. Exit status 1 with a reject, 2 with a panel that cannot be inspected."""
    loaded = recipes.load(recipe)
    names = [channel.name for channel in loaded.manifest.channels]
    lines = []
    with _opened(loaded, Choice(runtime, precision, threads, _rows(loaded))) as detector:
        for panel in [each for path in paths for each in panels_at(path, names)]:
            lines.append(_inspected(detector, panel, names, out))
            print(json.dumps(lines[-1]), flush=True)  # noqa: T201
    write_json(json_file, lines)
    raise typer.Exit(_status(lines))


def _rows(recipe: recipes.Recipe) -> int:
    """Of a batch, where panels come one by one: tiles share the golden one's costs, as far as memory is not wasted."""
    return 1 if isinstance(recipe.manifest.geometry, recipes.Resize) else 4


def relearn(
    recipe: RecipeArgument,
    panels: Annotated[Path, typer.Argument(metavar="SET", help="panel set with train/good")],
    out: Annotated[Path, typer.Option(help="folder to make; must not exist")],
) -> None:
    """Learn anew what undamaged image sets look like: a copy of the recipe, its network and limits kept."""
    from calibration.integrity import relearn as relearned

    with progress() as tell:
        made, found = relearned(recipes.load(recipe), PanelSet(panels), out, tell)
    _tell_on_stderr(line for line in (found.said(), unsigned(out)) if line)
    show({"recipe": made.hash, "panels": found.limits.panels, "refuses": found.figures(), "out": str(out)}, None)


def _opened(recipe: Recipe, choice: Choice) -> AbstractContextManager[Detector]:
    """The engine as `takt build` left it in the user's data folder, certified or not: here no panel goes anywhere."""
    engine = cache_of(data_home()).find(recipe, choice)
    return open_detector(recipe, **dataclasses.asdict(choice), derived=engine.graph if engine else None)


def _inspected(detector: Detector, path: Path, names: list[str], out: Path | None) -> dict[str, Any]:
    """The line for one panel; one that cannot be inspected is a reject with a fault, and said on stderr."""
    try:
        frames = read_panel(path, names, others=True)
        detector.check(frames)
        damage = detector.integrity(frames)
        (finding,) = detector.inspect([frames])
    except PanelError as error:
        print(error if str(path) in str(error) else f"{path}: {error}", file=sys.stderr)  # noqa: T201
        fault = Fault.GEOMETRY if isinstance(error, GeometryError) else Fault.INCOMPLETE
        return _line(detector, path, None, fault, {})
    fault = PROBLEMS[finding.problem] if finding.problem else None
    if damage:
        fault = Fault(damage.cause.value)
        print(f"{path}: {fault}: {', '.join(detector.channels(damage.channels))}", file=sys.stderr)  # noqa: T201
    pictures = _pictures(out / path.stem, frames, finding, detector, names) if out else {}
    return _line(detector, path, finding, fault, pictures)


def _line(
    detector: Detector, path: Path, finding: Finding | None, fault: Fault | None, pictures: dict[str, str]
) -> dict[str, Any]:
    passed = finding is not None and finding.passed and fault is None
    return {
        "panel": str(path),
        "outcome": (Outcome.PASS if passed else Outcome.REJECT).value,
        "fault": fault.value if fault else None,
        "score": finding.score if finding and math.isfinite(finding.score) else None,
        "limit": detector.limits.image,
        "defects": [dataclasses.asdict(defect) for defect in finding.defects] if finding else [],
        "mask": pictures.get("mask"),
        "overlay": pictures.get("overlay"),
        "recipe": detector.recipe_hash,
        "engine": detector.engine_hash,
    }


def _pictures(stem: Path, frames: NDArray, finding: Finding, detector: Detector, names: list[str]) -> dict[str, str]:
    """Write mask and overlay, named after the panel and counted where a name comes twice."""
    place = _unused(stem)
    shown = finding.defects[0].channels[0] if finding.defects and finding.defects[0].channels else names[0]
    heated = overlay.heat(frames[names.index(shown)], finding.map, detector.limits.pixel)
    mask, over = Path(f"{place}_mask.png"), Path(f"{place}_overlay.png")
    _write_picture(mask, finding.mask.astype("uint8") * 255)
    _write_picture(over, overlay.outlined(heated, finding.mask))
    return {"mask": str(mask), "overlay": str(over)}


def _unused(stem: Path) -> Path:
    place, number = stem, 2
    while Path(f"{place}_mask.png").exists():
        place, number = stem.with_name(f"{stem.name}-{number}"), number + 1
    return place


def _write_picture(path: Path, picture: NDArray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imencode(".png", picture)[1].tofile(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None


def _status(lines: list[dict[str, Any]]) -> int:
    if any(line["score"] is None and line["fault"] in ("GEOMETRY", "INCOMPLETE") for line in lines):
        return 2
    return int(any(line["outcome"] != Outcome.PASS.value for line in lines))


def _training(module: str) -> Any:
    """A module of `calibration` that needs the extra [teach]."""
    # threads that wait for each other must not spin: beside other programs that takes ten times as long
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        return import_module(f"calibration.{module}")
    except ModuleNotFoundError as missing:
        raise UsageError(f"teaching needs {missing.name}: pip install 'takt[teach]'") from missing


def _settings(pairs: list[str]) -> dict[str, Any]:
    """["height=224", "schedule.batch=4"] as nested values; a value is JSON, or else a text."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, mark, text = pair.partition("=")
        if not mark or not name:
            raise UsageError(f"--set {pair}: write it as NAME=VALUE")
        *path, last = name.split(".")
        inner = settings
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = _value(text)
    return settings


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _taught(taught: Any) -> dict[str, Any]:
    manifest, finished = taught.recipe.manifest, taught.finished
    return {
        "recipe": taught.recipe.hash,
        "method": manifest.method,
        "panels": manifest.training.panels + manifest.training.held_out,
        "held_out": manifest.training.held_out,
        "teacher": manifest.training.teacher,
        "seconds": round(taught.seconds, 1),
        "peak_memory_mb": round(taught.peak_memory_mb),
        "limit": manifest.limits.image,
        "promised_false_reject": manifest.limits.promise.model_dump(),
        "integrity_refuses": finished.integrity.figures() if finished.integrity else None,
        "suspects": list(finished.suspects.names),
        "synthetic": finished.reliance.figures() if finished.reliance else None,
        "parity": taught.parity,
        "tiles": taught.tiling,
        "out": str(taught.recipe.path),
    }


def _tell_on_stderr(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)  # noqa: T201
