"""Does an engine give the reference's verdicts? Golden panels from raw frames, at every batch size and row, twice.

`prove` measures and `judge` decides; a limit that changes later is judged again from what was measured. What is asked
of an engine is our rule: no golden verdict flips, no score is off by more than a quarter of the nearest golden panel's
distance from the limit, and no map by more than a running engine's may be (`engines.sentinel`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from engines.decide import Finding, Problem
from engines.detector import Detector
from engines.recipe import Golden, Limits
from engines.sentinel import MAP_SHARE, SHARE_OF_MARGIN, map_share

Tell = Callable[[str, int, int], None]
ROUNDS = 2


class PanelProof(BaseModel):
    """What an engine said of one golden panel, over all batch sizes, rows and rounds.

    `lowest` and `highest` score; None where one was no finite number or a cell of the map was not seen. `rows` is the
    largest difference of its score from that of the panel alone, `repeat` between the rounds, `map_error` the mean
    difference of its map from the reference's, in shares of that one's mean height; in tiles, in the part where most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    defective: bool
    reference: float
    lowest: float | None
    highest: float | None
    rows: float
    repeat: float
    map_error: float

    def error(self) -> float:
        """Largest difference from the reference's score; infinite where there is no score."""
        if self.lowest is None or self.highest is None:
            return float("inf")
        return max(abs(self.lowest - self.reference), abs(self.highest - self.reference))

    def flips(self, limits: Limits) -> bool:
        """Whether any of its scores is judged otherwise than the reference's."""
        if self.lowest is None or self.highest is None:
            return True
        expected = _passes(self.reference, limits)
        return any(_passes(score, limits) != expected for score in (self.lowest, self.highest))


@dataclass(frozen=True)
class Judgement:
    """What the measured scores mean under given limits. `reason` says why an engine is refused; empty: granted.

    `score_error` is the largest difference of a score from the reference's, `nearest_margin` the distance from the
    limit of the golden panel `nearest`; both are None where they do not exist.
    """

    reason: str
    flipped: tuple[str, ...]
    score_error: float | None
    nearest: str
    nearest_margin: float | None

    @property
    def granted(self) -> bool:
        return not self.reason


def judge(panels: Sequence[PanelProof], limits: Limits) -> Judgement:
    """Whether an engine that answered like this may inspect with these limits. Pure."""
    if {panel.defective for panel in panels} != {True, False}:
        return Judgement("the recipe lacks golden panels, good or defective: teach again", (), None, "", None)
    if not any(panel.defective and panel.reference > limits.image for panel in panels):
        return Judgement("its limit rejects no golden defect: takt limits with a lower one", (), None, "", None)
    margins = {panel.name: abs(panel.reference - limits.image) for panel in panels}
    nearest = min(margins, key=lambda name: margins[name])
    worst = max(panels, key=PanelProof.error)
    error = worst.error()
    flipped = tuple(panel.name for panel in panels if panel.flips(limits))
    reason = _reason(panels, flipped, worst, margins[nearest])
    return Judgement(reason, flipped, error if np.isfinite(error) else None, nearest, margins[nearest])


def _reason(panels: Sequence[PanelProof], flipped: tuple[str, ...], worst: PanelProof, margin: float) -> str:
    if not np.isfinite(worst.error()):
        return f"it gives no finite score to golden panel {worst.name}"
    if flipped:
        return f"it judges {len(flipped)} of {len(panels)} golden panels otherwise, {flipped[0]} first"
    if not worst.error() < SHARE_OF_MARGIN * margin:
        return f"{worst.name} is off by {worst.error():.3g}; a quarter of the nearest margin is {margin / 4:.3g}"
    off = max(panels, key=lambda panel: panel.map_error)
    if not off.map_error <= MAP_SHARE:
        return f"the map of {off.name} is off by {off.map_error:.0%} of its height, {MAP_SHARE:.0%} are the most"
    return ""


def _passes(score: float, limits: Limits) -> bool:
    return limits.low <= score <= limits.image


@dataclass
class _Seen:
    """Scores of one golden panel as they come: one list a round, in the order of inspection."""

    area: tuple[int, int]  # see `Detector.area`
    scores: list[list[float]] = field(default_factory=lambda: [[] for _ in range(ROUNDS)])
    maps: list[float] = field(default_factory=list)


def prove(
    detector: Detector, golden: Sequence[Golden], tell: Tell = lambda phase, done, total: None
) -> list[PanelProof]:
    """Inspect `golden` by `detector`, which must not carry a golden defect of its own: see `Detector.proving`.

    Every batch size up to the detector's largest, the row of the golden defect included, so that every row is taken by
    one panel at least, and each panel is at every size; all of it twice, in the same order.

    Raises:
        EngineError: the runtime failed, or the golden panels are of another network.
    """
    seen = {one.name: _Seen(detector.area(one)) for one in golden}
    batches = list(_batches(golden, detector.max_batch))
    for number in range(ROUNDS):
        for at, batch in enumerate(batches):
            tell("certifying", number * len(batches) + at, ROUNDS * len(batches))
            found = detector.inspect_golden([one.frames for one in batch])
            for one, (finding, map) in zip(batch, found, strict=True):
                _note(seen[one.name], number, finding, map_share(map, one.map, seen[one.name].area))
    return [_proof(one, seen[one.name], detector.reference(one)) for one in golden]


def _batches(golden: Sequence[Golden], largest: int) -> Iterator[list[Golden]]:
    """Of each size as many as show all panels once; the first of them begin one panel later from size to size."""
    count = len(golden)
    for size in range(1, largest + 1):
        for start in range(size - 1, size - 1 + count, size):
            yield [golden[(start + row) % count] for row in range(size)]


def _note(seen: _Seen, number: int, finding: Finding, map_error: float) -> None:
    whole = finding.problem in (None, Problem.IMPLAUSIBLE)  # a score that is too low is still a score
    seen.scores[number].append(finding.score if whole else np.nan)
    seen.maps.append(map_error if whole else np.inf)


def _proof(golden: Golden, seen: _Seen, reference: float) -> PanelProof:
    scores: NDArray[np.float64] = np.array(seen.scores)
    finite = bool(np.isfinite(scores).all() and np.isfinite(seen.maps).all())
    scores = scores if finite else np.zeros_like(scores)
    return PanelProof(
        name=golden.name,
        defective=golden.defective,
        reference=reference,
        lowest=float(scores.min()) if finite else None,
        highest=float(scores.max()) if finite else None,
        rows=float(np.abs(scores - scores[:, :1]).max()),
        repeat=float(np.ptp(scores, axis=0).max()),
        map_error=max(seen.maps) if finite else 0.0,
    )
