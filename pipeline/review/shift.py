"""The figures of a span of time, each with what it is counted of."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Row, func, or_, select
from sqlalchemy.orm import Session

from pipeline.errors import UsageError
from pipeline.messages import FAULTS, Outcome
from pipeline.review import figures
from pipeline.review.facts import DEFECT, Finding, State
from pipeline.review.intervals import control_limits, pareto, share
from pipeline.review.queries import JUDGED, SHOWN, of_product, rows_with, text_of, time_of
from pipeline.review.recipes import products
from pipeline.store.tables import DroppedEvidence, Panel, Picture

MOST_DAYS = 92
MOST_SPOTS = 5_000
GROUPS = 48  # points of a chart at most
WIDTHS_MIN = (1, 5, 10, 15, 30, 60, 120, 240, 480, 1440, 2880)
UNCLASSIFIED = "unclassified"
KEPT = (Picture.reason, Picture.width, Picture.height, Picture.greys)
Rows = Sequence[Row[Any]]


@dataclass(frozen=True)
class Span:
    """From `since` until just before `until`, of one product or all."""

    since: datetime
    until: datetime
    product: str | None = None

    def __post_init__(self) -> None:
        if not timedelta(0) < self.until - self.since <= timedelta(days=MOST_DAYS):
            raise UsageError(f"until must be after since, by {MOST_DAYS} days at most")

    @cached_property
    def width(self) -> timedelta:
        """Of a chart's subgroup."""
        minutes = (self.until - self.since) / timedelta(minutes=1)
        return timedelta(minutes=next((width for width in WIDTHS_MIN if minutes / width <= GROUPS), WIDTHS_MIN[-1]))

    def group(self, at: datetime) -> datetime:
        """When the subgroup of a time began."""
        return self.since + (at - self.since) // self.width * self.width


def counted(session: Session, span: Span, texts: Mapping[str, str]) -> figures.Shift:
    """`texts` of the plant's defect classes."""
    panels = _panels(session, span)
    shown = _shown(session, span)  # rejects, and what pictures were kept of
    inspected = [row for row in panels if row.fault is None]
    rejects = [row for row in shown if row.fault is None and row.outcome == Outcome.REJECT]
    sample = [row for row in shown if row.fault is None and row.outcome == Outcome.PASS and row.reason == "sample"]
    lost = session.execute(_in_span(session, span, func.count()).where(_SAMPLE_LOST)).scalar_one()
    spots = list(_spots(rejects))
    return figures.Shift(
        since=span.since,
        until=span.until,
        panels=len(panels),
        passed=len(inspected) - len(rejects),
        rejected=len(rejects),
        faulted=len(panels) - len(inspected),
        reject_rate=share(len(rejects), len(inspected)),
        causes=_causes(panels),
        defect_types=_types(rejects, texts),
        overkill=_said(rejects, Finding.GOOD),
        undecided_rejects=sum(not _done(row) for row in rejects),
        escapes=_said(sample, Finding.DEFECTIVE),
        undecided_sample=sum(not _done(row) for row in sample),
        sample_lost=lost,
        p_chart=list(_points(span, inspected)),
        p_mean=len(rejects) / len(inspected) if inspected else None,
        spots=spots[:MOST_SPOTS],
        spots_left_out=max(len(spots) - MOST_SPOTS, 0),
        greys=list(_greys(span, shown)),
        latency=_latency(panels),
    )


_SAMPLE_LOST = Panel.token.in_(select(DroppedEvidence.token).where(DroppedEvidence.reason == "sample"))


def _panels(session: Session, span: Span) -> Rows:
    """All of them, with little of each: there are many."""
    columns = [Panel.__table__.c[name] for name in ("closed_at", "outcome", "fault", "latency_ms")]
    return session.execute(_within(select(*columns), session, span)).all()


def _shown(session: Session, span: Span) -> Rows:
    """Those that people may look at."""
    wanted = or_(Panel.outcome == Outcome.REJECT, Picture.token.is_not(None))
    return session.execute(_in_span(session, span, *SHOWN, *JUDGED, *KEPT).where(wanted)).all()


def _in_span(session: Session, span: Span, *columns: Any) -> Any:
    """Of panels with their pictures and how their review stands."""
    chosen = rows_with(*columns)
    chosen = chosen if len(columns) > 1 else chosen.with_only_columns(*columns, maintain_column_froms=True)
    return _within(chosen, session, span)


def _within(chosen: Any, session: Session, span: Span) -> Any:
    conditions: list[ColumnElement[bool]] = [
        Panel.closed_at >= text_of(span.since),
        Panel.closed_at < text_of(span.until),
    ]
    if span.product is not None:
        conditions.append(of_product(span.product, products(session)))
    return chosen.where(*conditions)


def _done(row: Row[Any]) -> bool:
    return row.state == State.DONE


def _said(rows: Iterable[Row[Any]], finding: Finding) -> figures.Share:
    """How many of the decided ones were found so."""
    decided = [row for row in rows if _done(row)]
    return share(sum(row.finding == finding for row in decided), len(decided))


def _causes(rows: Rows) -> list[figures.Bar]:
    texts = {fault.value: said.text for fault, said in FAULTS.items()}
    rejected = (row.fault or DEFECT for row in rows if row.outcome == Outcome.REJECT or row.fault)
    return pareto(Counter(rejected), texts | {DEFECT: "Rejected by inspection"})


def _types(rejects: Rows, texts: Mapping[str, str]) -> list[figures.Bar]:
    """Of rejects that people confirmed; those without a class, and those not decided yet, are unclassified."""
    counted = (row for row in rejects if not (_done(row) and row.finding == Finding.GOOD))
    return pareto(Counter((row.code if _done(row) else "") or UNCLASSIFIED for row in counted), texts)


def _points(span: Span, inspected: Rows) -> Iterator[figures.Point]:
    """A p-chart: its mean is the span's own, its limits go with the size of each subgroup."""
    counts: dict[datetime, list[int]] = defaultdict(lambda: [0, 0])
    for row in inspected:
        counted = counts[span.group(time_of(row.closed_at))]
        counted[0] += row.outcome == Outcome.REJECT
        counted[1] += 1
    total = sum(n for _, n in counts.values())
    mean = sum(k for k, _ in counts.values()) / total if total else 0.0
    for at, (k, n) in sorted(counts.items()):
        lower, upper = control_limits(mean, n)
        out = not lower <= k / n <= upper
        yield figures.Point(at=at, k=k, n=n, rate=k / n, lower=lower, upper=upper, out=out)


def _spots(rejects: Rows) -> Iterator[figures.Spot]:
    for row in rejects:
        relative = bool(row.width and row.height)
        across, down = (row.width, row.height) if relative else (1, 1)
        for defect in row.defects:
            x, y = (defect.get(at, 0) + defect.get(side, 0) / 2 for at, side in (("x", "width"), ("y", "height")))
            place = {"x": x / across, "y": y / down, "relative": relative}
            area = int(defect.get("area_px", 0))
            yield figures.Spot(token=row.token, area_px=area, code=row.code or "", **place)


def _greys(span: Span, shown: Rows) -> Iterator[figures.Grey]:
    """Of the inspected panels whose pictures were kept: rejects and the sample."""
    sums: dict[tuple[datetime, str], list[float]] = defaultdict(lambda: [0.0, 0])
    for row in shown:
        for channel, mean in (row.greys or {}).items() if row.fault is None else ():
            counted = sums[span.group(time_of(row.closed_at)), channel]
            counted[0] += mean
            counted[1] += 1
    for (at, channel), (total, panels) in sorted(sums.items()):
        yield figures.Grey(at=at, channel=channel, mean=round(total / panels, 3), panels=int(panels))


def _latency(rows: Rows) -> figures.Latency:
    taken = [row.latency_ms for row in rows if row.latency_ms is not None]
    names = ("median_ms", "p90_ms", "p99_ms", "max_ms")
    values = np.percentile(taken, [50, 90, 99, 100]).round(2).tolist() if taken else [None] * len(names)
    return figures.Latency(panels=len(taken), **dict(zip(names, values, strict=True)))


# --- as a table ---

COLUMNS = ("closed_at", "station", "product", "panel_id", "seq", "token", "outcome", "cause", "score", "limit")
MORE = ("latency_ms", "defects", "review", "finding", "code", "by", "recipe")


def table(session: Session, span: Span) -> str:
    """CSV, one row a panel."""
    text, kinds = io.StringIO(), products(session)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *MORE])
    for row in session.execute(_in_span(session, span, *SHOWN, *JUDGED).order_by(Panel.closed_at)):
        writer.writerow([_cell(value) for value in _cells(row, kinds)])
    return text.getvalue()


def _cells(row: Row[Any], kinds: Mapping[str, str]) -> list[Any]:
    cause = row.fault or (DEFECT if row.outcome == Outcome.REJECT else "")
    return [
        row.closed_at,
        row.station,
        kinds.get(row.recipe, ""),
        row.panel_id,
        row.seq,
        row.token,
        row.outcome,
        cause,
        row.score,
        row.limit,
        row.latency_ms,
        len(row.defects),
        row.state or State.OPEN.value,
        row.finding,
        row.code,
        row.by,
        row.recipe,
    ]


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula stays a text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
