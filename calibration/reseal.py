"""A recipe once more with other facts: a copy, because a recipe never changes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines import recipe
from engines.errors import UsageError
from engines.recipe import Recipe


def resealed(
    old: Recipe, out: Path, changes: dict[str, Any], amend: Callable[[Path], None] = lambda folder: None
) -> Recipe:
    """A copy of `old` at `out` whose manifest has `changes`; `amend` may edit the copied folder before it is sealed.

    Raises:
        UsageError: `out` is taken.
    """
    refuse_taken(out)
    place = out.parent / f".{out.name}.partial"
    shutil.rmtree(place, ignore_errors=True)
    try:
        _copy(old, place)
        amend(place)
        manifest = old.manifest
        facts = {name: getattr(manifest, name) for name in type(manifest).model_fields if name != "files"}
        recipe.write(place, facts | changes)
        place.rename(out)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return recipe.load(out)


def _copy(old: Recipe, place: Path) -> None:
    """The files that belong to `old`, verified as they are copied; not its signatures, which are of `old` alone."""
    for name in old.manifest.files:
        content = old.read(name)
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)


def refuse_taken(out: Path) -> None:
    """Raise where `out` exists."""
    if out.exists():
        raise UsageError(f"{out} exists already; a recipe is never overwritten: give another --out")
