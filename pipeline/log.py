"""Logs: one JSON object a line, with stage, and panel token where there is one."""

import json
import logging
import sys
from datetime import UTC, datetime

_PLAIN = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}


class JsonLines(logging.Formatter):
    """One event a line; whatever is passed as `extra` stands beside it."""

    def __init__(self, station: str, stage: str) -> None:
        super().__init__()
        self._fixed = {"station": station, "stage": stage}

    def format(self, record: logging.LogRecord) -> str:
        extra = {key: value for key, value in record.__dict__.items() if key not in _PLAIN}
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": when, "level": record.levelname, **self._fixed, "event": record.getMessage(), **extra}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def logger(name: str) -> logging.Logger:
    return logging.getLogger(f"takt.{name}")


def to_stderr(station: str, stage: str) -> None:
    """Send this process's log to stderr; the supervisor puts it into the stage's file."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(station, stage))
    root = logging.getLogger("takt")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False
