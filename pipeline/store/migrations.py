"""The store's format: made where there is none, migrated with a backup where it is older, refused where it is newer."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.orm import Session

from pipeline.errors import ConfigError, StoreError
from pipeline.store.connecting import POSTGRES, Database, Place, said
from pipeline.store.tables import FORMAT, Mark, Panel, Table

# what brings a store of a format to the next one; new tables and indices are made from their declarations
STEPS: dict[int, Sequence[str]] = {
    1: (
        *(
            f"DROP INDEX IF EXISTS ix_panels_{name}"
            for name in ("station", "panel_id", "closed_at", "outcome", "fault")
        ),
        "ALTER TABLE panels ADD COLUMN steps JSON",
        "ALTER TABLE pictures ADD COLUMN station VARCHAR(64) NOT NULL DEFAULT ''",
        "ALTER TABLE pictures ADD COLUMN kept_at VARCHAR(32) NOT NULL DEFAULT ''",
        "ALTER TABLE pictures ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE pictures ADD COLUMN lossless BOOLEAN NOT NULL DEFAULT '1'",
        "ALTER TABLE pictures ADD COLUMN thumbs BOOLEAN NOT NULL DEFAULT '0'",
        "ALTER TABLE pictures ADD COLUMN height INTEGER",
        "ALTER TABLE pictures ADD COLUMN width INTEGER",
        "ALTER TABLE pictures ADD COLUMN greys JSON",
    ),
}


@dataclass(frozen=True)
class Migrated:
    """What was found and what is there now; `backup` names the copy of what was found."""

    found: int | None  # None: there was no store
    now: int
    backup: str = ""


def prepare(database: Database) -> Migrated:
    """Bring the store to this format; two programs may try at once.

    Raises:
        ConfigError: it was written by a newer version.
        StoreError: it cannot be written now.
    """
    if not database.place.url:
        with said(database.place):
            database.place.folder.mkdir(parents=True, exist_ok=True)
    with database.reading() as session:
        found = format_of(session.connection())
    if found == FORMAT:
        return Migrated(found, FORMAT)
    refuse_newer(database.place, found)
    with database.writing() as session:
        return _brought_up(database.place, session)


def check(database: Database) -> None:
    """The store is there and of this format: somebody else makes and migrates it.

    Raises:
        ConfigError: it was written by a newer version.
        StoreError: it is not there yet, is older, or cannot be read now.
    """
    place = database.place
    if not place.url and not place.file.is_file():
        raise StoreError(f"store {place}: is not there yet: start the line, or takt migrate")
    with database.reading() as session:
        found = format_of(session.connection())
    refuse_newer(place, found)
    if found != FORMAT:
        raise StoreError(f"store {place}: has an older format: takt migrate, or start the line")


def refuse_newer(place: Place, found: int | None) -> None:
    if found is not None and found > FORMAT:
        raise ConfigError(f"store {place}: format {found} is newer than {FORMAT}: update takt")


def format_of(connection: Connection) -> int | None:
    """None: there is no store. The first one did not state its format before it held a panel."""
    tables = inspect(connection).get_table_names()
    if Mark.__tablename__ in tables:
        stated = connection.execute(select(Mark.value).where(Mark.name == "format")).scalar()
        if stated is not None:
            return stated
    return 1 if Panel.__tablename__ in tables else None


def _brought_up(place: Place, session: Session) -> Migrated:
    connection = session.connection()
    found = format_of(connection)  # again: another program may have been first
    refuse_newer(place, found)
    backup = _backup(place, connection, found) if found is not None and found < FORMAT else ""
    for number in range(FORMAT if found is None else found, FORMAT):
        for statement in STEPS[number]:
            connection.execute(text(statement))
    Table.metadata.create_all(connection)
    for table in Table.metadata.sorted_tables:
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    session.merge(Mark(name="format", value=FORMAT))
    return Migrated(found, FORMAT, backup)


def _backup(place: Place, connection: Connection, found: int) -> str:
    """A copy of what is there: a file beside it, or tables in a schema of their own."""
    now = datetime.now(UTC)
    if connection.dialect.name == POSTGRES:
        schema = f"takt_format_{found}_{now:%Y%m%d_%H%M%S}"
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        for name in inspect(connection).get_table_names():
            connection.execute(text(f'CREATE TABLE {schema}."{name}" AS TABLE "{name}"'))
        return f"schema {schema}"
    copy = place.folder / f"store.format{found}.{now:%Y%m%dT%H%M%S}.sqlite"
    part = copy.with_suffix(".part")
    try:
        with closing(sqlite3.connect(place.file)) as old, closing(sqlite3.connect(part)) as new:
            old.backup(new)
    except sqlite3.Error as error:
        raise StoreError(f"store {place}: no backup can be made: {error}: free the disk") from None
    part.replace(copy)
    return str(copy)
