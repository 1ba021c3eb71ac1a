"""A recipe's golden panels on disk: stacked channels as PNG, their answers beside them."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from engines import contents
from engines.errors import RecipeError

GOLDEN = "golden"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
MOST_PX = 1 << 28  # all channels of a golden panel


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    defective: bool
    score: float


INDEX = TypeAdapter(list[_Entry])


@dataclass(frozen=True)
class Golden:
    """A panel with a known answer: raw frames [C, H, W] and the reference score and map [h, w].

    Of a recipe in tiles it is a piece of a panel, and the map that of the tile over which it is mirrored: see
    `engines.gather.Gather.golden`. The score is of the piece alone.
    """

    name: str
    defective: bool
    frames: NDArray
    score: float
    map: NDArray[np.float32]


def write_golden(path: Path, golden: tuple[Golden, ...], half: bool = False) -> None:
    """Write golden panels into the recipe folder `path`: stacked channels as PNG, answers beside them.

    `half`: maps in half precision, since those of whole tiles are large.
    """
    folder = path / GOLDEN
    folder.mkdir(parents=True, exist_ok=True)
    for one in golden:
        stacked = one.frames.reshape(-1, one.frames.shape[2])
        cv2.imencode(".png", stacked, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tofile(folder / f"{one.name}.png")
    index = [{"name": one.name, "defective": one.defective, "score": one.score} for one in golden]
    (folder / "golden.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    maps = {one.name: one.map.astype(np.float16 if half else np.float32) for one in golden}
    np.savez_compressed(folder / "maps.npz", **maps)  # type: ignore[arg-type]


def read_golden(folder: Path, read: Callable[[str], bytes], channels: int) -> tuple[Golden, ...]:
    """The golden panels from the recipe's files, which `read` verifies; `folder` is for messages.

    Raises:
        RecipeError: they are damaged.
    """
    try:
        index = INDEX.validate_json(read(f"{GOLDEN}/golden.json"))
    except ValidationError as error:
        raise RecipeError(f"{folder / 'golden.json'}: {error.errors()[0]['msg']}; teach again") from None
    names = [one.name for one in index]
    maps = contents.unpacked(read(f"{GOLDEN}/maps.npz"), f"{folder / 'maps.npz'}", *names)
    frames = [_frames(read(f"{GOLDEN}/{name}.png"), folder / f"{name}.png", channels) for name in names]
    answers = (map.astype(np.float32, copy=False) for map in maps)
    return tuple(Golden(frames=own, map=map, **dict(one)) for one, own, map in zip(index, frames, answers, strict=True))


def _frames(content: bytes, path: Path, channels: int) -> NDArray:
    """[C, H, W]; what is no PNG of a possible size reaches no decoder."""
    width, height = struct.unpack(">II", content[16:24]) if content.startswith(PNG) and len(content) > 24 else (0, 0)
    if not 0 < width * height <= MOST_PX:
        raise RecipeError(f"{path}: is no PNG of at most {MOST_PX} pixels; teach again")
    stacked = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if stacked is None or stacked.ndim != 2 or stacked.shape[0] % channels:
        raise RecipeError(f"{path}: does not hold {channels} channels; teach again")
    return stacked.reshape(channels, -1, stacked.shape[1])
