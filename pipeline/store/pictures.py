"""Which pictures are kept, and that policy has deleted some."""

from collections.abc import Iterable, Mapping

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from pipeline.retention import Kept
from pipeline.store.tables import Picture, Review

A_DAY = 10  # characters of a time
MOST = 500  # at once


def _ours(station: str) -> ColumnElement[bool]:
    """On the disk of this station; older stores, which have one alone, do not say."""
    return Picture.station.in_(["", station])


def outdated(session: Session, station: str, before: Mapping[str, str]) -> list[Picture]:
    """Panels whose lossless pictures are older than their reason allows, oldest first."""
    old = [and_(Picture.reason == reason, Picture.kept_at < time) for reason, time in before.items()]
    wanted = select(Picture).where(_ours(station), Picture.lossless, Picture.kept_at != "", or_(*old))
    return list(session.scalars(wanted.order_by(Picture.kept_at).limit(MOST)))


def outdated_thumbs(session: Session, station: str, before: str) -> list[Picture]:
    wanted = select(Picture).where(_ours(station), Picture.thumbs, ~Picture.lossless, Picture.kept_at < before)
    return list(session.scalars(wanted.order_by(Picture.kept_at).limit(MOST)))


def of_day(session: Session, station: str, day: str) -> list[Kept]:
    """Lossless pictures kept on a day, as YYYY-MM-DD in UTC."""
    wanted = select(Picture, Review.token).outerjoin(Review, Review.token == Picture.token)
    rows = session.execute(wanted.where(_ours(station), Picture.lossless, Picture.kept_at.startswith(day)))
    return [Kept(one.token, one.reason, one.kept_at, one.bytes, bool(decided)) for one, decided in rows]


def by_token(session: Session, tokens: Iterable[str]) -> list[Picture]:
    return list(session.scalars(select(Picture).where(Picture.token.in_(list(tokens)))))


def deleted(session: Session, tokens: Iterable[str], *, thumbs: bool = False) -> None:
    """Note that the files are gone."""
    gone = {"thumbs": False} if thumbs else {"lossless": False}
    session.execute(update(Picture).where(Picture.token.in_(list(tokens))).values(**gone))


def bytes_by_day(session: Session, station: str, since: str) -> dict[str, int]:
    """Bytes that were kept on each day, whether they are still there or not."""
    day = func.substr(Picture.kept_at, 1, A_DAY)
    rows = session.execute(
        select(day, func.sum(Picture.bytes)).where(_ours(station), Picture.kept_at >= since).group_by(day)
    )
    return {str(name): int(total or 0) for name, total in rows}
