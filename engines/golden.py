"""A recipe's golden panels on disk: stacked channels as PNG, their answers beside them."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import RecipeError

GOLDEN = "golden"


@dataclass(frozen=True)
class Golden:
    """A panel with a known answer: raw frames [C, H, W] and the reference score and map [h, w]."""

    name: str
    defective: bool
    frames: NDArray
    score: float
    map: NDArray[np.float32]


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


def read_golden(folder: Path, channels: int) -> tuple[Golden, ...]:
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
