"""What every page has: its head, who is logged in, what is said to them, and the store that may be away."""

import time
from asyncio import to_thread
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from nicegui import ui

from pipeline.errors import StoreError, TaktError
from pipeline.log import logger
from pipeline.review.api import COOKIE
from pipeline.review.desk import Desk
from pipeline.review.facts import Person, Role, Session
from pipeline.review.pages.keys import Key, Keys
from pipeline.review.pages.markup import tag, text

LOG = logger("pages")
PLACES = (
    ("/", "Queue", Role.OPERATOR),
    ("/shift", "Shift", Role.OPERATOR),
    ("/live", "Live", Role.OPERATOR),
    ("/audit", "Audit", Role.QUALITY),
)  # and who may go there
CHECK_S = 15.0  # how often a page asks whether its log-in still holds
TURN_S = 1.0
AWAY = "The store is away. This page tries again by itself; nothing is lost."
HEAD = '<link rel="stylesheet" href="/static/takt.css"><script src="/static/page.js" defer></script>'


class GoneError(TaktError):
    """Nobody is logged in here any more."""


@dataclass
class Visit:
    """One page that one person has open."""

    desk: Desk
    session: Session
    path: str
    _checked: float = field(default_factory=time.monotonic)
    _active: float = field(default_factory=time.monotonic)
    _status: ui.html | None = None
    _alarm: ui.html | None = None
    _away: ui.html | None = None

    async def person(self) -> Person:
        """Who acts, asked anew: a log-in may have ended.

        Raises:
            GoneError: it has; the browser is on its way to the log-in page.
        """
        self._active = time.monotonic()
        return await self._still(click=True)

    async def _still(self, *, click: bool) -> Person:
        found = await to_thread(self.desk.session, self.session.secret or None, click=click)
        if found is None or found.person != self.session.person:
            ui.navigate.to(to_log_in(self.path))
            raise GoneError("log in again")
        self._checked = time.monotonic()
        return found.person

    async def checked(self) -> None:
        """Looked at from time to time, which is no click: what arrives by itself keeps no log-in alive."""
        now = time.monotonic()
        if self.session.secret and now - self._active > self.desk.settings.idle_min * 60:
            ui.navigate.to(to_log_in(self.path))
            raise GoneError("log in again")
        if now - self._checked > CHECK_S:
            await self._still(click=False)

    async def alive(self) -> None:
        """Somebody pressed something that needed no answer of ours."""
        await self.trying(self.person)

    # --- what is said ---

    def say(self, words: str) -> None:
        self._shown(self._status, words)
        self._shown(self._alarm, "")

    def complain(self, words: str) -> None:
        self._shown(self._alarm, f"⚠ {words}")

    def _shown(self, place: ui.html | None, words: str) -> None:
        if place is not None:
            place.set_content(text(words))

    async def trying(self, do: Callable[[], Awaitable[None] | Awaitable[Any]]) -> bool:
        """Do it; what goes wrong is said in one line. Returns whether the store answered."""
        try:
            await do()
        except StoreError as error:
            LOG.warning("the store is away: %s", error)
            self._shown(self._away, f"⚠ {AWAY}")
            return False
        except GoneError:
            return True
        except TaktError as error:
            self.complain(str(error))
        self._shown(self._away, "")
        return True

    def every_second(self, do: Callable[[], Awaitable[None]]) -> None:
        async def turn() -> None:
            await self.checked()
            await do()

        ui.timer(TURN_S, lambda: self.trying(turn))

    # --- the frame ---

    def draw(self, title: str, keys: Sequence[Key], act: Callable[[str], Any], scan: Callable[[str], Any]) -> None:
        """Head of the page; what follows goes into `with ui.element("main")`."""
        ui.page_title(f"{title} – takt")
        ui.add_head_html(HEAD)
        ui.html("Skip to the content", sanitize=False, tag="a").props('href="#main"').classes("skip")
        with ui.element("header").classes("bar"):
            ui.html(self._links(), sanitize=False, tag="nav").props('aria-label="pages"')
            Keys(keys, act, scan, self.alive)
            ui.html(self._who(), sanitize=False).classes("who")
        self._away = ui.html("", sanitize=False).props("role=alert").classes("away")
        self._alarm = ui.html("", sanitize=False).props("role=alert").classes("alarm")
        self._status = ui.html("", sanitize=False).props("role=status").classes("status")

    def _links(self) -> str:
        here = self.path.partition("?")[0]
        return "".join(
            tag("a", name, href=path, aria_current="page" if path == here else None)
            for path, name, role in PLACES
            if self.session.person.may(role)
        )

    def _who(self) -> str:
        person = self.session.person
        said = tag("span", f"{person.name} ({person.role.value})")
        if not self.session.secret:
            return said
        return said + tag("button", "Log out", type="button", class_="quiet", data_csrf=self.session.csrf)


def to_log_in(path: str) -> str:
    return f"/login?next={quote(path, safe='')}"


def main() -> Any:
    """Where a page's own content goes."""
    return ui.element("div").props('id=main tabindex="-1"').classes("content")


async def visit(request: Request, desk: Desk) -> Visit | Response:
    """Who opens this page; a response where nobody may, or where it cannot be known now."""
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    try:
        session = await to_thread(desk.session, request.cookies.get(COOKIE))
    except StoreError as error:
        LOG.warning("the store is away: %s", error)
        return away()
    if session is None:
        return RedirectResponse(to_log_in(path), 303)
    return Visit(desk, session, path)


def away() -> Response:
    """A page that comes again by itself."""
    answer = bare("takt", "takt", AWAY, 503, head='<meta http-equiv="refresh" content="2">')
    answer.headers["Retry-After"] = "2"
    return answer


def bare(title: str, heading: str, alert: str, status: int, more: str = "", head: str = "") -> Response:
    """A page that says why there is no other one; no browser keeps it."""
    said = tag("main", tag("h1", heading), tag("p", alert, role="alert"), more, class_="content")
    head = f'<meta charset="utf-8">{head}{tag("title", title)}{HEAD}'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>{said}</body></html>'
    return HTMLResponse(page, status, {"Cache-Control": "no-store"})
