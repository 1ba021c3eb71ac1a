"""Lists of panels: what is to be decided first, the newest first, a part at a time."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, or_, select
from sqlalchemy.orm import Session

from pipeline.messages import Outcome
from pipeline.review import facts
from pipeline.review.cursors import packed, unpacked
from pipeline.review.facts import DEFECT, Filter, Standing, State
from pipeline.review.recipes import products
from pipeline.store.tables import AuditRecord, Panel, Picture, Review

MOST_FOUND = 20
OPEN, DECIDED = 0, 1  # the two parts of a queue
SHOWN = (
    Panel.token,
    Panel.station,
    Panel.seq,
    Panel.panel_id,
    Panel.closed_at,
    Panel.outcome,
    Panel.fault,
    Panel.recipe,
    Panel.score,
    Panel.limit,
    Panel.latency_ms,
    Panel.defects,
)
JUDGED = (Review.state, Review.finding, Review.code, Review.by, Review.at, Review.votes)
UNDECIDED = or_(Review.token.is_(None), Review.state != State.DONE)
Below = Callable[[str], list[str]]


def text_of(at: datetime) -> str:
    """A time as the store keeps it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text)


def queue(session: Session, wanted: Filter, cursor: str | None, limit: int, below: Below) -> facts.Page:
    """The undecided ones, then the decided ones; `below` gives a defect class with those under it."""
    part, closed_at, token = unpacked(cursor, int, str, str) if cursor else (OPEN, "", "")
    kinds, found = products(session), []
    conditions = _conditions(wanted, kinds, below)
    for at in (OPEN, DECIDED):
        if at < part or len(found) > limit:
            continue
        behind = _behind(closed_at, token) if at == part and closed_at else None
        of_part = UNDECIDED if at == OPEN else Review.state == State.DONE
        rows = _newest(
            session, [*conditions, of_part, *([behind] if behind is not None else [])], limit + 1 - len(found)
        )
        found += [(at, row) for row in rows]
    shown = found[:limit]
    last = shown[-1] if len(found) > limit else None
    following = packed(last[0], last[1].closed_at, last[1].token) if last else None
    return facts.Page(rows=[row_of(row, kinds) for _, row in shown], next=following)


def _newest(session: Session, conditions: Sequence[ColumnElement[bool]], limit: int) -> Sequence[Row[Any]]:
    order = (Panel.closed_at.desc(), Panel.token.desc())
    return session.execute(rows_with(*SHOWN, *JUDGED).where(*conditions).order_by(*order).limit(limit)).all()


def rows_with(*columns: Any) -> Any:
    """Of panels with their pictures and how their review stands."""
    joined = select(*columns, Picture.thumbs).select_from(Panel).outerjoin(Picture, Picture.token == Panel.token)
    return joined.outerjoin(Review, Review.token == Panel.token)


def _behind(closed_at: str, token: str) -> ColumnElement[bool]:
    return or_(Panel.closed_at < closed_at, and_(Panel.closed_at == closed_at, Panel.token < token))


def _conditions(wanted: Filter, kinds: Mapping[str, str], below: Below) -> list[ColumnElement[bool]]:
    found = _of_queue(wanted)
    if wanted.since:
        found.append(Panel.closed_at >= text_of(wanted.since))
    if wanted.until:
        found.append(Panel.closed_at < text_of(wanted.until))
    if wanted.station is not None:
        found.append(Panel.station == wanted.station)
    if wanted.product is not None:
        found.append(of_product(wanted.product, kinds))
    if wanted.cause is not None:
        found.append(of_cause(wanted.cause))
    if wanted.code is not None:
        found.append(Review.code.in_(below(wanted.code)))
    if wanted.finding is not None:
        found.append(Review.finding == wanted.finding)
    if wanted.state is not None:
        found.append(Review.token.is_(None) if wanted.state is State.OPEN else Review.state == wanted.state)
    return found


def _of_queue(wanted: Filter) -> list[ColumnElement[bool]]:
    if wanted.queue == "rejects":
        return [Panel.outcome == Outcome.REJECT]
    return [*SAMPLED] if wanted.queue == "sample" else []


SAMPLED = (Panel.outcome == Outcome.PASS, Picture.reason == "sample", Picture.thumbs.is_(True))


def of_product(product: str, kinds: Mapping[str, str]) -> ColumnElement[bool]:
    return Panel.recipe.in_([recipe for recipe, kind in kinds.items() if kind == product])


def of_cause(cause: str) -> ColumnElement[bool]:
    if cause == DEFECT:
        return and_(Panel.fault.is_(None), Panel.outcome == Outcome.REJECT)
    return Panel.fault == cause


def find(session: Session, text: str) -> list[facts.Row]:
    """By bar code or token, or how they begin."""
    kinds = products(session)
    named = or_(Panel.panel_id.startswith(text, autoescape=True), Panel.token.startswith(text, autoescape=True))
    return [row_of(row, kinds) for row in _newest(session, [named], MOST_FOUND)]


def last(session: Session, station: str, count: int) -> list[facts.Row]:
    """The newest panels, whatever became of them."""
    kinds = products(session)
    return [row_of(row, kinds) for row in _newest(session, [Panel.station == station], count)]


def row_of(row: Row[Any], kinds: Mapping[str, str]) -> facts.Row:
    plain = {name: getattr(row, name) for name in ("token", "station", "seq", "panel_id", "outcome", "fault")}
    measured = {name: getattr(row, name) for name in ("score", "limit", "latency_ms")}
    return facts.Row(
        **plain,
        **measured,
        closed_at=time_of(row.closed_at),
        product=kinds.get(row.recipe, ""),
        defects=len(row.defects),
        thumbs=bool(row.thumbs),
        standing=standing_of(row),
    )


def standing_of(row: Row[Any]) -> Standing:
    if row.state is None:
        return Standing()
    return Standing(state=row.state, finding=row.finding, code=row.code, by=row.by, at=time_of(row.at), votes=row.votes)


def pulse(session: Session) -> facts.Pulse:
    newest = session.scalar(select(func.max(Panel.closed_at)))
    audit = session.scalar(select(func.max(AuditRecord.n)))
    return facts.Pulse(
        newest=time_of(newest) if newest else None,
        audit=0 if audit is None else audit + 1,
        open_rejects=_count(session, Panel.outcome == Outcome.REJECT),
        open_sample=_count(session, *SAMPLED),
    )


def spoken(session: Session, token: str) -> int:
    """The newest record of a panel; -1: nobody has said anything of it."""
    newest = session.scalar(select(func.max(AuditRecord.n)).where(AuditRecord.subject == token))
    return -1 if newest is None else newest


def _count(session: Session, *conditions: ColumnElement[bool]) -> int:
    counted = rows_with(func.count().label("count")).where(*conditions, UNDECIDED)
    return session.execute(counted.with_only_columns(func.count(), maintain_column_froms=True)).scalar_one()
