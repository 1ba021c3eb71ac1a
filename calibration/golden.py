"""Golden panels: those with which a running engine proves that it still tells good from defective."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration import anomalies
from engines import zones
from engines.decide import Finding
from engines.detector import Detector
from engines.errors import PanelError
from engines.gather import Map
from engines.recipe import Golden
from engines.zones import Part

EACH = 8
ROUNDS = 12
ENOUGH = 4 * EACH
APART = 0.05  # of the limit


def choose(
    detector: Detector, good: NDArray, limit: float, rng: np.random.Generator, low: float = -np.inf
) -> tuple[Golden, ...]:
    """Eight of `good` [n, C, h, w] nearest below `limit`, then eight synthetic defects on them nearest above it.

    They stay a twentieth of the limit away from it where there are enough that do: the limit is itself the score of a
    good panel, and that one's verdict would change with the last digit of any engine. What a certificate proves, it
    proves of panels that are as far away. (Our choice.)

    The panels are at the network's input size, or pieces of panels, so that a recipe stays small and its answers exact.
    Good ones score at least `low`.

    Raises:
        PanelError: fewer than eight good panels pass, or the network sees too few of the synthetic defects.
    """
    normal = [each for each in _inspected(detector, good) if low <= each.finding.score <= limit]
    if len(normal) < EACH:
        raise PanelError(f"only {len(normal)} good panels score below the limit; {EACH} are needed: add panels")
    normal = _nearest(normal, limit)
    defective = _nearest(_rejected(detector, good, limit, rng), limit)
    rule = detector.manifest.score if detector.limits.zones else None
    return (*_named("good", normal, False, rule), *_named("defect", defective, True, rule))


@dataclass(frozen=True, eq=False)
class _Seen:
    """Frames [C, h, w] with what was found in them, and the network's whole map."""

    frames: NDArray
    finding: Finding
    map: Map


def _nearest(inspected: list[_Seen], limit: float) -> list[_Seen]:
    """The eight nearest to the limit of those that keep their distance; of too few, the eight farthest away."""
    ranked = sorted(inspected, key=lambda each: abs(each.finding.score - limit))
    near = sum(abs(each.finding.score - limit) < APART * limit for each in ranked)
    start = min(near, len(ranked) - EACH)
    return ranked[start : start + EACH]


def _inspected(detector: Detector, panels: Iterable[NDArray]) -> Iterator[_Seen]:
    for frames in panels:
        [(finding, map)] = detector.inspect_golden([frames])
        yield _Seen(frames, finding, map)


def _rejected(detector: Detector, good: NDArray, limit: float, rng: np.random.Generator) -> list[_Seen]:
    found: list[_Seen] = []
    names = [channel.name for channel in detector.manifest.channels]
    for _ in range(ROUNDS):
        drawn = (anomalies.draw(frames, rng, channels=names).frames for frames in good[:ENOUGH])
        found += [each for each in _inspected(detector, drawn) if each.finding.score > limit]
        if len(found) >= ENOUGH:
            return found
    if len(found) < EACH:
        raise PanelError(f"the taught network rejects only {len(found)} synthetic defects: add panels or teach longer")
    return found


def _named(kind: str, inspected: list[_Seen], defective: bool, rule: tuple[Part, ...] | None) -> Iterator[Golden]:
    for number, one in enumerate(inspected):
        own = one.finding  # its score is the network's own where there are no zones
        score = own.score if rule is None else zones.whole(own.map, rule)
        yield Golden(f"{kind}_{number}", defective, one.frames, score, one.map)
