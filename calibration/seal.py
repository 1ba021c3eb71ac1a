"""The last part of teaching: limits, golden panels and report from panels kept back, then the seal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration import golden, report
from calibration.integrity import learned
from calibration.limits import set_limits
from calibration.panels import PanelSet
from calibration.stack import Stack, Tell
from engines import recipe
from engines.detector import Detector, open_detector
from engines.recipe import Channel, Limits, Promise, Resize, ScoreStatistics, Training


@dataclass(frozen=True)
class Draft:
    """A recipe folder that holds its network but no limits yet."""

    folder: Path
    panels: PanelSet
    method: str
    settings: dict[str, Any]
    geometry: Resize
    training: Training
    losses: Sequence[float]

    def facts(self, dtype: str) -> dict[str, Any]:
        """What the manifest says before there are limits."""
        return {
            "product": self.panels.product,
            "channels": tuple(map(_channel, self.panels.channels)),
            "geometry": self.geometry,
            "dtype": dtype,
            "method": self.method,
            "settings": self.settings,
            "training": self.training,
            "mm_per_px": self.panels.facts.mm_per_px,
        }


def finish(draft: Draft, held_out: Stack, promise: Promise, tell: Tell) -> str | None:
    """Score the held-out panels on the production path, set limits, choose golden panels, report, seal.

    Returns a remark where the promise cannot be kept.

    Raises:
        PanelError: too few panels, or a network that does not see synthetic defects.
    """
    integrity = learned(draft.panels, draft.panels.channels, tell)
    facts = draft.facts(held_out.frames.dtype.name) | {"integrity": integrity}
    unlimited = recipe.write(draft.folder, {**facts, "limits": _unlimited()})
    with open_detector(unlimited) as detector:
        scores, maps = _scored(detector, held_out.frames, tell)
        limits, remark = set_limits(scores, maps, promise, held_out.cell_px)
        rng = np.random.default_rng(draft.training.seed)
        recipe.write_golden(draft.folder, golden.choose(detector, held_out.frames, limits.image, rng))
    frames = held_out.frames[:, 0]
    shown = [report.Shown(*each) for each in zip(held_out.names, frames, maps, scores.tolist(), strict=True)]
    report.write(draft.folder / "report.html", _table(facts, limits, remark), draft.losses, shown, limits)
    recipe.write(draft.folder, {**facts, "limits": limits})
    return remark


def _channel(name: str) -> Channel:
    light, mark, focus = name.rpartition("_")
    return Channel(name=name, light=light, focus=focus) if mark else Channel(name=name, light=name)


def _scored(detector: Detector, frames: NDArray, tell: Tell) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    findings = []
    for number, panel in enumerate(frames):
        tell("scoring", number, len(frames))
        findings += detector.inspect([panel])
    return np.array([one.score for one in findings]), np.stack([one.map for one in findings])


def _unlimited() -> Limits:
    """Limits that reject nothing, for the recipe that scores the panels its limits are made of."""
    nothing = ScoreStatistics(panels=0, mean=0.0, std=0.0, minimum=0.0, median=0.0, maximum=0.0)
    most = float(np.finfo(np.float32).max)
    promise = Promise(rate=1.0, confidence=0.0)
    return Limits(image=most, pixel=most, low=-most, min_area_px=1, promise=promise, statistics=nothing)


def _table(facts: dict[str, Any], limits: Limits, remark: str | None) -> dict[str, Any]:
    training: Training = facts["training"]
    kept = limits.promise
    return {
        "product": facts["product"],
        "method": facts["method"],
        "teacher": training.teacher,
        "channels": ", ".join(channel.name for channel in facts["channels"]),
        "input": f"{facts['geometry'].height} x {facts['geometry'].width} {facts['dtype']}",
        "panels": f"{training.panels} taught, {training.held_out} held out",
        "limit": f"{limits.image:.4g}",
        "promise": f"at most {kept.rate:.1%} false rejects with {kept.confidence:.0%} confidence",
        "integrity": f"learned from {facts['integrity'].panels} panels" if facts["integrity"] else "not checked",
        "remark": remark or "none",
        **training.facts,
    }
