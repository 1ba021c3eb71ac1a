"""`takt migrate`; and where a store is, as commands are told it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.config import load
from pipeline.errors import ConfigError
from pipeline.figures import show

if TYPE_CHECKING:
    from pipeline.store import Place

Where = Annotated[Path, typer.Argument(metavar="LINE.toml|STATE", help="the line file, or the line's state folder")]


@dataclass(frozen=True)
class StateAt:
    """A line's state folder and its store; `station` is empty where only the folder is known."""

    folder: Path
    place: "Place"
    station: str


def state_at(where: Path) -> StateAt:
    """Raises ConfigError: neither a line file nor a folder."""
    from pipeline.store import place_at
    from pipeline.store.places import place_of

    if where.is_dir():
        folder = where.resolve()
        return StateAt(folder, place_at(folder), "")
    if not where.is_file():
        raise ConfigError(f"{where}: no line file and no state folder is there")
    config = load(where)
    return StateAt(config.state, place_of(config), config.station)


def register(app: typer.Typer) -> None:
    """Add this file's commands to the root command."""
    app.command()(migrate)


def migrate(
    where: Where,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write what was done to this file")] = None,
) -> None:
    """Bring a line's store to this version's format, with a backup; the archiver does it too at its start."""
    from pipeline.store import Database, prepare

    database = Database(state_at(where).place)
    done = prepare(database)
    database.close()
    figures = {"store": str(database.place), "found": done.found, "now": done.now, "backup": done.backup or None}
    show(figures, json_file)
