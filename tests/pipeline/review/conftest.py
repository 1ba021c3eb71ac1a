"""Passwords whose hash is cheap, where a test is not about the hash; one station and one browser for all pages."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browser_parts import PASSWORD, PICTURED, SAMPLED, SOON_MS, Station, browser

from pipeline.review import accounts
from pipeline.review.desk import Desk
from pipeline.review.facts import Role

ROLES = {"eve": Role.OPERATOR, "quinn": Role.QUALITY, "lou": Role.OPERATOR, "erin": Role.ENGINEER}


@pytest.fixture(autouse=True)
def _cheap_hash(request, monkeypatch):
    if "real_hash" in request.fixturenames or not _has_argon2():
        return
    from argon2 import PasswordHasher

    monkeypatch.setattr(accounts, "hasher", lambda: PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


@pytest.fixture
def real_hash() -> None:
    """Hash as the product does."""


def _has_argon2() -> bool:
    try:
        import argon2  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


# --- pages ---


@pytest.fixture(scope="session")
def station(tmp_path_factory) -> Iterator[Station]:
    """300 panels; who calls a reject good needs the role quality."""
    station = Station(tmp_path_factory.mktemp("station"), overrule_role="quality", lock_after=3)
    for number in PICTURED:
        station.keep(number)
    station.keep(SAMPLED, "sample")
    desk = Desk(station.line)
    for name, role in ROLES.items():
        desk.accounts.add("root", name, role, PASSWORD)
    desk.close()
    with station:
        yield station


@pytest.fixture(scope="session")
def own_desk(station) -> Iterator[Desk]:
    """What the store says, without the pages."""
    desk = Desk(station.line)
    yield desk
    desk.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def fresh(chromium, station) -> Iterator[Any]:
    """A page of somebody who is not logged in. It asks nobody but the station, and no script of it fails."""
    context = chromium.new_context(viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(SOON_MS)
    page, asked, failed = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    yield page
    context.close()
    own = (station.address, station.address.replace("http", "ws"), "blob:", "data:")
    assert [url for url in asked if not url.startswith(own)] == [] and failed == []


@pytest.fixture
def logged_in(fresh, station) -> Callable[[str], Any]:
    def logged_in(name: str) -> Any:
        fresh.context.add_cookies([station.cookie(name, PASSWORD)])
        return fresh

    return logged_in


@pytest.fixture
def page(logged_in) -> Any:
    """Quinn's, of the role quality."""
    return logged_in("quinn")
