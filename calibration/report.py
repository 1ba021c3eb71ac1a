"""The recipe's `report.html`: what it was made from, what it promises and how it scores, with pictures, in one file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration import anomalies, metrics, pages
from calibration.pages import Shown, decided
from calibration.stack import Stack
from engines.detector import Detector
from engines.integrity import IntegrityLimits
from engines.recipe import Limits, Manifest, Resize, Tiles

SHOWN, EACH_KIND = 4, 6
SYNTHETIC_SEED = 77  # apart from the draws that teaching and the golden panels took


@dataclass(frozen=True, eq=False)
class Good:
    """Good panels as networks scored them that had not seen them: names [n], frames [n, C, h, w], maps, scores [n].

    `asked` are those, or pieces of them, on which synthetic defects are drawn.
    """

    names: Sequence[str]
    frames: Any
    maps: NDArray[np.float32]
    scores: NDArray[np.float64]
    asked: Stack


@dataclass(frozen=True)
class Said:
    """Where the promise is not kept, a line for each doubt of the good panels, and further sections."""

    remark: str | None
    doubts: Sequence[str]
    more: Sequence[str]


def write(
    path: Path, detector: Detector, losses: Sequence[float], good: Good, drawn: Sequence[Shown], said: Said
) -> None:
    """Write the report of the recipe that `detector` has open. `losses` are one a step, `drawn` of `synthetic`."""
    manifest, limits = detector.manifest, detector.limits
    names = [channel.name for channel in manifest.channels]
    scores = {"good, not taught from": good.scores.tolist(), "synthetic defects": [one.finding.score for one in drawn]}
    parts = [
        _head(manifest, limits, drawn, said.remark),
        pages.section(
            "Scores and the limit",
            pages.histograms(scores, limits),
            pages.words(_reading(), "dim"),
            pages.words(pages.LEGEND, "dim"),
        ),
        pages.section("Synthetic defects by kind", _kinds(drawn)),
        pages.section("Synthetic defects that were missed or came nearest to it", _gallery(_worst(drawn), detector)),
        pages.section("Synthetic defects that score highest", _gallery(_worst(drawn, -1), detector)),
        pages.section("Good panels with the highest scores", _doubts(said.doubts), _goods(good, -1, detector, names)),
        pages.section("Good panels with the lowest scores", _goods(good, 1, detector, names)),
        *said.more,
        pages.section("Learning curve", pages.curve(losses)),
        pages.section("What it was made from", pages.table((), _facts(manifest).items())),
    ]
    pages.write(path, f"Recipe for {manifest.product}", parts)


def amend(path: Path, limits: Limits) -> None:
    """Say at the top of a report that was copied with its recipe what holds since."""
    pages.amend(path, f"The limits were set anew after this was written. {pages.promised(limits)}")


def synthetic(detector: Detector, good: Good) -> Iterator[Shown]:
    """Good panels, or pieces of them, with a synthetic defect of every kind, inspected on the production path."""
    rng = np.random.default_rng(SYNTHETIC_SEED)
    names = [channel.name for channel in detector.manifest.channels]
    for kind in anomalies.KINDS:
        for _ in range(EACH_KIND):
            at = int(rng.integers(len(good.asked.names)))
            drawn = anomalies.draw(good.asked.frames[at], rng, kind, names)
            [(finding, _)] = detector.inspect_golden([drawn.frames])
            yield Shown(good.asked.names[at], kind, drawn.frames, finding, drawn.mask)


def _head(manifest: Manifest, limits: Limits, drawn: Sequence[Shown], remark: str | None) -> str:
    missed, kept = sum(one.finding.passed for one in drawn), limits.promise
    cards = {
        "false rejects": (f"at most {kept.rate:.1%}", f"with {kept.confidence:.0%} confidence"),
        "limit": (f"{limits.image:.3g}", f"from {limits.statistics.panels} good panels"),
        "synthetic defects missed": (f"{missed} of {len(drawn)}", f"{len(anomalies.KINDS)} kinds, faint ones too"),
        "taught from": (f"{manifest.training.panels} panels", f"{manifest.method}, {manifest.training.teacher}"),
    }
    warning = pages.words(remark, "warn") if remark else ""
    return pages.cards(cards) + pages.words(pages.promised(limits)) + warning


def _reading() -> str:
    return (
        "Panels right of the red line are rejects; left of the dotted line nothing real scores. Good panels were scored"
        " by networks that had not been taught from them. Synthetic defects are drawn on good panels at strengths that"
        " reach down to the barely visible, so that some must be missed; they say where the method is weak, not how"
        " many real defects will be found."
    )


def _kinds(drawn: Sequence[Shown]) -> str:
    rows = []
    for kind in anomalies.KINDS:
        own = [one.finding for one in drawn if one.kind == kind]
        missed = metrics.rate(sum(one.passed for one in own), len(own))
        low, high = missed["interval95"]
        scores = [one.score for one in own]
        span = f"{min(scores):.3g} to {max(scores):.3g}"
        rows.append(
            (kind, f"{missed['k']} of {missed['n']}", f"{low:.0%} to {high:.0%}", f"{np.median(scores):.3g}", span)
        )
    return pages.table(("kind", "missed", "95 % interval", "median score", "scores"), rows)


def _worst(drawn: Sequence[Shown], sign: int = 1) -> list[Shown]:
    return sorted(drawn, key=lambda one: sign * one.finding.score)[:SHOWN]


def _gallery(panels: Sequence[Shown], detector: Detector) -> str:
    return pages.gallery(panels, detector.limits, [channel.name for channel in detector.manifest.channels])


def _goods(good: Good, sign: int, detector: Detector, names: Sequence[str]) -> str:
    shown = []
    for at in map(int, np.argsort(sign * good.scores)[:SHOWN]):
        found = decided(good.maps[at], float(good.scores[at]), good.frames[at], detector.limits, names)
        shown.append(Shown(good.names[at], "", good.frames[at], found))
    return _gallery(shown, detector)


def _doubts(lines: Sequence[str]) -> str:
    none = pages.words("None stands out from the others as a defective one would.")
    return "".join(pages.words(line, "warn") for line in lines) or none


def _facts(manifest: Manifest) -> dict[str, Any]:
    training, limits, geometry = manifest.training, manifest.limits, manifest.geometry
    return {
        "product": manifest.product,
        "method": manifest.method,
        "teacher": training.teacher,
        "channels": ", ".join(channel.name for channel in manifest.channels),
        "input": f"{_tiles(geometry)}{geometry.height} x {geometry.width} {manifest.dtype}",
        "panels": f"{training.panels} taught, {limits.statistics.panels} scored by networks that had not seen them",
        "pixel limit": f"{limits.pixel:.4g}",
        "defects listed": f"from {limits.min_area_px} px{_mm2(manifest)}",
        "inspected": f"{limits.zones.share:.1%} of the panel" if limits.zones else "the whole panel",
        "integrity checks": _integrity(manifest.integrity),
        **training.facts,
    }


def _tiles(geometry: Resize | Tiles) -> str:
    if isinstance(geometry, Resize):
        return ""
    size = "{} x {}".format(*geometry.panel) if geometry.panel else "any size"
    return f"panels of {size} in tiles with a halo of {geometry.halo}: "


def _mm2(manifest: Manifest) -> str:
    scale = manifest.mm_per_px
    return f" ({manifest.limits.min_area_px * scale**2:.3g} mm2)" if scale else ""


def _integrity(limits: IntegrityLimits | None) -> str:
    return f"learned from {limits.panels} image sets" if limits else "none: damaged image sets are not named"
