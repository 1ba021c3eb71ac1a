"""The JSON API: what the desk does, over HTTP, with log-in, CSRF token and an OpenAPI page that needs no internet."""

from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import AwareDatetime, Field, StringConstraints
from starlette.middleware.trustedhost import TrustedHostMiddleware

from pipeline.errors import NotFoundError, RefusedError, StoreError, TaktError, UsageError
from pipeline.review import facts, figures
from pipeline.review.accounts import same
from pipeline.review.api_page import page
from pipeline.review.desk import Desk
from pipeline.review.facts import ANY, AuditFilter, Counted, Facts, Filter, Role, Session, Short, Token
from pipeline.review.looking import JPEG, PNG, Kind
from pipeline.review.origin import HeadersForAll, SameOrigin

NOT_SHOWN = "the audit is shown to the roles quality, engineer and admin"
COOKIE, CSRF = "takt_session", "X-CSRF-Token"
STATUS = ((NotFoundError, 404), (RefusedError, 403), (UsageError, 400), (StoreError, 503), (TaktError, 500))
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}  # a panel's pictures never change


class Problem(Facts):
    """One line that says what is wrong and what to do."""

    error: str


class LogIn(Facts):
    name: Short
    password: Annotated[str, StringConstraints(max_length=200, pattern=ANY)]


class Entered(Facts):
    """Who is logged in, and the token that every change must carry in the header."""

    person: facts.Person
    csrf: str


class Listed(Filter):
    """A part of a list of panels."""

    cursor: Annotated[str, StringConstraints(max_length=400)] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


SAID: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (400, 401, 403, 404, 422, 503)}
router = APIRouter(prefix="/api", responses=SAID)


def make_app(desk: Desk) -> FastAPI:
    """The application; pages may be added to it."""
    app = FastAPI(title="takt review", version=version("takt"), docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desk = desk
    app.include_router(router)
    for kind, status in STATUS:
        app.add_exception_handler(kind, _answer(status))
    app.add_exception_handler(_LoggedOutError, _answer(401))
    app.add_exception_handler(RequestValidationError, _not_understood)
    settings = desk.settings
    hosts = [settings.address, "localhost", "127.0.0.1", *settings.names]
    app.add_middleware(HeadersForAll)
    app.add_middleware(SameOrigin)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    return app


class _LoggedOutError(TaktError):
    """Nobody is logged in."""


def _answer(status: int) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        more = {"Retry-After": "2"} if status == 503 else None
        return JSONResponse({"error": str(error)}, status, more)

    return answer


def _not_understood(request: Request, error: Exception) -> Response:
    """The first mistake in one line; what was sent is not sent back."""
    found = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
    place = ".".join(str(part) for part in found["loc"])
    return JSONResponse({"error": f"{place}: {found['msg']}"[:400]}, 422)


# --- who asks ---


async def desk_of(request: Request) -> Desk:  # at once: what is not `async` waits for a thread
    return request.app.state.desk


def session_of(request: Request) -> Session | None:
    """The log-in of a request, also of a page's; None: nobody is logged in. A picture that a page shows is no click."""
    click = request.headers.get("sec-fetch-dest") != "image"
    return request.app.state.desk.session(request.cookies.get(COOKIE), click=click)


def logged_in(request: Request) -> Session:
    session = session_of(request)
    if session is None:
        raise _LoggedOutError("log in first: POST /api/session")
    return session


def changing(
    session: Annotated[Session, Depends(logged_in)],
    csrf: Annotated[str, Header(alias=CSRF, max_length=64)] = "",
) -> Session:
    """Somebody logged in whose page has sent the token: another site's page does not know it."""
    if not same(csrf, session.csrf):
        raise RefusedError(f"the header {CSRF} is missing or of another log-in: load the page again")
    return session


DeskOf = Annotated[Desk, Depends(desk_of)]
LoggedIn = Annotated[Session, Depends(logged_in)]
Changing = Annotated[Session, Depends(changing)]
TokenOf = Annotated[Token, Path()]
Since = Annotated[AwareDatetime, Query()]
Product = Annotated[str | None, Query(max_length=200, pattern=ANY)]


@router.post("/session")
def log_in(desk: DeskOf, wanted: LogIn, request: Request, response: Response) -> Entered:
    """Log in; the cookie is set."""
    session = desk.log_in(wanted.name, wanted.password)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, session.secret, httponly=True, samesite="strict", secure=secure, path="/")
    return Entered(person=session.person, csrf=session.csrf)


@router.get("/session")
def who(session: LoggedIn) -> Entered:
    return Entered(person=session.person, csrf=session.csrf)


@router.delete("/session", status_code=204, response_class=Response)
def log_out(desk: DeskOf, session: Changing) -> Response:
    desk.log_out(session.secret)
    gone = Response(status_code=204)
    gone.delete_cookie(COOKIE, path="/")
    return gone


# --- panels ---


@router.get("/panels")
def panels(desk: DeskOf, session: LoggedIn, wanted: Annotated[Listed, Query()]) -> facts.Page:
    """Those to decide first, each part newest first; `next` is the cursor of the part behind it."""
    narrowed = Filter(**wanted.model_dump(exclude={"cursor", "limit"}))
    return desk.queue(narrowed, wanted.cursor, wanted.limit)


@router.get("/find")
def find(
    desk: DeskOf, session: LoggedIn, text: Annotated[str, Query(min_length=1, max_length=64, pattern=ANY)]
) -> list[facts.Row]:
    """By bar code or token, whole or its beginning; at most 20."""
    return desk.find(text)


@router.get("/pulse")
def pulse(desk: DeskOf, session: LoggedIn) -> facts.Pulse:
    """Cheap to ask for every second: changes when there is something new."""
    return desk.pulse()


@router.get("/products")
def products(desk: DeskOf, session: LoggedIn) -> list[str]:
    return desk.products()


@router.get("/panels/{token}")
def panel(desk: DeskOf, session: LoggedIn, token: TokenOf) -> facts.PanelFacts:
    return desk.panel(token)


@router.get("/panels/{token}/thumb", response_class=Response, responses={200: {"content": {JPEG: {}}}})
def thumb(
    desk: DeskOf, session: LoggedIn, token: TokenOf, name: Annotated[str, Query(max_length=200, pattern=ANY)] = ""
) -> Response:
    """A small picture with the defects boxed."""
    return _picture(desk.thumb(token, name))


@router.get(
    "/panels/{token}/pictures/{name}", response_class=Response, responses={200: {"content": {PNG: {}, JPEG: {}}}}
)
def picture(
    desk: DeskOf,
    session: LoggedIn,
    token: TokenOf,
    name: Annotated[str, Path(max_length=200, pattern=ANY)],
    kind: Kind = "png",
) -> Response:
    """One channel at full resolution."""
    return _picture(desk.picture(token, name, kind))


@router.get("/panels/{token}/heat", response_class=Response, responses={200: {"content": {PNG: {}}}})
def heat(desk: DeskOf, session: LoggedIn, token: TokenOf) -> Response:
    """The anomaly map in colour, at its own resolution."""
    return _picture(desk.heat(token))


@router.get("/panels/{token}/outlines")
def outlines(desk: DeskOf, session: LoggedIn, token: TokenOf) -> list[list[tuple[int, int]]]:
    """Polygons around what is marked, in pixels of the panel."""
    return desk.outlines(token)


@router.post("/panels/{token}/again")
def again(desk: DeskOf, session: Changing, token: TokenOf) -> facts.Again:
    """The kept frames through the recipe now in use, for the role engineer. It changes nothing; takes seconds."""
    return desk.inspect_again(session.person, token)


def _picture(sent: tuple[bytes, str]) -> Response:
    return Response(sent[0], media_type=sent[1], headers=FOREVER)


# --- decisions ---


@router.get("/codes")
def codes(desk: DeskOf, session: LoggedIn) -> list[facts.Code]:
    return desk.codes()


@router.post("/panels/{token}/findings")
def decide(desk: DeskOf, session: Changing, token: TokenOf, wish: facts.Wish) -> facts.Standing:
    """`defective` confirms a reject, `good` overrules it, `lab` leaves it open. Reaches no limit and no PLC."""
    return desk.decide(session.person, token, wish)


@router.delete("/panels/{token}/findings")
def undo(
    desk: DeskOf, session: Changing, token: TokenOf, n: Annotated[Counted | None, Query()] = None
) -> facts.Standing:
    """Take back one's own newest finding, or the one with record `n`."""
    return desk.undo(session.person, token, n)


# --- the audit ---


class AuditPart(AuditFilter):
    """A part of the audit."""

    cursor: Annotated[str, StringConstraints(max_length=400)] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


def reading_audit(session: LoggedIn) -> Session:
    if not session.person.may(Role.QUALITY):
        raise RefusedError(NOT_SHOWN)
    return session


@router.get("/audit", dependencies=[Depends(reading_audit)])
def audit(desk: DeskOf, wanted: Annotated[AuditPart, Query()]) -> facts.AuditPage:
    """Who did what, newest first; for the role quality."""
    return desk.audit(wanted.cursor, wanted.limit, wanted)


@router.get("/audit/chain", dependencies=[Depends(reading_audit)])
def audit_chain(desk: DeskOf) -> facts.Chain:
    """Every record hashed again; a check of an unchanged audit holds for a minute. For the role quality."""
    return desk.audit_chain()


# --- figures ---


@router.get("/shift")
def shift(desk: DeskOf, session: LoggedIn, since: Since, until: Since, product: Product = None) -> figures.Shift:
    return desk.shift(since, until, product)


@router.get("/shift.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
def shift_csv(desk: DeskOf, session: LoggedIn, since: Since, until: Since, product: Product = None) -> Response:
    """One row a panel."""
    named = {"Content-Disposition": f'attachment; filename="{_day(since)}.csv"'}
    return Response(desk.shift_csv(since, until, product), media_type="text/csv", headers=named)


def _day(at: datetime) -> str:
    return f"takt-{at:%Y-%m-%d}"


@router.get("/live")
def live(desk: DeskOf, session: LoggedIn) -> figures.Live:
    """The line's processes, its last outcomes, what waits, and how long the disk lasts."""
    return desk.live()


# --- what there is ---


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> dict[str, Any]:
    return request.app.openapi()


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    return HTMLResponse(page(request.app.openapi()))
