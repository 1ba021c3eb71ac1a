"""A review station as its own process, and Debian's chromium to look at it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx
from review_parts import config, drawn, filled, keep, row, token_of

from pipeline.bench.storm import free_port
from pipeline.config import LineConfig, ReviewConfig, load
from pipeline.review.desk import Desk
from pipeline.stages import LAST

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"]  # no sandbox: as root there is none
PASSWORD = "correct horse"
REJECTED = [number for number, plain in enumerate(drawn(300)) if plain["outcome"] == "REJECT" and not plain["fault"]]
PICTURED = REJECTED[-6:]  # the newest, with pictures
SAMPLED = 298
START_S = 60
SOON_MS = 30_000


# as `pipeline.stage` runs the stage that goes after all others: a session of its own, which is what others feel
AS_LAST = ("setsid", "sh", "-c", f'echo {LAST} >/proc/self/autogroup; exec nice -n {LAST} "$@"', "sh")


class Served:
    """`takt review` on a line file, until the context is left."""

    def __init__(self, file: Path, *, last: bool = False) -> None:
        settings = load(file).review or ReviewConfig()
        self._last = last
        self.file, self.address = file, f"http://127.0.0.1:{settings.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "pipeline.cli", "review", str(self.file)]
        command = [*AS_LAST, *command] if self._last else command
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ)
        self._until_it_answers()
        return self

    def __exit__(self, *error: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(20)

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def _log(self) -> Path:
        return self.file.parent / "review.out"

    def cookie(self, name: str, password: str) -> dict[str, Any]:
        """A log-in's cookie, as a browser keeps it."""
        with httpx.Client(trust_env=False, timeout=30) as client:
            answer = client.post(f"{self.address}/api/session", json={"name": name, "password": password})
            assert answer.status_code == 200, answer.text
            return {"name": "takt_session", "value": answer.cookies["takt_session"], "url": self.address}

    def _until_it_answers(self) -> None:
        assert self._process
        deadline = time.monotonic() + START_S
        with httpx.Client(trust_env=False) as client:
            while time.monotonic() < deadline:
                assert self._process.poll() is None, self._log.read_text()
                with suppress(httpx.TransportError):
                    client.get(f"{self.address}/login")
                    return
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.1)
        raise AssertionError(f"no answer: {self._log.read_text()}")


class Station(Served):
    """A station on a store of its own; the desk's settings are keywords."""

    def __init__(self, folder: Path, rows: int = 300, **review: Any) -> None:
        self.line = config(folder, review={"port": free_port()} | review)
        self.store = filled(self.line, list(_now(rows)))
        super().__init__(_line_file(folder, self.line))

    def keep(self, number: int, reason: str = "reject") -> None:
        keep(self.line, self.store, number, reason)

    def add(self, *rows: Mapping[str, Any]) -> None:
        self.store.add_panels([dict(one) for one in rows], {})

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.store.close()


def _now(count: int) -> Iterator[dict[str, Any]]:
    """The panels of `drawn`, the last of them closed just now."""
    began = datetime.now(UTC) - timedelta(seconds=2 * count + 5)
    for number, plain in enumerate(drawn(count)):
        yield plain | closed(began + timedelta(seconds=2 * number))


def closed(at: datetime) -> dict[str, Any]:
    """What a row says of its time."""
    return {"closed_at": at.isoformat(timespec="microseconds")}


def arriving(number: int, **changes: Any) -> dict[str, Any]:
    """A reject that is closed now."""
    return row(number, "REJECT", **changes) | closed(datetime.now(UTC))


def _line_file(folder: Path, line: LineConfig) -> Path:
    """The line as a file, as far as a review station reads it."""
    review = json.loads(line.review.model_dump_json(exclude_none=True)) if line.review else {}
    camera = '[{ name = "top", kind = "simulated", channels = ["bright", "dark"] }]'
    said = [f"{key} = {json.dumps(value)}" for key, value in review.items()]
    text = [
        "format = 1",
        'station = "front"',
        'state_dir = "state"',
        'recipes = { 1 = "recipe" }',
        f"cameras = {camera}",
        'allow = ["unproven_recipe", "unsigned_recipe"]',
    ]
    path = folder / "line.toml"
    path.write_text("\n".join([*text, "[review]", *said]) + "\n")
    return path


@contextmanager
def browser() -> Iterator[Any]:
    """Debian's chromium; fails where it is missing."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM.exists(), "chromium is missing: apt-get install chromium"
    with sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        try:
            yield opened
        finally:
            opened.close()


# --- what tests ask of a page ---


def opened(page: Any, station: Station, number: int) -> Any:
    """The panel's page with its pictures drawn."""
    page.goto(f"{station.address}/panel/{token_of(number)}")
    drawn_of(page, number)
    return page


def drawn_of(page: Any, number: int) -> None:
    page.wait_for_selector(f'.viewer[data-ready="{token_of(number)}"]:not([data-shown=""])')


def says(page: Any, selector: str, words: str) -> None:
    page.locator(selector).filter(has_text=words).first.wait_for()


def votes(desk: Desk, number: int) -> list[tuple[str, str, str, bool]]:
    return [(vote.by, vote.finding, vote.code, vote.undone) for vote in desk.panel(token_of(number)).votes]


def shown(page: Any, name: str) -> str:
    return page.locator(".viewer").get_attribute(f"data-{name}")


def until(page: Any, name: str, value: str) -> None:
    page.wait_for_selector(f'.viewer[data-{name}="{value}"]')
