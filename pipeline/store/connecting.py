"""Where a store is and how to reach it: SQLite in the state folder, or PostgreSQL by URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from pipeline.errors import ConfigError, StoreError
from pipeline.whole import put_text

FILE, URL_FILE = "store.sqlite", "store.url"
BUSY_MS = 1000  # another program's write may take so long before ours is put off
CONNECT_S, ANSWER_MS = 3, 10_000
LOCK = 0x74616B74  # "takt": one writer at a time where the order of records counts
POSTGRES = "postgresql"


@dataclass(frozen=True)
class Place:
    """A store's place. The state folder says it to programs that have no line file: `store.url`, where there is one."""

    folder: Path
    url: str | None = None

    @property
    def file(self) -> Path:
        return self.folder / FILE

    def __str__(self) -> str:
        return make_url(self.url).render_as_string(hide_password=True) if self.url else str(self.file)


def place_at(folder: Path) -> Place:
    """The store of a state folder, as the line that fills it has said.

    Raises:
        ConfigError: what it has said is no address.
    """
    said = folder / URL_FILE
    return Place(folder, checked_url(said.read_text().strip(), str(said)) if said.is_file() else None)


def say_where(place: Place) -> None:
    """Leave the address in the state folder; it holds no password."""
    said = place.folder / URL_FILE
    if place.url:
        place.folder.mkdir(parents=True, exist_ok=True)
        put_text(said, place.url + "\n")
    else:
        said.unlink(missing_ok=True)


def checked_url(url: str, where: str) -> str:
    """`url` of a PostgreSQL database.

    Raises:
        ConfigError: it is none, or a password stands in it, which many could read there.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(f"{where}: no address; expected postgresql://USER@HOST/DATABASE") from None
    if parsed.drivername not in (POSTGRES, f"{POSTGRES}+psycopg"):
        raise ConfigError(f"{where}: {parsed.drivername}: expected postgresql://USER@HOST/DATABASE, or leave it out")
    if parsed.password:
        raise ConfigError(f"{where}: holds a password: put it into ~/.pgpass, or name the file in ?passfile=PATH")
    return url


class Database:
    """Sessions with a store. `durable`: what is written survives a power cut, for what stands nowhere else.

    Raises (also when sessions are opened, used and closed):
        StoreError: it cannot be reached, written or read now.
        ConfigError: its driver is not installed.
    """

    def __init__(self, place: Place, *, durable: bool = False) -> None:
        self.place = place
        self.engine = _postgres(place) if place.url else _sqlite(place, durable)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with said(self.place), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Nobody else writes meanwhile."""
        with self.reading() as session:
            session.execute(_alone(self.engine))
            yield session

    def close(self) -> None:
        self.engine.dispose()


def _alone(engine: Engine) -> Any:
    if engine.dialect.name == POSTGRES:
        return text(f"SELECT pg_advisory_xact_lock({LOCK})")
    return text("BEGIN IMMEDIATE")


def _sqlite(place: Place, durable: bool) -> Engine:
    engine = create_engine(f"sqlite:///{place.file}")
    level = "FULL" if durable else "NORMAL"  # the ledger is the authority; lost rows are read from it again

    def prepare(connection: Any, record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={level}")
        connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")

    event.listen(engine, "connect", prepare)
    return engine


def _postgres(place: Place) -> Engine:
    url = make_url(place.url or "").set(drivername=f"{POSTGRES}+psycopg")
    bounds = {
        "connect_timeout": CONNECT_S,
        "tcp_user_timeout": ANSWER_MS,  # a network that swallows everything
        "keepalives_idle": CONNECT_S,
        "options": f"-c statement_timeout={ANSWER_MS} -c lock_timeout={ANSWER_MS}",
    }
    try:
        return create_engine(url, connect_args=bounds, pool_pre_ping=True, pool_timeout=CONNECT_S)
    except ModuleNotFoundError:
        raise ConfigError("store.url: PostgreSQL needs psycopg: install the extra [postgres]") from None


@contextmanager
def said(place: Place) -> Iterator[None]:
    """What the database or the disk complains of, in one line of ours."""
    remedy = (
        "see that the server runs and lets us in" if place.url else "free the disk, or close the program that holds it"
    )
    try:
        yield
    except IntegrityError:  # a row that cannot be: nobody's disk
        raise
    except (DatabaseError, InterfaceError, PoolTimeout, OSError) as error:
        why = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
        raise StoreError(f"store {place}: {str(why).strip().splitlines()[0]}: {remedy}") from None
