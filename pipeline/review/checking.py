"""What can be known of store and review station before a line starts."""

import socket
from collections.abc import Iterator
from importlib.util import find_spec

from pipeline.config import LineConfig, ReviewConfig
from pipeline.errors import ConfigError, StoreError
from pipeline.review import codes
from pipeline.review.desk import Desk
from pipeline.review.serving import address_of, is_loopback, refuse_open_doors
from pipeline.store import Database, check
from pipeline.store.places import place_of

NEEDED = ("argon2", "fastapi", "nicegui", "uvicorn")


def said(config: LineConfig) -> Iterator[str]:
    """What was found, a line each. A store that is away keeps no line from running: evidence waits for it.

    Raises:
        ConfigError: what the line file says of them cannot be used.
    """
    yield _store(config)
    if config.station_review:
        yield _review(config, config.station_review)


def _store(config: LineConfig) -> str:
    place = place_of(config)
    if not place.url and not place.file.is_file():
        return f"store: {place}, made at the start"
    database = Database(place)
    try:
        check(database)
    except StoreError as error:
        return f"store: {error}"
    finally:
        database.close()
    return f"store: {place}"


def _review(config: LineConfig, settings: ReviewConfig) -> str:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"review: needs {missing[0]}: install the extra [review]")
    refuse_open_doors(settings, accounts=not is_loopback(settings.address) and _accounts(config))
    for path in (settings.certificate, settings.private_key):
        if path and not config.under(path).is_file():
            raise ConfigError(f"review: {config.under(path)}: no such file")
    codes.read(config.under(settings.codes) if settings.codes else None)
    _check_port(settings)
    return f"review: {address_of(settings)}"


def _accounts(config: LineConfig) -> bool:
    desk = Desk(config)
    try:
        return desk.accounts.any()
    except StoreError:
        return False
    finally:
        desk.close()


def _check_port(settings: ReviewConfig) -> None:
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.address, settings.port))
        except OSError as error:
            where = f"{settings.address}:{settings.port}"
            raise ConfigError(f"review.port: {where} cannot be used ({error.strerror}): name a free port") from None
