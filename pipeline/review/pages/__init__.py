"""The pages of the review station: NiceGUI on the API's application, everything from this machine.

One station a process: NiceGUI keeps what it serves per process.
"""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response
from nicegui import ui
from starlette.staticfiles import StaticFiles

from pipeline.review.desk import Desk
from pipeline.review.facts import Filter, Role
from pipeline.review.pages.audit import AuditPage, refused
from pipeline.review.pages.filters import read
from pipeline.review.pages.frame import visit
from pipeline.review.pages.live import LivePage
from pipeline.review.pages.login import log_in
from pipeline.review.pages.panel import PanelPage
from pipeline.review.pages.queue import QueuePage
from pipeline.review.pages.shift import ShiftPage

STATIC = Path(__file__).parent / "static"
PATIENCE_S = 30.0  # for a store that is slow


def add_pages(app: FastAPI, desk: Desk) -> None:
    """Once a process."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/login", include_in_schema=False)
    async def login_page(request: Request) -> Response:
        return await log_in(request, desk)

    @ui.page("/", response_timeout=PATIENCE_S)
    async def queue_page(request: Request) -> Response | None:
        opened = await visit(request, desk)
        if isinstance(opened, Response):
            return opened
        return await QueuePage(opened, read(Filter, request.query_params)).first()

    @ui.page("/panel/{token}", response_timeout=PATIENCE_S)
    async def panel_page(request: Request, token: str) -> Response | None:
        opened = await visit(request, desk)
        if isinstance(opened, Response):
            return opened
        return await PanelPage(opened, token, read(Filter, request.query_params)).first()

    @ui.page("/shift", response_timeout=PATIENCE_S)
    async def shift_page(request: Request) -> Response | None:
        opened = await visit(request, desk)
        if isinstance(opened, Response):
            return opened
        return await ShiftPage(opened, request).first()

    @ui.page("/live", response_timeout=PATIENCE_S)
    async def live_page(request: Request) -> Response | None:
        opened = await visit(request, desk)
        if isinstance(opened, Response):
            return opened
        return await LivePage(opened).first()

    @ui.page("/audit", response_timeout=PATIENCE_S)
    async def audit_page(request: Request) -> Response | None:
        opened = await visit(request, desk)
        if isinstance(opened, Response):
            return opened
        if not opened.session.person.may(Role.QUALITY):
            return refused()
        return await AuditPage(opened, request.query_params).first()

    ui.run_with(
        app, title="takt", language="en-US", tailwind=False, show_welcome_message=False, favicon=STATIC / "takt.svg"
    )
