"""What another product would take on a machine that was measured: the stages' models, put together at new sizes. Pure.

Of an engine, what lies between raw frames and findings is predicted; of a line besides, exposures and the line's own
way. The tail and the wait for the panel before come from what was measured: models are of medians.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from engines import tiles
from engines.recipe import Tiles
from pipeline.bench import model
from pipeline.bench.model import Point, Sizes
from pipeline.bench.passport import EnginePassport, LinePassport, Subject
from pipeline.errors import UsageError

TERMS = {  # of each stage, those first that are taken where too little was measured to part them
    "exposure": ("channels",),
    "readout": ("raw_px", "one"),
    "carrier": ("raw_px", "one"),
    "check": ("raw_px", "one"),
    "prepare": ("batch_px", "raw_px", "one"),
    "network": ("tile_px", "batch_px", "one"),
    "stitch": ("rows", "panel_px", "one"),
    "decide": ("panel_px", "panels", "one"),
}
CONSTANT = ("queue", "publish", "confirm", "plc_write", "ack")
INSPECTION = ("prepare", "network", "stitch", "decide")
BUSY = ("check", *INSPECTION)
SAME = ("runtime", "precision", "threads", "method")
Passports = Sequence[EnginePassport | LinePassport]


@dataclass(frozen=True)
class Asked:
    """A product that was not measured. `size`: height and width of a frame, px."""

    channels: int
    size: tuple[int, int]
    batch: int = 1
    takt_ms: float | None = None


def predicted(passports: Passports, asked: Asked) -> dict[str, Any]:
    """The figures of `takt bench predict`.

    Raises:
        UsageError: the passports are of different engines, or hold nothing to predict from.
    """
    subject = _common(passports)
    sizes = sizes_of(planned(subject, asked.size), asked.channels, asked.size, asked.batch)
    points = points_of(passports)
    models = {stage: model.fitted(each, TERMS.get(stage, ("one",))) for stage, each in points.items()}
    stages = {stage: round(one.ms(sizes), 4) for stage, one in models.items()}
    expected_ms = sum(stages.values())
    error = total_error(points)
    p99_ms, tail = _p99(passports, expected_ms)
    return {
        "channels": asked.channels,
        "size": list(asked.size),
        "batch": asked.batch,
        "rows": int(sizes["rows"]),
        "scope": "line" if any(isinstance(one, LinePassport) for one in passports) else "engine",
        "stages_ms": stages,
        "expected_median_ms": round(expected_ms, 3),
        "expected_p99_ms": p99_ms and round(p99_ms, 3),
        "tail": tail,
        "error": error and round(error, 4),
        "points": max((len(each) for each in points.values()), default=0),
        **_at_takt(stages, asked, p99_ms, scatter(passports)),
        "notes": list(_notes(passports, subject, asked, error)),
    }


def _common(passports: Passports) -> Subject:
    if not passports:
        raise UsageError("no passport: takt bench engine RECIPE --out DIR writes one to predict from")
    first = passports[0].subject
    for one in passports[1:]:
        other = [name for name in SAME if getattr(one.subject, name) != getattr(first, name)]
        if other:
            raise UsageError(f"the passports differ in {', '.join(other)}: predict from those of one engine")
    return first


def _tiles(subject: Subject) -> Tiles:
    return Tiles.model_validate_json(json.dumps(subject.geometry))


def planned(subject: Subject, size: tuple[int, int]) -> Subject:
    """The same recipe taught for panels of `size`: in tiles as `takt teach --tiles` would choose them.

    Raises:
        UsageError: no tile keeps the bounds of `engines.tiles`.
    """
    if subject.geometry.get("kind") != "tiles" or size == subject.panel:
        return subject
    known = _tiles(subject)
    try:
        chosen = tiles.chosen(size, known.halo, known.grid)
    except tiles.NoTileError as error:
        raise UsageError(f"panels of {size[1]} x {size[0]} px fit no tiles of this recipe: {error}") from None
    geometry = chosen.model_dump(mode="json")
    return subject.model_copy(update={"geometry": geometry, "tile": (chosen.height, chosen.width)})


def sizes_of(subject: Subject, channels: int, size: tuple[int, int], batch: int) -> Sizes:
    """What the stages' times follow from, for a batch of panels of these sizes."""
    rows = _rows(subject, size)
    every = batch * rows + subject.golden_row * -(-batch * rows // max(subject.max_batch, 1))
    tile_px = subject.tile[0] * subject.tile[1]
    return {
        "one": 1.0,
        "channels": float(channels),
        "panels": float(batch),
        "rows": float(rows * batch),
        "panel_px": float(batch * size[0] * size[1]),
        "raw_px": float(batch * channels * size[0] * size[1]),
        "tile_px": float(every * tile_px),
        "batch_px": float(every * tile_px * channels),
    }


def _rows(subject: Subject, size: tuple[int, int]) -> int:
    if subject.geometry.get("kind") != "tiles":
        return 1
    return tiles.count(_tiles(subject), size)


def points_of(passports: Passports) -> dict[str, list[Point]]:
    """Every stage's measurements, in the order of the way."""
    found: dict[str, list[Point]] = {}
    for one in passports:
        for stage, point in _points(one):
            found.setdefault(stage, []).append(point)
    if not found:
        raise UsageError("the passports hold no times of stages: measure longer")
    order = [*TERMS, *CONSTANT]
    return {stage: found[stage] for stage in sorted(found, key=order.index)}


def _points(one: EnginePassport | LinePassport) -> Iterable[tuple[str, Point]]:
    subject = one.subject
    if isinstance(one, LinePassport):
        sizes = sizes_of(subject, subject.channels, subject.panel, 1)
        known = {name: each.median for name, each in one.stages.items() if name in TERMS or name in CONSTANT}
        yield from ((name, Point(sizes, ms)) for name, ms in known.items() if ms is not None)
        return
    for row in one.rows:
        sizes = sizes_of(subject, subject.channels, subject.panel, row.batch)
        medians = {part: row.parts_ms[part].median for part in INSPECTION if part in row.parts_ms}
        yield from ((part, Point(sizes, ms)) for part, ms in medians.items() if ms is not None)


def total_error(points: Mapping[str, Sequence[Point]]) -> float | None:
    """How far, 95 of 100 times, a measurement's sum lies from what the others predict; a share. None of a single one.

    Every stage's misses are weighed by its share of the whole.
    """
    whole = {stage: median(point.ms for point in each) for stage, each in points.items()}
    missed = {stage: model.errors(each, TERMS.get(stage, ("one",))) for stage, each in points.items()}
    known = {stage: errors for stage, errors in missed.items() if errors}
    if not known:
        return None
    parts = [whole[stage] * np.sqrt(np.mean(np.square(errors))) for stage, errors in known.items()]
    return float(2 * sum(parts) / sum(whole.values()))


def _p99(passports: Passports, expected_ms: float) -> tuple[float | None, float | None]:
    """The p99, and how many medians it is, as was measured; None where too few runs were."""
    spreads = [
        spread
        for one in passports
        for spread in ([one.latency_ms] if isinstance(one, LinePassport) else [row.ms for row in one.rows])
    ]
    tails = [each.p99 / each.median for each in spreads if each.p99 and each.median]
    if not tails:
        return None, None
    tail = median(tails)
    return expected_ms * tail, round(tail, 3)


def scatter(passports: Passports) -> float:
    """Standard deviation of the inspector's times over their mean; the median of those measured."""
    found = []
    for one in passports:
        runs = [one.samples.stages.get("network", [])] if isinstance(one, LinePassport) else _runs(one)
        found += [float(np.std(ms) / np.mean(ms)) for ms in runs if len(ms) > 1 and np.mean(ms) > 0]
    return median(found) if found else 0.0


def _runs(one: EnginePassport) -> list[list[float]]:
    return [each for row in one.rows for each in row.samples_ms]


def _at_takt(stages: Mapping[str, float], asked: Asked, p99_ms: float | None, varies: float) -> dict[str, Any]:
    """Whether the inspector follows at the takt, and the wait for the panel before, by Kingman's formula.

    Panels come evenly, so that the wait is half of what service times scatter: rho / (1 - rho) * cv^2 / 2 services.
    """
    if asked.takt_ms is None:
        return {}
    service_ms = sum(stages.get(name, 0.0) for name in BUSY) / asked.batch
    rho = service_ms / asked.takt_ms
    wait_ms = rho / (1 - rho) * varies**2 / 2 * service_ms if rho < 1 else None
    at_takt = None if p99_ms is None or wait_ms is None else round(p99_ms + wait_ms, 3)
    return {
        "takt_ms": asked.takt_ms,
        "inspector_busy": round(rho, 4),
        "follows": rho < 1,
        "expected_p99_at_takt_ms": at_takt,
    }


def _notes(passports: Passports, subject: Subject, asked: Asked, error: float | None) -> Iterable[str]:
    """What the prediction cannot know, a line each."""
    subjects = [one.subject for one in passports]
    if error is None:
        yield "one measurement alone: its error is not known; give passports of other sizes, channels or batches too"
    channels = sorted({one.channels for one in subjects})
    if not channels[0] <= asked.channels <= channels[-1]:
        yield f"{asked.channels} channels lie outside of those measured ({', '.join(map(str, channels))})"
    areas = [one.panel[0] * one.panel[1] for one in subjects]
    if not min(areas) <= asked.size[0] * asked.size[1] <= max(areas):
        yield "the panel's size lies outside of those measured"
    if subject.geometry.get("kind") != "tiles":
        yield f"the recipe resizes panels to {subject.tile[0]} x {subject.tile[1]} px: the network's time does not grow"
    else:
        chosen = planned(subject, asked.size)
        tile = f"{chosen.tile[0]} x {chosen.tile[1]} px"
        yield f"in {_rows(chosen, asked.size)} tiles of {tile}, as takt teach --tiles chooses"
