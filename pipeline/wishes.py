"""Which recipe answers to a number of the PLC: what was asked for on the command line, and what is in use.

Two small files, each replaced whole, so that a reader finds one or the other state and never half of one.

- `recipes.json` in the state folder is the wish. `takt recipe` writes it; it outlives the line. The line file stays
  what the engineer wrote, and he has the last word: a wish holds until the line file's entry for its number changes.
- `recipes.json` in the run's folder is the standing. The supervisor writes it at the start from line file and wishes,
  the bridge at every change; it is gone with the run. A stage that is started again begins with it, so that after a
  crash all of them speak of the same recipes.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from pipeline.config import LaxPath, LineConfig, Settings
from pipeline.errors import ConfigError

FORMAT = 1
FILE = "recipes.json"
Number = Annotated[str, Field(pattern=r"^[0-9]{1,5}$")]
Standing = Literal["running", "loading", "waiting", "refused"]
Kind = TypeVar("Kind", bound=BaseModel)


class Place(Settings):
    """Where a recipe lies; its hash where that is known, since a folder may have been filled anew."""

    path: LaxPath
    recipe: str = ""


class Wish(Settings):
    """One number's recipe as it was asked for."""

    id: str  # of the asking, so that the answer can be told from an earlier one's
    place: Place
    before: Place | None  # what was in use then: where `takt recipe back` goes
    entry: LaxPath  # what the line file named then


class Wishes(Settings):
    """The file of the wishes."""

    format: Literal[1] = FORMAT
    wishes: dict[Number, Wish] = Field(default_factory=dict)


class Row(Settings):
    """How one number stands. What answers to it is `place`; `state` and `reason` also tell of what does not yet."""

    place: Place
    engine: str = ""
    state: Standing = "running"
    reason: str = ""
    wish: str = ""  # the id that was dealt with, or is
    former: Place | None = None  # kept open, so that the way back is short


class Table(Settings):
    """The file of the standing."""

    format: Literal[1] = FORMAT
    rows: dict[Number, Row]
    trouble: str = ""  # why the wishes cannot be read


def wish_file(config: LineConfig) -> Path:
    return config.state / FILE


def standing_file(config: LineConfig) -> Path:
    return config.run_dir / FILE


def wishes(config: LineConfig) -> dict[int, Wish]:
    """What was asked for, whether it still holds or not.

    Raises:
        ConfigError: the file is damaged, or of a newer takt.
    """
    found = _read(wish_file(config), Wishes, "remove it to use the line file's recipes")
    return {int(number): wish for number, wish in found.wishes.items()} if found else {}


def holding(config: LineConfig) -> dict[int, Wish]:
    """The wishes that hold: the line file still says what it said when they were made."""
    entries = config.recipe_paths()
    return {number: wish for number, wish in wishes(config).items() if entries.get(number) == wish.entry}


def resolved(config: LineConfig) -> dict[int, Row]:
    """What a line that starts now uses."""
    held = holding(config)
    places = {number: Row(place=Place(path=path)) for number, path in config.recipe_paths().items()}
    return places | {number: Row(place=wish.place, wish=wish.id, former=wish.before) for number, wish in held.items()}


def said(config: LineConfig) -> Iterator[str]:
    """Where a wish goes before the line file, and where it no longer does; for every start."""
    entries, held = config.recipe_paths(), holding(config)
    for number, wish in wishes(config).items():
        if number in held:
            yield f"wish: recipe {number} is {wish.place.path} (takt recipe use), the line file names {wish.entry}"
        elif entries.get(number) != wish.place.path:
            yield f"wish: recipe {number} is the line file's, which was changed since {wish.place.path} was asked for"


def in_use(config: LineConfig) -> dict[int, Row]:
    """What a stage begins with: the run's standing, or what a start would find.

    Raises:
        ConfigError: a file of the two is damaged.
    """
    table = standing(config)
    return {int(number): row for number, row in table.rows.items()} if table else resolved(config)


def now(config: LineConfig) -> dict[int, Row]:
    """As a command finds it, of a line that runs or stands still."""
    return in_use(config) if runs(config) else resolved(config)


def standing(config: LineConfig) -> Table | None:
    """How the numbers stand in this run; None where there is none."""
    return _read(standing_file(config), Table, "start the line again")


def stand(config: LineConfig, rows: dict[int, Row], trouble: str = "") -> None:
    """Write the standing."""
    table = Table(rows={str(number): row for number, row in rows.items()}, trouble=trouble)
    _replace(standing_file(config), table, lasting=False)


def put(config: LineConfig, number: int, wish: Wish | None, *, instead_of: str | None = None) -> bool:
    """Write one number's wish, None to take it away; False where `instead_of` is not the id that stands there."""
    with _alone(config):
        found = wishes(config)
        if instead_of is not None and (number not in found or found[number].id != instead_of):
            return False
        kept = {str(other): one for other, one in found.items() if other != number}
        _replace(wish_file(config), Wishes(wishes=kept | ({str(number): wish} if wish else {})), lasting=True)
        return True


def runs(config: LineConfig) -> bool:
    """True while a supervisor runs this line; what a crash left behind is no run."""
    if not (standing_file(config).exists() and config.lock.exists()):
        return False
    with config.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _read(path: Path, kind: type[Kind], remedy: str) -> Kind | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise ConfigError(f"{path}: is damaged or of another takt ({where}: {first['msg']}): {remedy}") from None


def _replace(path: Path, content: BaseModel, *, lasting: bool) -> None:
    """The old content or the new one, whenever power fails."""
    new = path.with_suffix(".new")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(content.model_dump_json(indent=1) + "\n")
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


@contextmanager
def _alone(config: LineConfig) -> Iterator[None]:
    """One command at a time changes the wishes."""
    try:
        config.state.mkdir(parents=True, exist_ok=True)
        lock = (config.state / "recipes.lock").open("a")
    except OSError as error:
        raise ConfigError(f"state_dir {config.state}: {error.strerror}; choose another") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
