"""Serves the review station, and refuses to where strangers could reach it unprotected."""

import ipaddress
import threading
from contextlib import suppress
from typing import Any

from pipeline.config import LineConfig, ReviewConfig
from pipeline.errors import ConfigError, StageError
from pipeline.review.desk import Desk

START_S, STOP_S = 20.0, 3.0


def refuse_open_doors(settings: ReviewConfig, *, accounts: bool) -> None:
    """Beyond this host only with TLS and accounts.

    Raises:
        ConfigError: one of the two is missing, or half of the TLS pair.
    """
    if (settings.certificate is None) != (settings.private_key is None):
        raise ConfigError("review: certificate and private_key go together: name both, or none")
    if is_loopback(settings.address):
        return
    if settings.certificate is None:
        raise ConfigError(f"review.address: {settings.address} is not loopback: name certificate and private_key")
    if not accounts:
        raise ConfigError(
            f"review.address: {settings.address} is not loopback and nobody has an account: takt users add"
        )
    if ipaddress.ip_address(settings.address).is_unspecified and not settings.names:
        raise ConfigError("review.names: name the hosts by which browsers reach this machine, or one address")


def is_loopback(address: str) -> bool:
    """Raises ConfigError: no address of a host."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise ConfigError(f"review.address: {address!r} is no IP address of this host") from None


def address_of(settings: ReviewConfig) -> str:
    """Where a browser finds it."""
    scheme = "https" if settings.certificate else "http"
    host = f"[{settings.address}]" if ":" in settings.address else settings.address
    return f"{scheme}://{host}:{settings.port}"


def application(desk: Desk, *, pages: bool = True) -> Any:
    """API and pages; pages once a process, for NiceGUI keeps what it serves per process.

    Raises:
        ConfigError: a library of the extra is not installed.
    """
    try:
        from pipeline.review.api import make_app

        app = make_app(desk)
        if pages:
            from pipeline.review.pages import add_pages

            add_pages(app, desk)
    except ModuleNotFoundError as missing:
        raise ConfigError(f"the review station needs {missing.name}: install the extra [review]") from None
    return app


class Served:
    """Answers requests in a thread from entering the context to leaving it.

    Raises:
        ConfigError: it would be open to strangers, or cannot be set up as the line file says.
        StageError: its address cannot be bound.
    """

    def __init__(self, config: LineConfig, desk: Desk, *, pages: bool = True) -> None:
        settings = desk.settings
        app = application(desk, pages=pages)
        import uvicorn

        refuse_open_doors(settings, accounts=not is_loopback(settings.address) and desk.accounts.any())
        certificate, key = settings.certificate, settings.private_key
        self.address = address_of(settings)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=settings.address,
                port=settings.port,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
                limit_concurrency=200,
                proxy_headers=False,
                ssl_certfile=config.under(certificate) if certificate else None,
                ssl_keyfile=config.under(key) if key else None,
            )
        )
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    def _run(self) -> None:
        try:
            self._server.run()
        except BaseException as error:  # SystemExit: its address cannot be bound
            self._failed = error

    def __enter__(self) -> "Served":
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(START_S / 0.02)):
            if self._server.started:
                return self
            self.check()
            waited.wait(0.02)
        raise StageError(f"the review station does not start on {self.address}: see its log")

    def check(self) -> None:
        """Raises StageError: it does not answer any more."""
        if not self._thread.is_alive():
            why = self._failed if not isinstance(self._failed, SystemExit) else "its address cannot be used"
            raise StageError(f"the review station ended on {self.address}: {why}: name a free port in [review]")

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        with suppress(RuntimeError):
            self._thread.join(STOP_S)
