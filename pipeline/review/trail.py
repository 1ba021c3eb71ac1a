"""The audit as people read it: newest first, by panel and by person, and whether its chain is whole."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from pipeline.review import cursors
from pipeline.review.facts import AuditFilter, AuditPage, AuditRow, Chain
from pipeline.review.queries import find, time_of
from pipeline.store.tables import AuditRecord, Panel

HOLDS_S = 60.0  # a check of an unchanged chain


def records(session: Session, wanted: AuditFilter, cursor: str | None, limit: int) -> AuditPage:
    """A part of the records, each with the bar code of the panel that it is about.

    Raises:
        UsageError: the cursor is none of ours.
    """
    listed = select(AuditRecord, Panel.panel_id, Panel.token).outerjoin(Panel, Panel.token == AuditRecord.subject)
    listed = listed.order_by(AuditRecord.n.desc()).limit(limit + 1)
    if cursor:
        listed = listed.where(AuditRecord.n < cursors.unpacked(cursor, int)[0])
    if wanted.who is not None:
        listed = listed.where(AuditRecord.who == wanted.who)
    if wanted.panel is not None:
        tokens = [panel.token for panel in find(session, wanted.panel)]
        begins = AuditRecord.subject.startswith(wanted.panel, autoescape=True)
        listed = listed.where(or_(AuditRecord.subject.in_(tokens), begins))
    found = session.execute(listed).all()
    rows = [_row([*one]) for one in found[:limit]]
    return AuditPage(rows=rows, next=cursors.packed(rows[-1].n) if len(found) > limit else None)


def people(session: Session) -> list[str]:
    """Everybody of whom there is a record."""
    return list(session.scalars(select(AuditRecord.who).distinct().order_by(AuditRecord.who)))


def _row(found: Sequence[Any]) -> AuditRow:
    record, panel_id, token = found
    plain = AuditRow.model_fields.keys() - {"at", "panel", "panel_id"}
    said = {name: getattr(record, name) for name in plain}
    return AuditRow(at=time_of(record.at), panel=token is not None, panel_id=panel_id or "", **said)


class ChainCheck:
    """Hashes the chain again when it has grown or the last check is a minute old; one check at a time."""

    def __init__(self, check: Callable[[], dict[str, Any]], clock: Callable[[], float] = time.monotonic) -> None:
        self._check, self._clock = check, clock
        self._one = threading.Lock()
        self._last: Chain | None = None
        self._until = 0.0

    def __call__(self, count: int, *, anew: bool = False) -> Chain:
        """`count`: records that there are now; `anew`: whatever was found before."""
        with self._one:
            known = self._last
            if known is None or anew or known.records != count or self._clock() > self._until:
                known = self._last = Chain(at=datetime.now(UTC), **self._check())
                self._until = self._clock() + HOLDS_S
            return known
