"""A recipe against the labelled panels of a set, through the production path."""

import time
from typing import Any

import numpy as np

from calibration import metrics
from calibration.metrics import Result
from calibration.panels import Panel, PanelSet, read_panel
from calibration.stack import Tell
from engines.detector import Detector
from engines.errors import PanelError


def evaluate(detector: Detector, panels: PanelSet, tell: Tell = lambda phase, done, total: None) -> dict[str, Any]:
    """Figures over `test/` of the set, see `calibration.metrics`, and milliseconds a panel.

    The time is that of `Detector.inspect` for one panel in memory: correction, resizing, network, decision, mask;
    reading the file is not in it.

    Raises:
        PanelError: the set has no test panels, or one does not fit the recipe.
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
    return {**figures, "ms_per_panel": times, "recipe": detector.recipe_hash, "engine": detector.engine_hash}


def _inspected(detector: Detector, panels: PanelSet, panel: Panel) -> tuple[Result, float]:
    names = [channel.name for channel in detector.manifest.channels]
    frames = read_panel(panel.path, names)
    started = time.perf_counter()
    (finding,) = detector.inspect([frames])
    ms = (time.perf_counter() - started) * 1e3
    mask = panels.mask(panel, (frames.shape[1], frames.shape[2]))
    small = None if mask is None else metrics.pooled_mask(mask)
    return Result(panel.defect, finding.passed, finding.score, metrics.pooled_map(finding.map), small), ms
