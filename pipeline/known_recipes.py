"""Manifests of recipes by their hash, from wherever this line finds them; for showing, never for inspecting."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines import contents
from engines.recipe import MANIFEST, MOST_MANIFEST, canonical
from pipeline import wishes
from pipeline.config import LineConfig
from pipeline.errors import TaktError


def recipes_at(config: LineConfig, wanted: set[str]) -> dict[str, dict[str, Any]]:
    """Those of `wanted` that lie where the line file, a wish or the run says."""
    found: dict[str, dict[str, Any]] = {}
    for path in _places(config) if wanted else ():
        read = _read(path)
        if read is not None and read[0] in wanted:
            found[read[0]] = read[1]
    return found


def _places(config: LineConfig) -> Iterator[Path]:
    yield from config.recipe_paths().values()
    for look in (wishes.resolved, wishes.in_use):
        try:
            rows = look(config).values()
        except TaktError:
            continue
        for row in rows:
            yield row.place.path
            if row.former is not None:
                yield row.former.path


def _read(path: Path) -> tuple[str, dict[str, Any]] | None:
    try:
        content = json.loads(contents.read(path, MANIFEST, MOST_MANIFEST))
        return hashlib.sha256(canonical(content)).hexdigest(), content
    except (TaktError, OSError, ValueError, RecursionError):
        return None
