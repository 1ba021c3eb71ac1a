"""A recipe against the labelled panels of a set, through the production path."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibration import eval_report, metrics, paired
from calibration.metrics import Result
from calibration.panels import Panel, PanelSet, read_panel
from calibration.stack import Tell
from engines.detector import Detector
from engines.errors import PanelError, UsageError


def evaluate(
    detector: Detector,
    panels: PanelSet,
    tell: Tell = lambda phase, done, total: None,
    report: Path | None = None,
) -> dict[str, Any]:
    """Figures over `test/` of the set, see `calibration.metrics`, and milliseconds a panel.

    Of every panel the recipe's channels are read, whatever others there are. Every set goes through the integrity
    checks, each for itself: what only a run of sets would show is not looked for.

    The time is that of `Detector.inspect` for one panel in memory: correction, resizing, network, decision, mask;
    reading the file is not in it. `report` is where a page with pictures goes.

    Raises:
        PanelError: the set has no test panels, or one does not fit the recipe.
        UsageError: the page cannot be written.
    """
    found = list(panels.panels("test"))
    if not found:
        raise PanelError(f"{panels.path}: has no panels in test/; expected test/good and test/<defect>")
    detector.warm()
    results, taken_ms = [], []
    for number, panel in enumerate(found):
        tell("evaluating", number, len(found))
        result, ms = _inspected(detector, panels, panel)
        results.append(result)
        taken_ms.append(ms)
    figures = metrics.figures(results, detector.limits.pixel)
    times = {"median": float(np.median(taken_ms)), "p99": float(np.percentile(taken_ms, 99))}
    figures |= {"ms_per_panel": times, "recipe": detector.recipe_hash, "engine": detector.engine_hash}
    if report:
        _write(report, figures, results, detector, panels)
    return figures


def _write(
    path: Path, figures: dict[str, Any], results: Sequence[Result], detector: Detector, panels: PanelSet
) -> None:
    try:
        eval_report.write(path, figures, results, detector, panels)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None


def compared(figures: dict[str, Any], other: Path) -> dict[str, Any]:
    """`figures` against those of another recipe in the file `other`, see `calibration.paired.compared`.

    Raises:
        UsageError: the file holds no evaluation, or one of other panels.
    """
    try:
        theirs = json.loads(other.read_text(encoding="utf-8"))
        return {"recipe": theirs["recipe"], **paired.compared(figures, theirs)}
    except OSError as error:
        raise UsageError(f"{other}: cannot be read: {error.strerror or error}") from None
    except (KeyError, TypeError):
        raise UsageError(f"{other}: is no evaluation; takt eval RECIPE SET --json {other} writes one") from None
    except ValueError as error:
        raise UsageError(f"{other}: {error}") from None


def _inspected(detector: Detector, panels: PanelSet, panel: Panel) -> tuple[Result, float]:
    names = [channel.name for channel in detector.manifest.channels]
    frames = read_panel(panel.path, names, others=True)
    detector.check(frames)
    damage = detector.integrity(frames)
    started = time.perf_counter()
    (finding,) = detector.inspect([frames])
    ms = (time.perf_counter() - started) * 1e3
    mask = panels.mask(panel, (frames.shape[1], frames.shape[2]))
    small = None if mask is None else metrics.pooled_mask(mask)
    seen = metrics.pooled_map(finding.map)
    cause = damage.cause.value if damage else None
    return Result(panel.defect, finding.passed, finding.score, seen, small, panel.name, cause), ms
