"""Inspected panels, filled in by the archiver, and what people said of them: SQLite, or PostgreSQL by URL."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from pipeline.anchors import Anchor
from pipeline.store.connecting import POSTGRES, Database, Place, checked_url, place_at, said, say_where
from pipeline.store.migrations import Migrated, check, prepare, refuse_newer
from pipeline.store.tables import FORMAT, DroppedEvidence, KeptAnchor, KnownRecipe, Mark, Panel, Picture, Table

__all__ = [
    "FORMAT",
    "Database",
    "DroppedEvidence",
    "Migrated",
    "Panel",
    "Picture",
    "Place",
    "Store",
    "check",
    "checked_url",
    "place_at",
    "prepare",
    "stored_anchors",
]


class Store:
    """The store as the archiver fills it; made or migrated where need be.

    Raises:
        ConfigError: it was written by a newer version.
        StoreError: it cannot be written or read now; so do all its methods.
    """

    def __init__(self, place: Place | Path, station: str = "") -> None:
        self.place = place if isinstance(place, Place) else Place(place)
        self._prefix = f"{station}/" if self.place.url else ""  # a server may hold several stations
        self.database = Database(self.place)
        try:
            self.migrated = prepare(self.database)
            with said(self.place):
                say_where(self.place)
        except BaseException:
            self.close()
            raise

    def marks(self) -> dict[str, int]:
        """The format, and how far each of the station's ledger files has been followed."""
        with self.database.reading() as session:
            found = {mark.name: mark.value for mark in session.scalars(select(Mark))}
        ours = {name for name in found if name.startswith(self._prefix) and "/" not in name[len(self._prefix) :]}
        return {"format": found["format"]} | {name[len(self._prefix) :]: found[name] for name in ours}

    def add_panels(
        self, rows: Iterable[Mapping[str, Any]], marks: Mapping[str, int], anchors: Iterable[Anchor] = ()
    ) -> None:
        """What came from the ledger and the place there, together or not at all; seeing a row twice is fine."""
        with self.database.reading() as session:
            for row in rows:
                self._add(session, Panel, row)
            for anchor in anchors:
                self._add(session, KeptAnchor, asdict(anchor))
            for name, value in marks.items():
                session.merge(Mark(name=name if name == "format" else self._prefix + name, value=value))

    def add_recipe(self, recipe: str, product: str, manifest: Mapping[str, Any]) -> None:
        with self.database.reading() as session:
            self._add(session, KnownRecipe, {"recipe": recipe, "product": product, "manifest": manifest})

    def recipes(self) -> set[str]:
        """Those that are known."""
        with self.database.reading() as session:
            return set(session.scalars(select(KnownRecipe.recipe)))

    def put_picture(self, token: str, reason: str, folder: str, **more: Any) -> None:
        with self.database.reading() as session:
            session.merge(Picture(token=token, reason=reason, folder=folder, **more))

    def note_dropped(self, token: str, reason: str, why: str) -> None:
        """Pixels of a panel are lost; its row says so as soon as there is one."""
        with self.database.reading() as session:
            session.merge(DroppedEvidence(token=token, reason=reason, why=why))

    def panels(self) -> list[Panel]:
        """Every panel in the order of closing."""
        with self.database.reading() as session:
            return list(session.scalars(select(Panel).order_by(Panel.closed_at, Panel.seq)))

    def pictures(self) -> dict[str, Picture]:
        """Evidence by token."""
        with self.database.reading() as session:
            return {picture.token: picture for picture in session.scalars(select(Picture))}

    def close(self) -> None:
        self.database.close()

    def _add(self, session: Session, table: type[Table], row: Mapping[str, Any]) -> None:
        insert = postgresql.insert if self.database.engine.dialect.name == POSTGRES else sqlite.insert
        session.execute(insert(table).values(**row).on_conflict_do_nothing())


def stored_anchors(folder: Path) -> list[Anchor] | None:
    """The anchors in the store of a state folder, which is only read; None where there is no store.

    Raises:
        ConfigError: it was written by a newer version.
        StoreError: it cannot be read.
    """
    place = place_at(folder.resolve())
    if place.url:
        database = Database(place)
        engine = database.engine
    elif place.file.is_file():
        engine = create_engine(f"sqlite:///file:{place.file}?mode=ro&uri=true")
    else:
        return None
    try:
        with said(place), Session(engine) as session:
            return _anchors(place, session)
    finally:
        engine.dispose()


def _anchors(place: Place, session: Session) -> list[Anchor]:
    there = inspect(session.connection()).get_table_names()  # not all in one that is just being made, or is older
    marks = session.scalars(select(Mark)) if Mark.__tablename__ in there else ()
    refuse_newer(place, {mark.name: mark.value for mark in marks}.get("format"))
    anchors = select(KeptAnchor).order_by(KeptAnchor.records)
    rows = session.scalars(anchors) if KeptAnchor.__tablename__ in there else ()
    return [Anchor(row.station, row.wall, row.records, row.head, row.signature) for row in rows]
