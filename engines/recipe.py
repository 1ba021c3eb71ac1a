"""The recipe on disk: a folder that is immutable and named by its content.

`manifest.json` lists the SHA-256 of every other file; the recipe's own hash is the SHA-256 of the manifest's
canonical form, so it changes when anything does.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engines.errors import RecipeError
from engines.integrity import IntegrityLimits
from engines.zones import Part, Zones

FORMAT = 3
UNTILED = 2  # the format that everything has which has no tiles: versions that know of none read it
MANIFEST = "manifest.json"
NETWORK = "network.onnx"
WEIGHTS = "weights.safetensors"
SCORES = "scores.npz"
GOLDEN = "golden"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Channel(_Part):
    """One frame of the image set: under which light, at which focus, exposed for how long."""

    name: str
    light: str
    focus: str = ""
    exposure_us: float | None = None


class Resize(_Part):
    """The whole panel, resized to the network's input."""

    kind: Literal["resize"] = "resize"
    height: Annotated[int, Field(ge=32, le=4096)]
    width: Annotated[int, Field(ge=32, le=4096)]


Side = Annotated[int, Field(ge=1)]


class Tiles(_Part):
    """The panel at its own resolution, in tiles of `height` x `width` px; see `engines.tiles`.

    Each has `halo` px around what it answers for, and begins on a multiple of `grid`. `panel` is the (height, width)
    that was taught, and the only one that is inspected; None: any. `piece` is that of golden panels, pieces of such.
    """

    kind: Literal["tiles"] = "tiles"
    height: Annotated[int, Field(ge=32, le=4096)]
    width: Annotated[int, Field(ge=32, le=4096)]
    halo: Annotated[int, Field(ge=0)]
    grid: Side
    panel: tuple[Side, Side] | None = None
    piece: tuple[Side, Side] | None = None

    @model_validator(mode="after")
    def _on_the_grid(self) -> "Tiles":
        if any(one % self.grid for one in (self.height, self.width, self.halo)):
            raise ValueError(f"tile and halo must be multiples of the grid of {self.grid} px")
        panel = self.panel or (4097, 4097)
        sides = zip((self.height, self.width), panel, strict=True)
        if any(side <= 2 * self.halo and side < whole for side, whole in sides):
            raise ValueError(f"a tile must be larger than two halos of {self.halo} px, or than the panel")
        return self


Geometry = Annotated[Resize | Tiles, Field(discriminator="kind")]


class Promise(_Part):
    """At most `rate` of good panels are rejected, with this confidence; what the held-out panels support."""

    rate: Share
    confidence: Share


class ScoreStatistics(_Part):
    """Scores of the good panels that training never saw."""

    panels: int
    mean: float
    std: float
    minimum: float
    median: float
    maximum: float


class Limits(_Part):
    """Pass needs low <= score <= image; a map cell above `pixel` is marked.

    Defects smaller than `min_area_px` are not listed. `cell_px` is the panel area of one map cell, None where it is
    not known. Outside `zones` the map does not count.
    """

    image: float
    pixel: float
    low: float
    min_area_px: Annotated[int, Field(ge=1)]
    cell_px: Annotated[float, Field(gt=0)] | None = None
    zones: Zones | None = None
    promise: Promise
    statistics: ScoreStatistics


class Training(_Part):
    """From what the networks were made. `facts` holds what only the method knows."""

    panels: int
    held_out: int
    seed: int
    teacher: str
    teacher_sha256: str = ""
    facts: dict[str, str | int | float] = Field(default_factory=dict)


class Manifest(_Part):
    """Everything about a recipe except its numbers in bulk."""

    format: Literal[1, 2, 3] = FORMAT
    product: str
    channels: Annotated[tuple[Channel, ...], Field(min_length=1)]
    geometry: Geometry
    dtype: Literal["uint8", "uint16"]
    method: str
    settings: dict[str, Any]
    training: Training
    limits: Limits
    score: tuple[Part, ...] = ()  # how the score follows from the map; empty: the network alone knows
    integrity: IntegrityLimits | None = None  # None: raw sets are not checked; takt relearn adds them
    mm_per_px: Annotated[float, Field(gt=0)] | None = None
    files: dict[str, Sha256]

    @model_validator(mode="after")
    def _zones_need_a_rule(self) -> "Manifest":
        if self.limits.zones and not self.score:
            raise ValueError("zones need a method that states how its score follows from the map: teach again")
        return self

    @model_validator(mode="after")
    def _tiles_need_a_rule(self) -> "Manifest":
        if isinstance(self.geometry, Tiles) and not (self.score and self.format >= FORMAT):
            raise ValueError(f"tiles need format {FORMAT} and a score that follows from the map: teach again")
        return self


@dataclass(frozen=True)
class Golden:
    """A panel with a known answer: raw frames [C, H, W] and the reference score and map [h, w]."""

    name: str
    defective: bool
    frames: NDArray
    score: float
    map: NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """A verified recipe folder."""

    path: Path
    manifest: Manifest
    hash: str

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
        content = _content(self.path / name)
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name]:
            raise _changed(self.path, name)
        return content

    @cached_property
    def golden(self) -> tuple[Golden, ...]:
        """The golden panels, good ones first, read when first asked for."""
        return _read_golden(self.path / GOLDEN, len(self.manifest.channels))


def load(path: Path) -> Recipe:
    """Read the recipe at `path` and verify every file of it.

    Raises:
        RecipeError: no recipe, a newer format, a damaged, missing or surplus file.
    """
    path = Path(path)
    content = _read_manifest(path)
    try:
        manifest = Manifest.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RecipeError(f"{path / MANIFEST}: {place}: {first['msg']}") from None
    _verify_files(path, manifest.files)
    return Recipe(path, manifest, _hash_of(content))


def write(path: Path, facts: Mapping[str, Any]) -> Recipe:
    """Seal the folder `path`, which holds the finished files, with a manifest made of `facts`; load it.

    Raises:
        RecipeError: `facts` do not make a manifest.
    """
    files = {name: _sha256(path / name) for name in _files(path)}
    try:
        number = FORMAT if isinstance(facts.get("geometry"), Tiles) else UNTILED
        manifest = Manifest(**{**facts, "format": number, "files": files})
    except ValidationError as error:
        raise RecipeError(f"{path}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"
    (path / MANIFEST).write_text(text, encoding="utf-8")
    return load(path)


def write_golden(path: Path, golden: tuple[Golden, ...]) -> None:
    """Write golden panels into the recipe folder `path`: stacked channels as PNG, answers beside them."""
    folder = path / GOLDEN
    folder.mkdir(parents=True, exist_ok=True)
    for one in golden:
        stacked = one.frames.reshape(-1, one.frames.shape[2])
        cv2.imencode(".png", stacked, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tofile(folder / f"{one.name}.png")
    index = [{"name": one.name, "defective": one.defective, "score": one.score} for one in golden]
    (folder / "golden.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    maps = {one.name: one.map.astype(np.float32) for one in golden}
    np.savez_compressed(folder / "maps.npz", **maps)  # type: ignore[arg-type]


def canonical(content: Any) -> bytes:
    """The one spelling of a JSON value that hashes are taken of."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _hash_of(content: Any) -> str:
    return hashlib.sha256(canonical(content)).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        content = json.loads(file.read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise RecipeError(f"{path}: is no recipe, it has no {MANIFEST}; make one with takt teach") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{file}: is damaged ({error}); copy the recipe again") from None
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise RecipeError(f"{file}: states no format number; copy the recipe again")
    if content["format"] > FORMAT:
        raise RecipeError(f"{file}: format {content['format']} is newer than {FORMAT}; update takt")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _verify_files(path: Path, expected: Mapping[str, str]) -> None:
    there = _files(path)
    for name in sorted(set(expected) | {NETWORK}):
        if name not in there or name not in expected:
            raise RecipeError(f"{path}: {name} is missing; copy the recipe again")
        if _sha256(path / name) != expected[name]:
            raise _changed(path, name)
    surplus = sorted(there - set(expected))
    if surplus:
        raise RecipeError(f"{path}: {surplus[0]} does not belong to the recipe; remove it")


def _files(path: Path) -> set[str]:
    found = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    return found - {MANIFEST}


def _changed(path: Path, name: str) -> RecipeError:
    return RecipeError(f"{path}: {name} was changed after teaching (SHA-256 differs); teach again")


def _sha256(path: Path) -> str:
    return hashlib.sha256(_content(path)).hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read_golden(folder: Path, channels: int) -> tuple[Golden, ...]:
    index = folder / "golden.json"
    if not index.is_file():
        return ()
    with np.load(folder / "maps.npz") as maps:
        return tuple(
            Golden(
                name=entry["name"],
                defective=entry["defective"],
                frames=_read_stack(folder / f"{entry['name']}.png", channels),
                score=entry["score"],
                map=maps[entry["name"]],
            )
            for entry in json.loads(index.read_text(encoding="utf-8"))
        )


def _read_stack(path: Path, channels: int) -> NDArray:
    stacked = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if stacked is None or stacked.shape[0] % channels:
        raise RecipeError(f"{path}: does not hold {channels} channels; teach again")
    return stacked.reshape(channels, -1, stacked.shape[1])
