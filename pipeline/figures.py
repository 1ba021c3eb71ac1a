"""What a command was asked to leave in a file beside what it prints."""

import json
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError


def write_json(path: Path | None, figures: Any) -> None:
    """The figures as JSON; nothing without a path."""
    if path is not None:
        write_text(path, json.dumps(figures, indent=1) + "\n")


def show(figures: dict[str, Any], path: Path | None) -> None:
    """Print figures, a line each, and write them to `path` where one is given."""
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {_text(value)}")  # noqa: T201
    write_json(path, figures)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_text(path: Path, text: str) -> None:
    """Write `path`, making its folder.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}; name another file") from None
