"""Inspected panels as the review pages and reports see them: SQLite by default, filled by the archiver alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Engine, String, create_engine, event, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pipeline.errors import ConfigError

FORMAT = 1


class Table(DeclarativeBase):
    """Every table of the store."""


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


class Picture(Table):
    """The evidence of one panel: a folder of lossless pictures under the state's `evidence`."""

    __tablename__ = "pictures"

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    reason: Mapped[str] = mapped_column(String(8))
    folder: Mapped[str]
    compressed: Mapped[bool] = mapped_column(default=False)


class Mark(Table):
    """A named number: the format, and how far the ledger has been followed."""

    __tablename__ = "marks"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    value: Mapped[int]


class Store:
    """The store in `folder`.

    Raises:
        ConfigError: it was written by a newer version.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.engine: Engine = create_engine(f"sqlite:///{folder / 'store.sqlite'}")
        event.listen(self.engine, "connect", _write_ahead)
        Table.metadata.create_all(self.engine)
        found = self.marks().setdefault("format", FORMAT)
        if found > FORMAT:
            raise ConfigError(f"store {folder}: format {found} is newer than {FORMAT}: update takt")

    def marks(self) -> dict[str, int]:
        with Session(self.engine) as session:
            return {mark.name: mark.value for mark in session.scalars(select(Mark))}

    def add_panels(self, rows: list[Mapping[str, Any]], marks: Mapping[str, int]) -> None:
        """Rows and the place in the ledger they came from, together or not at all; seeing a row twice is fine."""
        with Session(self.engine) as session, session.begin():
            for row in rows:
                session.execute(insert(Panel).values(**row).on_conflict_do_nothing())
            for name, value in ({"format": FORMAT} | dict(marks)).items():
                session.merge(Mark(name=name, value=value))

    def put_picture(self, token: str, reason: str, folder: str, *, compressed: bool) -> None:
        with Session(self.engine) as session, session.begin():
            session.merge(Picture(token=token, reason=reason, folder=folder, compressed=compressed))

    def panels(self) -> list[Panel]:
        """Every panel in the order of closing."""
        with Session(self.engine) as session:
            return list(session.scalars(select(Panel).order_by(Panel.closed_at, Panel.seq)))

    def pictures(self) -> dict[str, Picture]:
        """Evidence by token."""
        with Session(self.engine) as session:
            return {picture.token: picture for picture in session.scalars(select(Picture))}

    def close(self) -> None:
        self.engine.dispose()


def _write_ahead(connection: Any, record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")  # the ledger is the authority; lost rows are read from it again
    connection.execute("PRAGMA busy_timeout=5000")
