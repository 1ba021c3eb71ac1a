"""Logs: one JSON object a line, with station, stage, and the panel's token where there is one."""

import json
import logging
import os
import stat
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Any

OUTPUT_BYTES = 1_000_000
TAIL_BYTES = 8_000
_PLAIN = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}


class JsonLines(logging.Formatter):
    """One event a line; whatever is passed as `extra` stands beside it, and never in the place of the fixed keys."""

    def __init__(self, station: str, stage: str) -> None:
        super().__init__()
        self._station, self._stage = station, stage

    def format(self, record: logging.LogRecord) -> str:
        extra = {key: value for key, value in record.__dict__.items() if key not in _PLAIN}
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "station": self._station,
            "stage": self._stage,
            "token": None,
            "event": record.getMessage(),
        }
        line |= {f"{key}_" if key in line and key != "token" else key: value for key, value in extra.items()}
        if not record.name.startswith("takt"):
            line["logger"] = record.name
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _dumped(line)


def _dumped(line: Mapping[str, Any]) -> str:
    """As JSON; a value that has no place in it, such as nan, is told as text."""
    try:
        return json.dumps(line, default=str, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps({str(key): value if isinstance(value, str) else repr(value) for key, value in line.items()})


def logger(name: str) -> logging.Logger:
    return logging.getLogger(f"takt.{name}")


def log_file(state: Path, stage: str) -> Path:
    """Where a process's log is kept."""
    return state / "logs" / f"{stage}.log"


def output_file(state: Path, stage: str) -> Path:
    """Where the stdout and stderr of a stage go: what libraries print past the log, of the newest process alone."""
    return state / "logs" / f"{stage}.out"


def last_words(state: Path, stage: str) -> str:
    """Why a stage ended, in its own words if it had any, else where to look."""
    for file in (log_file(state, stage), output_file(state, stage)):
        for line in reversed(tail(file).splitlines()):
            with suppress(ValueError, AttributeError):
                said = json.loads(line)
                if said.get("fatal") and "trace" not in said:
                    return said["event"]
    printed = output_file(state, stage)
    return f"see {log_file(state, stage)}{f' and {printed}' if tail(printed) else ''}"


def tail(file: Path, size: int = TAIL_BYTES) -> str:
    """The file's end; nothing where there is no such file."""
    with suppress(OSError), file.open("rb") as stream:
        stream.seek(max(os.fstat(stream.fileno()).st_size - size, 0))
        return stream.read().decode(errors="replace")
    return ""


def to_stderr(station: str, stage: str) -> None:
    """Send this process's log to stderr."""
    _handle(station, stage, [logging.StreamHandler(sys.stderr)])


def to_file(station: str, stage: str, path: Path, max_bytes: int, keep: int, *, aloud: bool = False) -> None:
    """Send this process's log to `path`, which becomes `path.1`, then `.2` to `.keep`, before it exceeds `max_bytes`.

    What libraries log goes there too. `aloud`: to stderr as well, but for the error that ends the process, which is
    said there in other words. Where the file cannot be opened, stderr gets all.
    """
    stderr = logging.StreamHandler(sys.stderr)
    try:
        file = RotatingFileHandler(path, maxBytes=max_bytes, backupCount=keep, encoding="utf-8")
    except OSError as error:
        _handle(station, stage, [stderr])
        logger("log").warning("the log's file cannot be opened", extra={"file": str(path), "why": error.strerror})
        return
    stderr.addFilter(lambda record: not getattr(record, "fatal", False))
    _handle(station, stage, [file, stderr] if aloud else [file])


def _handle(station: str, stage: str, handlers: list[logging.Handler]) -> None:
    """Let these handlers take the place of earlier ones of ours."""
    for handler in handlers:
        handler.setFormatter(JsonLines(station, stage))
    ours, others = logging.getLogger("takt"), logging.getLogger()
    old = [handler for handler in (*ours.handlers, *others.handlers) if isinstance(handler.formatter, JsonLines)]
    for log in (ours, others):
        log.handlers[:] = [*(handler for handler in log.handlers if handler not in old), *handlers]
    for handler in old:
        handler.close()
    ours.setLevel(logging.INFO)
    ours.propagate = False


def catch_all() -> None:
    """What would be printed as plain text becomes a record: uncaught errors of every thread, and warnings."""
    logging.captureWarnings(True)
    sys.excepthook = lambda *raised: _uncaught("crashed", *raised, fatal=True)
    sys.unraisablehook = lambda seen: _uncaught("error ignored", seen.exc_type, seen.exc_value, seen.exc_traceback)
    threading.excepthook = _thread_ended


def _uncaught(
    event: str, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None, **more: Any
) -> None:
    logger("uncaught").error(event, exc_info=(kind, error or kind(), trace), extra=more)


def _thread_ended(seen: threading.ExceptHookArgs) -> None:
    if seen.exc_type is not SystemExit:
        name = seen.thread.name if seen.thread else ""
        _uncaught("thread crashed", seen.exc_type, seen.exc_value, seen.exc_traceback, thread_name=name)


def bound_output(max_bytes: int = OUTPUT_BYTES) -> None:
    """Empty the file that stdout and stderr go to once it is large: what libraries print past the log is chatter."""
    seen = os.fstat(2)
    if stat.S_ISREG(seen.st_mode) and seen.st_size > max_bytes:
        os.ftruncate(2, 0)
