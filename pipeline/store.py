"""Inspected panels as the review pages and reports see them: SQLite by default, filled by the archiver alone."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Engine, String, create_engine, event, inspect, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, column_property, mapped_column

from pipeline.anchors import Anchor
from pipeline.errors import ConfigError, StoreError

FORMAT = 1
FILE = "store.sqlite"
BUSY_MS = 1000  # another program's write may take so long before ours is put off


class Table(DeclarativeBase):
    """Every table of the store."""


class DroppedEvidence(Table):
    """Pixels of one panel that were to be kept and are lost; known before or after its outcome."""

    __tablename__ = "dropped_evidence"

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    reason: Mapped[str] = mapped_column(String(8))
    why: Mapped[str]


class Panel(Table):
    """One trigger and its one outcome, as the ledger has it."""

    __tablename__ = "panels"

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    station: Mapped[str] = mapped_column(String(64), index=True)
    seq: Mapped[int]
    panel_id: Mapped[str] = mapped_column(String(32), index=True)
    closed_at: Mapped[str] = mapped_column(String(32), index=True)  # UTC, ISO 8601
    outcome: Mapped[str] = mapped_column(String(8), index=True)
    fault: Mapped[str | None] = mapped_column(String(32), index=True)
    acknowledged: Mapped[bool]
    score: Mapped[float | None]
    limit: Mapped[float | None]
    latency_ms: Mapped[float | None]
    recipe: Mapped[str] = mapped_column(String(64))
    calibration: Mapped[str] = mapped_column(String(64))
    engine: Mapped[str] = mapped_column(String(64))
    defects: Mapped[list[Any]] = mapped_column(JSON)
    timing: Mapped[dict[str, int] | None] = mapped_column(JSON)
    evidence_dropped: Mapped[str | None] = column_property(  # why its pixels are lost; None where they are not
        select(DroppedEvidence.why).where(DroppedEvidence.token == token).scalar_subquery()
    )


class Picture(Table):
    """The evidence of one panel: a folder of lossless pictures under the state's `evidence`."""

    __tablename__ = "pictures"

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    reason: Mapped[str] = mapped_column(String(8))
    folder: Mapped[str]
    compressed: Mapped[bool] = mapped_column(default=False)


class KeptAnchor(Table):
    """A signed anchor of the ledger, kept apart from the files that it vouches for."""

    __tablename__ = "anchors"

    signature: Mapped[str] = mapped_column(String(128), primary_key=True)
    station: Mapped[str] = mapped_column(String(64))
    wall: Mapped[str] = mapped_column(String(32))
    records: Mapped[int] = mapped_column(index=True)
    head: Mapped[str] = mapped_column(String(64))


class Mark(Table):
    """A named number: the format, and how far the ledger has been followed."""

    __tablename__ = "marks"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    value: Mapped[int]


class Store:
    """The store in `folder`.

    Raises:
        ConfigError: it was written by a newer version.
        StoreError: it cannot be written or read now; so do all its methods.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.engine: Engine = create_engine(f"sqlite:///{self.path}")
        event.listen(self.engine, "connect", _write_ahead)
        with _said(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            Table.metadata.create_all(self.engine)
        _refuse_newer(self.path, self.marks())

    def marks(self) -> dict[str, int]:
        with self._session() as session:
            return {mark.name: mark.value for mark in session.scalars(select(Mark))}

    def add_panels(
        self, rows: Iterable[Mapping[str, Any]], marks: Mapping[str, int], anchors: Iterable[Anchor] = ()
    ) -> None:
        """What came from the ledger and the place there, together or not at all; seeing a row twice is fine."""
        with self._session() as session:
            for row in rows:
                session.execute(insert(Panel).values(**row).on_conflict_do_nothing())
            for anchor in anchors:
                session.execute(insert(KeptAnchor).values(**asdict(anchor)).on_conflict_do_nothing())
            for name, value in ({"format": FORMAT} | dict(marks)).items():
                session.merge(Mark(name=name, value=value))

    def put_picture(self, token: str, reason: str, folder: str, *, compressed: bool) -> None:
        with self._session() as session:
            session.merge(Picture(token=token, reason=reason, folder=folder, compressed=compressed))

    def note_dropped(self, token: str, reason: str, why: str) -> None:
        """Pixels of a panel are lost; its row says so as soon as there is one."""
        with self._session() as session:
            session.merge(DroppedEvidence(token=token, reason=reason, why=why))

    def panels(self) -> list[Panel]:
        """Every panel in the order of closing."""
        with self._session() as session:
            return list(session.scalars(select(Panel).order_by(Panel.closed_at, Panel.seq)))

    def pictures(self) -> dict[str, Picture]:
        """Evidence by token."""
        with self._session() as session:
            return {picture.token: picture for picture in session.scalars(select(Picture))}

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with _said(self.path), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session


def stored_anchors(folder: Path) -> list[Anchor] | None:
    """The anchors in the store of a state folder, which is only read; None where there is no store.

    Raises:
        ConfigError: it was written by a newer version.
        StoreError: it cannot be read.
    """
    path = folder.resolve() / FILE
    if not path.is_file():
        return None
    engine = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    try:
        with _said(path), Session(engine) as session:
            there = inspect(engine).get_table_names()  # not all in one that is just being made, or is older
            marks = session.scalars(select(Mark)) if Mark.__tablename__ in there else ()
            _refuse_newer(path, {mark.name: mark.value for mark in marks})
            anchors = select(KeptAnchor).order_by(KeptAnchor.records)
            rows = session.scalars(anchors) if KeptAnchor.__tablename__ in there else ()
            return [Anchor(row.station, row.wall, row.records, row.head, row.signature) for row in rows]
    finally:
        engine.dispose()


def _refuse_newer(path: Path, marks: Mapping[str, int]) -> None:
    if marks.get("format", FORMAT) > FORMAT:
        raise ConfigError(f"store {path}: format {marks['format']} is newer than {FORMAT}: update takt")


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """What the database or the disk complains of, in one line of ours."""
    try:
        yield
    except IntegrityError:  # a row that cannot be: nobody's disk
        raise
    except (DatabaseError, OSError) as error:
        why = error.orig if isinstance(error, DatabaseError) else error.strerror
        raise StoreError(f"store {path}: {why}: free the disk, or close the program that holds it") from None


def _write_ahead(connection: Any, record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")  # the ledger is the authority; lost rows are read from it again
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
