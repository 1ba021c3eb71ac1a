"""The last part of teaching: limits, golden panels and report from panels kept back, then the seal."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration import golden, report, scores, tiling
from calibration.integrity import Learned, learned
from calibration.pages import Shown
from calibration.panels import PanelSet
from calibration.reliance import Reliance, reliance
from calibration.scores import Scores
from calibration.stack import Stack, Tell
from calibration.suspects import Suspects, suspects
from engines import recipe, zones
from engines.detector import Detector, Finding, open_detector
from engines.errors import EngineError, PanelError
from engines.recipe import Channel, Limits, Promise, Resize, ScoreStatistics, Tiles, Training
from engines.scoring import lowest_of_piece
from engines.zones import Part

RULE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Draft:
    """A recipe folder that holds its network but no limits yet."""

    folder: Path
    panels: PanelSet
    method: str
    settings: dict[str, Any]
    geometry: Resize | Tiles
    training: Training
    losses: Sequence[float]
    rule: tuple[Part, ...] = ()  # how the score follows from the map, as the method states it
    more: tuple[str, ...] = ()  # sections of the report

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
            "score": self.rule,
        }


@dataclass(frozen=True, eq=False)
class Scored:
    """Good panels with `scores` [n] and `maps` [n, h, w] of a network that was not taught from them.

    `weights` [n, parts] are those of its rule.
    """

    panels: Stack
    scores: NDArray[np.float64]
    maps: NDArray[np.float32]
    weights: NDArray[np.float64]

    def kept(self) -> Scores:
        """What the recipe keeps of it."""
        return Scores(self.panels.names, self.scores, self.maps, self.weights, self.panels.specimens)


def scored(draft: Draft, panels: Stack, tell: Tell, phase: str) -> Scored:
    """What the draft's network says of `panels` on the production path, without limits."""
    dtype = panels.frames.dtype.name
    rows = []
    with open_detector(recipe.write(draft.folder, {**draft.facts(dtype), "limits": _unlimited()})) as detector:
        for number, frames in enumerate(panels.frames):
            tell(phase, number, len(panels.names))
            (found,) = detector.inspect([frames])
            _check_rule(draft.rule, found)
            rows.append((found.score, found.map))
    weights = np.tile([part.weight for part in draft.rule], (len(rows), 1))
    return Scored(panels, np.array([score for score, _ in rows]), np.stack([map for _, map in rows]), weights)


def _check_rule(rule: tuple[Part, ...], finding: Finding) -> None:
    if rule and not abs(zones.whole(finding.map, rule) - finding.score) <= RULE_TOLERANCE * (1 + abs(finding.score)):
        stated = zones.whole(finding.map, rule)
        raise EngineError(f"the network scores {finding.score:.6g} where the method's own rule says {stated:.6g}")


@dataclass(frozen=True)
class Finished:
    """What is to be told of a sealed recipe. `remark`: where the promise cannot be kept."""

    remark: str | None
    suspects: Suspects
    reliance: Reliance | None
    integrity: Learned | None

    def doubts(self) -> tuple[str, ...]:
        """A line for each doubt of the good panels."""
        rests = self.reliance and self.reliance.said(self.suspects.names)
        return tuple(filter(None, (self.suspects.said(), rests)))

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Tell the doubts with any `PanelError` inside: such panels lift the limit above what it must reject."""
        try:
            yield
        except PanelError as error:
            raise PanelError("; ".join((str(error), *self.doubts()))) from None

    def remarks(self) -> tuple[str | None, ...]:
        """A line each that says what to do; None: nothing."""
        return self.remark, *self.doubts(), self.integrity.said() if self.integrity else None


def finish(draft: Draft, good: Scored, promise: Promise, tell: Tell) -> Finished:
    """Set limits from the scores of panels unseen, choose golden panels, report, seal.

    Raises:
        PanelError: too few panels, or a network that does not see synthetic defects.
    """
    panels = good.panels
    integrity = learned(draft.panels, draft.panels.channels, tell)
    found = suspects(panels.names, good.scores)
    training = found.noted(integrity.noted(draft.training) if integrity else draft.training)
    facts = draft.facts(panels.frames.dtype.name) | {"training": training}
    facts |= {"integrity": integrity.limits} if integrity else {}
    where = draft.panels.facts.zones
    limits, remark = good.kept().limits(where, draft.rule, promise, panels.cell_px)
    tell("reporting", 0, 1)
    with open_detector(recipe.write(draft.folder, {**facts, "limits": limits})) as detector:
        rng = np.random.default_rng(draft.training.seed)
        asked = _asked(draft, good, rng)
        seen = report.Good(panels.names, panels.frames, good.maps, good.scores, asked)
        drawn = list(report.synthetic(detector, seen))
        rests = reliance(good.kept(), _within(draft, drawn), where, draft.rule, promise)
        finished = Finished(remark, found, rests, integrity)
        with finished.blamed():
            _write_golden(draft, detector, asked, limits, rng)
        scores.write(draft.folder, good.kept())
        said = report.Said(remark, finished.doubts(), draft.more)
        report.write(draft.folder / "report.html", detector, draft.losses, seen, drawn, said)
    recipe.write(draft.folder, {**facts, "limits": limits})
    return finished


def _asked(draft: Draft, good: Scored, rng: np.random.Generator) -> Stack:
    """On what synthetic defects are drawn: the panels at the network's input size, or pieces of them."""
    if isinstance(draft.geometry, Tiles):
        return tiling.pieces(draft.geometry, good.panels, good.maps, rng)
    return good.panels


def _within(draft: Draft, drawn: Sequence[Shown]) -> list[float]:
    """Scores of the drawn defects of which anything is inspected; of pieces of panels all is."""
    where = draft.panels.facts.zones
    if where is None or isinstance(draft.geometry, Tiles):
        return [one.finding.score for one in drawn]
    cells = where.cells((draft.geometry.height, draft.geometry.width))
    return [one.finding.score for one in drawn if one.truth is None or (one.truth & cells).any()]


def _write_golden(draft: Draft, detector: Detector, asked: Stack, limits: Limits, rng: np.random.Generator) -> None:
    tiles = isinstance(draft.geometry, Tiles)
    low = lowest_of_piece(limits.low) if tiles else limits.low
    recipe.write_golden(draft.folder, golden.choose(detector, asked.frames, limits.image, rng, low), half=tiles)


def _channel(name: str) -> Channel:
    light, mark, focus = name.rpartition("_")
    return Channel(name=name, light=light, focus=focus) if mark else Channel(name=name, light=name)


def _unlimited() -> Limits:
    """Limits that reject nothing, for the recipe that scores the panels its limits are made of."""
    nothing = ScoreStatistics(panels=0, mean=0.0, std=0.0, minimum=0.0, median=0.0, maximum=0.0)
    most = float(np.finfo(np.float32).max)
    promise = Promise(rate=1.0, confidence=0.0)
    return Limits(image=most, pixel=most, low=-most, min_area_px=1, promise=promise, statistics=nothing)
