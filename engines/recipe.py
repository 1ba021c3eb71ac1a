"""The recipe on disk: a folder that is immutable and named by its content.

`manifest.json` lists the SHA-256 of every other file; the recipe's own hash is the SHA-256 of the manifest's
canonical form, so it changes when anything does. `signature.json` beside it says who vouches for that hash.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engines import contents
from engines.errors import RecipeError
from engines.golden import GOLDEN, Golden, read_golden, write_golden
from engines.manifest import (
    FORMAT,
    UNTILED,
    Channel,
    Geometry,
    Limits,
    Manifest,
    Promise,
    Resize,
    ScoreStatistics,
    Tiles,
    Training,
)

__all__ = [
    "Channel",
    "Geometry",
    "Golden",
    "Limits",
    "Manifest",
    "Promise",
    "Recipe",
    "Resize",
    "ScoreStatistics",
    "Tiles",
    "Training",
    "Trust",
    "canonical",
    "load",
    "write",
    "write_golden",
]

MANIFEST = "manifest.json"
NETWORK = "network.onnx"
WEIGHTS = "weights.safetensors"
SCORES = "scores.npz"
SIGNATURE = "signature.json"  # no content: signing does not change the recipe's name
MOST_MANIFEST, MOST_SIGNATURE = 16 << 20, 64 << 10  # bytes; they are parsed before anybody has vouched for them

Trust = Callable[[Path, str, bytes | None], str]  # folder, recipe's hash, signature file -> who signed, or RecipeError


def anyone(path: Path, name: str, signature: bytes | None) -> str:
    """The `Trust` of whoever does not ask who signed."""
    return ""


@dataclass(frozen=True)
class Recipe:
    """A verified recipe folder; `signed_by` is empty where nobody looked, or nobody trusted has signed it."""

    path: Path
    manifest: Manifest
    hash: str
    signed_by: str = ""

    @property
    def network(self) -> Path:
        return self.path / NETWORK

    @property
    def weights(self) -> Path:
        return self.path / WEIGHTS

    def read(self, name: str) -> bytes:
        """The file `name`, verified as it is read: nothing between here and its use can change it.

        Raises:
            RecipeError: it does not belong to the recipe, or is not what was written.
        """
        if name not in self.manifest.files:
            raise RecipeError(f"{self.path}: has no {name}; teach again")
        content = _read(self.path, name)
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name]:
            raise _changed(self.path, name)
        return content

    @cached_property
    def golden(self) -> tuple[Golden, ...]:
        """The golden panels, good ones first, read when first asked for."""
        if f"{GOLDEN}/golden.json" not in self.manifest.files:
            return ()
        found = read_golden(self.path / GOLDEN, self.read, len(self.manifest.channels))
        for one in found:
            _refuse_larger(self.path, one, self.manifest.geometry)
        return found


def load(path: Path, trust: Trust = anyone) -> Recipe:
    """Read the recipe at `path` and verify every file of it, after `trust` has taken its hash.

    Raises:
        RecipeError: no recipe, one that `trust` refuses, a newer format, a damaged, missing or surplus file.
    """
    path = Path(path)
    content = _read_manifest(path)
    name = hashlib.sha256(canonical(content)).hexdigest()
    signed_by = trust(path, name, _signature(path))
    try:
        manifest = Manifest.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RecipeError(f"{path / MANIFEST}: {place}: {first['msg']}") from None
    _verify_files(path, manifest.files)
    return Recipe(path, manifest, name, signed_by)


def write(path: Path, facts: Mapping[str, Any]) -> Recipe:
    """Seal the folder `path`, which holds the finished files, with a manifest made of `facts`; load it.

    Raises:
        RecipeError: `facts` do not make a manifest.
    """
    (path / SIGNATURE).unlink(missing_ok=True)  # it was of the manifest before
    files = {name: contents.digest(path, name) for name in _files(path)}
    try:
        number = FORMAT if isinstance(facts.get("geometry"), Tiles) else UNTILED
        manifest = Manifest(**{**facts, "format": number, "files": files})
    except ValidationError as error:
        raise RecipeError(f"{path}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"
    (path / MANIFEST).write_text(text, encoding="utf-8")
    return load(path)


def canonical(content: Any) -> bytes:
    """The one spelling of a JSON value that hashes are taken of."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _refuse_larger(path: Path, golden: Golden, geometry: Geometry) -> None:
    """A golden panel of several tiles cannot be a row of a batch."""
    height, width = golden.frames.shape[1:]
    if isinstance(geometry, Tiles) and (height > geometry.height or width > geometry.width):
        tile = f"{geometry.height} x {geometry.width}"
        raise RecipeError(f"{path}: golden panel {golden.name} is {height} x {width} px, a tile {tile}: teach again")


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not path.is_dir():
        raise RecipeError(f"{path}: is no recipe, it has no {MANIFEST}; make one with takt teach")
    try:
        content = json.loads(contents.read(path, MANIFEST, MOST_MANIFEST), parse_constant=_refuse_constant)
        canonical(content)  # not every text is one in UTF-8
    except FileNotFoundError:
        raise RecipeError(f"{path}: is no recipe, it has no {MANIFEST}; make one with takt teach") from None
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{file}: is damaged ({error}); copy the recipe again") from None
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise RecipeError(f"{file}: states no format number; copy the recipe again")
    if content["format"] > FORMAT:
        raise RecipeError(f"{file}: format {content['format']} is newer than {FORMAT}; update takt")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _signature(path: Path) -> bytes | None:
    try:
        return contents.read(path, SIGNATURE, MOST_SIGNATURE)
    except FileNotFoundError:
        return None


def _verify_files(path: Path, expected: Mapping[str, str]) -> None:
    there = _files(path)
    for name in sorted(set(expected) | {NETWORK}):
        if name not in there or name not in expected:
            raise RecipeError(f"{path}: {name} is missing; copy the recipe again")
        if contents.digest(path, name) != expected[name]:
            raise _changed(path, name)
    surplus = sorted(there - set(expected))
    if surplus:
        raise RecipeError(f"{path}: {surplus[0]} does not belong to the recipe; remove it")


def _files(path: Path) -> set[str]:
    return contents.names(path) - {MANIFEST, SIGNATURE}


def _changed(path: Path, name: str) -> RecipeError:
    return RecipeError(f"{path}: {name} was changed after teaching (SHA-256 differs); teach again")


def _read(path: Path, name: str) -> bytes:
    try:
        return contents.read(path, name)
    except FileNotFoundError:
        raise RecipeError(f"{path}: {name} is missing; copy the recipe again") from None
