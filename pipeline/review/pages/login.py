"""The log-in page: nothing of the line is on it."""

from asyncio import to_thread

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from pipeline.errors import StoreError
from pipeline.review.api import COOKIE
from pipeline.review.desk import Desk
from pipeline.review.pages.frame import HEAD, away
from pipeline.review.pages.markup import join, tag


async def log_in(request: Request, desk: Desk) -> Response:
    """Plain HTML; the script sends it to the API and goes on."""
    onward = inside(request.query_params.get("next", "/"))
    try:
        session = await to_thread(desk.session, request.cookies.get(COOKIE), click=False)
    except StoreError:
        return away()
    if session is not None:
        return RedirectResponse(onward, 303)
    return HTMLResponse(_page(onward), headers={"Cache-Control": "no-store"})


def inside(path: str) -> str:
    """A path of this site; whatever leads elsewhere leads to the queue."""
    local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if local else "/"


def _page(onward: str) -> str:
    name = tag("input", name="name", autocomplete="username", required=True, maxlength=64, autofocus=True)
    secret = tag(
        "input", name="password", type="password", autocomplete="current-password", required=True, maxlength=200
    )
    form = tag(
        "form",
        tag("label", tag("span", "Name"), name, class_="field"),
        tag("label", tag("span", "Password"), secret, class_="field"),
        tag("button", "Log in", type="submit", class_="strong"),
        tag("p", id="log-in-said", role="alert", class_="alarm"),
        id="log-in",
        data_next=onward,
    )
    metas = tag("title", "Log in – takt") + '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    body = tag("main", tag("h1", "takt review station"), form, class_="content narrow")
    return f'<!doctype html><html lang="en"><head>{metas}{HEAD}</head><body>{join([body])}</body></html>'
