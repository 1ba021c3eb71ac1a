"""The audit: who did what, when, from what to what. Records hold the hash of the one before and a signature.

A changed, missing or doubled record breaks the chain; a chain that is written anew lacks the machine's signature; an
end that was cut off is missed by `audit.heads` in the state folder, where every record's number and hash are noted.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipeline.keys import MachineKey, PublicKey
from pipeline.log import logger
from pipeline.store import Database
from pipeline.store.tables import AuditRecord

LOG = logger("audit")
GENESIS = "0" * 64
HEADS = "audit.heads"
SIGNED = ("n", "at", "station", "who", "what", "subject", "before", "after", "reason", "recipe", "prev")


def now() -> str:
    """The time as the store keeps it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def hash_of(record: AuditRecord) -> str:
    """SHA-256 of everything that it says."""
    said = [getattr(record, name) for name in SIGNED]
    return sha256(json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


@dataclass
class Pen:
    """Writes records in one transaction with what they tell of."""

    session: Session
    station: str
    sign: Callable[[bytes], str]
    written: list[AuditRecord] = field(default_factory=list)

    def write(self, who: str, what: str, subject: str = "", **more: str) -> AuditRecord:
        """`more`: before, after, reason, recipe."""
        last = self.written[-1] if self.written else newest(self.session)
        plain = {"before": "", "after": "", "reason": "", "recipe": ""} | more
        number, prev = (last.n + 1, last.hash) if last else (0, GENESIS)
        record = AuditRecord(
            n=number, at=now(), station=self.station, who=who, what=what, subject=subject, prev=prev, **plain
        )
        record.hash = hash_of(record)
        record.signature = self.sign(record.hash.encode())
        self.session.add(record)
        self.session.flush()
        self.written.append(record)
        return record


@dataclass
class Audit:
    """The audit of a store, as one station writes it."""

    database: Database
    station: str
    key: MachineKey
    state: Path

    @contextmanager
    def writing(self) -> Iterator[Pen]:
        """One transaction; nobody else writes meanwhile."""
        with self.database.writing() as session:
            pen = Pen(session, self.station, self.key.sign)
            yield pen
        self._note(pen.written)

    def _note(self, records: list[AuditRecord]) -> None:
        """Behind the transaction: a head of a record that was rolled back would be a false alarm."""
        lines = "".join(f"{record.n} {record.hash}\n" for record in records)
        try:
            with (self.state / HEADS).open("a") as file:
                file.write(lines)
                file.flush()
                os.fdatasync(file.fileno())
        except OSError as error:
            LOG.error("the audit's head cannot be noted", extra={"why": error.strerror})


def newest(session: Session) -> AuditRecord | None:
    return session.scalars(select(AuditRecord).order_by(AuditRecord.n.desc()).limit(1)).first()


def latest(database: Database, count: int) -> list[dict[str, Any]]:
    """The newest records, oldest first."""
    with database.reading() as session:
        found = session.scalars(select(AuditRecord).order_by(AuditRecord.n.desc()).limit(count))
        return [{name: getattr(record, name) for name in (*SIGNED, "hash")} for record in reversed(list(found))]


def verified(database: Database, state: Path, station: str, key: PublicKey | None) -> dict[str, Any]:
    """The figures of `takt audit verify`: recounted and hashed again, signatures of this station checked.

    Without a station all are held to be of it, but in a database that several may share.
    """
    alone = not station and not database.place.url
    heads = _heads(state / HEADS)
    prev, number, signed, broken = GENESIS, 0, 0, ""
    with database.reading() as session:
        for record in session.scalars(select(AuditRecord).order_by(AuditRecord.n).execution_options(yield_per=1000)):
            ours = key is not None and (alone or record.station == station)
            broken = broken or _broken(record, number, prev, heads, key if ours else None)
            prev, number, signed = record.hash, number + 1, signed + ours
    cut = [head for head in heads if head >= number]
    broken = broken or (f"record {min(cut)}: missing, it was noted in {HEADS}" if cut else "")
    figures = {"records": number, "signatures_checked": signed, "heads": len(heads)}
    return figures | {"intact": not broken, "first_broken": broken or None}


def _broken(record: AuditRecord, number: int, prev: str, heads: dict[int, str], key: PublicKey | None) -> str:
    """What is wrong with a record; empty where nothing is."""
    if record.n != number:
        return f"record {number}: missing"
    if record.prev != prev:
        return f"record {number}: does not follow the record before it"
    if record.hash != hash_of(record):
        return f"record {number}: was changed"
    if heads.get(number, record.hash) != record.hash:
        return f"record {number}: is another one than was noted in {HEADS}"
    if key is not None and not key.holds(record.hash.encode(), record.signature):
        return f"record {number}: the machine has not signed it"
    return ""


def _heads(path: Path) -> dict[int, str]:
    """What was noted; a line torn by a power cut says nothing."""
    lines = path.read_text().splitlines() if path.is_file() else []
    parts = [line.split(" ") for line in lines]
    return {int(part[0]): part[1] for part in parts if len(part) == 2 and part[0].isdecimal() and len(part[1]) == 64}
