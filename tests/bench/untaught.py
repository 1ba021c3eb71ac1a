"""Networks that learnt nothing, and recipes of them, for scripts that measure time alone: weights change none.

Recipes are sealed, certified and run as taught ones are: golden good panels below the limit, a golden defect above it,
which travels in every batch; or, with `passing`, no limit that anything could exceed, and no defect. What they decide
means nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.export import export
from calibration.stack import Stack
from engines import methods, recipe, tiles
from engines.detector import Finding, open_detector
from engines.gather import Map
from engines.integrity import learn
from engines.methods import MethodSettings
from engines.patches import halo
from engines.recipe import Channel, Golden, Limits, Promise, Recipe, Resize, ScoreStatistics, Tiles, Training
from engines.zones import TopMean, TopShare
from pipeline.simulation import panel as panels
from pipeline.simulation import watermark
from pipeline.simulation.panel import CHANNELS, Look

RULE = (TopMean(cells=1, weight=0.5), TopShare(share=0.01, weight=0.5))
GOOD, PIECE = 4, 128
Frames = NDArray[np.uint8]  # [C, H, W]


def network(
    folder: Path, channels: int, size: tuple[int, int], method: str, changes: Mapping[str, Any] | None = None
) -> Path:
    """A method's ONNX graph for `size` (height, width), exported to the new `folder`; `changes` of its settings."""
    _exported(*_method(method, {"height": size[0], "width": size[1], **(changes or {})}), channels, folder)
    return folder / recipe.NETWORK


def made(
    folder: Path,
    channels: int,
    size: tuple[int, int],
    method: str = methods.PRODUCTION,
    tiled: bool = False,
    passing: bool = False,
    checked: int = 0,
) -> Recipe:
    """A recipe for simulated panels of `size` (height, width) in the first so many channels, written to `folder`.

    `checked`: its integrity limits are learnt from so many good panels, as those of a taught recipe are; 0: none.
    """
    kind, settings = _method(method, {} if tiled else {"height": size[0], "width": size[1]})
    geometry = _tiles(kind, settings, channels, size) if tiled else Resize(height=size[0], width=size[1])
    settings = settings.sized(geometry.height, geometry.width) if tiled else settings
    _exported(kind, settings, channels, folder)
    facts = _facts(geometry, channels, method, settings)
    facts |= {"integrity": learn(_good(n, channels, size) for n in range(checked))} if checked else {}
    shown = _piece(size) if tiled else size
    frames = [*(_good(n, channels, shown) for n in range(GOOD)), *_strange(channels, shown)]
    found = _answers(recipe.write(folder, facts | {"limits": _limits(1e6, 1e6)}), frames)
    if passing:
        recipe.write_golden(folder, tuple(_golden(f"good_{n}", False, frames[n], found[n]) for n in range(GOOD)))
        return recipe.write(folder, facts | {"limits": _limits(1e9, 1e9)})
    limits, defect = _parted([finding for finding, _ in found])
    golden = [_golden(f"good_{n}", False, frames[n], found[n]) for n in range(GOOD)]
    recipe.write_golden(folder, (*golden, _golden("defect_0", True, frames[defect], found[defect])))
    return recipe.write(folder, facts | {"limits": limits})


def _method(name: str, changes: Mapping[str, Any]) -> tuple[Any, MethodSettings]:
    """The method, and its settings; with ResNet-18 as its teacher where no other is asked for."""
    kind = methods.load(name)
    usual = {"teacher": "resnet18"} if "teacher" in kind.Settings.model_fields else {}
    return kind, methods.settings_of(kind, {**usual, **changes})


def _tiles(kind: Any, settings: MethodSettings, channels: int, size: tuple[int, int]) -> Tiles:
    field = kind.build(channels, settings).receptive_field
    return tiles.chosen(size, halo(field, settings.grid), settings.grid).model_copy(update={"piece": _piece(size)})


def _piece(size: tuple[int, int]) -> tuple[int, int]:
    return min(PIECE, size[0]), min(PIECE, size[1])


def _exported(kind: Any, settings: MethodSettings, channels: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = kind.build(channels, settings).eval()
    export(model, Stack(np.zeros((2, channels, settings.height, settings.width), np.uint8), ("a", "b"), 16), folder)


def _good(number: int, channels: int, size: tuple[int, int]) -> Frames:
    look = Look(height=size[0], width=size[1])
    frames = watermark.stamp_set(panels.render(number, look, CHANNELS[:channels]).frames, number)
    return frames.astype(np.uint8, copy=False)


def _strange(channels: int, size: tuple[int, int]) -> list[Frames]:
    """Pictures that no panel gives; one of them scores above all panels."""
    rng, shape = np.random.default_rng(1), (channels, *size)
    blocks = rng.integers(0, 2, (channels, -(-size[0] // 16), -(-size[1] // 16)), dtype=np.uint8)
    coarse = (255 * blocks.repeat(16, axis=1).repeat(16, axis=2))[:, : size[0], : size[1]]
    return [rng.integers(0, 255, shape, dtype=np.uint8), np.ascontiguousarray(coarse), np.full(shape, 255, np.uint8)]


def _answers(sealed: Recipe, frames: list[Frames]) -> list[tuple[Finding, Map]]:
    with open_detector(sealed, threads=1, max_batch=1, proving=False) as detector:
        return [detector.inspect_golden([one])[0] for one in frames]


def _parted(found: list[Finding]) -> tuple[Limits, int]:
    """Limits between the good panels and the strangest picture, and which one that is."""
    good, strange = found[:GOOD], range(GOOD, len(found))
    defect = max(strange, key=lambda n: found[n].score)
    highest = max(one.score for one in good)
    if found[defect].score <= highest:
        raise SystemExit("no picture scores above the panels: draw other weights")
    limit = (highest + found[defect].score) / 2
    return _limits(limit, float(max(one.map.max() for one in good)) + 1e-3), defect


def _golden(name: str, defective: bool, frames: Frames, found: tuple[Finding, Map]) -> Golden:
    return Golden(name, defective, frames, found[0].score, found[1])


def _facts(geometry: Resize | Tiles, channels: int, method: str, settings: MethodSettings) -> dict[str, Any]:
    named = (Channel(name=name, light=name.split("_")[0]) for name in CHANNELS[:channels])
    facts = {
        "product": f"untaught {channels} x {geometry.height} x {geometry.width}",
        "channels": tuple(named),
        "geometry": geometry,
        "dtype": "uint8",
        "method": method,
        "settings": settings.model_dump(mode="json"),
        "training": Training(panels=0, held_out=0, seed=0, teacher="none"),
    }
    return facts | ({"score": RULE} if isinstance(geometry, Tiles) else {})


def _limits(image: float, pixel: float) -> Limits:
    nothing = ScoreStatistics(panels=0, mean=0.0, std=0.0, minimum=0.0, median=0.0, maximum=0.0)
    promise = Promise(rate=1.0, confidence=0.0)
    return Limits(image=image, pixel=pixel, low=-1e6, min_area_px=1, promise=promise, statistics=nothing)
