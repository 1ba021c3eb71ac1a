"""Good panels -> recipe. The only place where the line's networks are trained; needs the extra [teach]."""

import math
import resource
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from calibration import golden, report
from calibration.limits import FEWEST, set_limits
from calibration.panels import GOOD, PanelSet
from engines import methods, recipe, runtimes
from engines.detector import INPUT, MAP, SCORE, Detector, Gather, open_detector
from engines.errors import EngineError, PanelError, UsageError
from engines.methods import MethodSettings, Schedule
from engines.recipe import Channel, Limits, Promise, Recipe, Resize, ScoreStatistics, Training

CACHE_BYTES = 1_500_000_000
MAP_TOLERANCE, SCORE_TOLERANCE = 1e-4, 1e-3
EXPORT_BATCH = 64
DEFAULT_PROMISE = Promise(rate=0.02, confidence=0.9)

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """What to teach. `hold_out_every`: every so many-th good panel is kept from training for the limits."""

    panels: PanelSet
    out: Path
    method: str = "mkd"
    settings: dict[str, Any] = field(default_factory=dict)
    teacher_weights: Path | None = None
    seed: int = 0
    hold_out_every: int = 5
    promise: Promise = DEFAULT_PROMISE


@dataclass(frozen=True)
class Taught:
    """What came of it. `parity` is the largest difference of scores, PyTorch against ONNX Runtime."""

    recipe: Recipe
    seconds: float
    peak_memory_mb: float
    parity: float
    remark: str | None


@dataclass(frozen=True, eq=False)
class Stack:
    """Good panels at the network's input size, integers [n, C, h, w], and their names."""

    frames: NDArray
    names: tuple[str, ...]

    def part(self, chosen: NDArray[np.bool_]) -> "Stack":
        return Stack(self.frames[chosen], tuple(np.array(self.names)[chosen]))

    def tensor(self, chosen: Any) -> Tensor:
        """float32 [k, C, h, w], 0..1, computed as on the line."""
        scale = np.float32(1.0 / np.iinfo(self.frames.dtype).max)
        return torch.from_numpy(np.multiply(self.frames[chosen], scale))

    def batches(self, size: int = 8) -> Iterator[Tensor]:
        for start in range(0, len(self.frames), size):
            yield self.tensor(slice(start, start + size))


def teach(request: Request, tell: Tell = lambda phase, done, total: None) -> Taught:
    """Teach a recipe from the good panels of a set and write it to `request.out`.

    Raises:
        PanelError: the set is unreadable or too small.
        UsageError: the settings or weights cannot be used, or `out` is taken.
        EngineError: the exported network does not answer as the taught one.
    """
    started = time.monotonic()
    partial = _free_place(request.out)
    method = methods.load(request.method)
    settings = methods.settings_of(method, request.settings)
    torch.manual_seed(request.seed)
    stack, area_px = _read(request.panels, settings, tell)
    training, held_out = _split(stack, request.hold_out_every)
    model = method.build(stack.frames.shape[1], settings)
    teacher, digest = method.load_teacher(model, request.teacher_weights)
    losses = _fit(model, training, settings.schedule, request.seed, tell)
    tell("exporting", 0, 1)
    _export(model.eval(), training, partial)
    parity = _prove(method, settings, held_out, partial)
    facts = _facts(request, settings, stack, (teacher, digest))
    facts["training"] = Training(
        panels=len(training.names),
        held_out=len(held_out.names),
        seed=request.seed,
        teacher=teacher,
        teacher_sha256=digest,
        facts={**model.training_facts, "loss": round(float(np.mean(losses[-20:])), 6), "steps": len(losses)},
    )
    remark = _finish(request, partial, facts, held_out, losses, area_px, tell)
    partial.rename(request.out)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Taught(recipe.load(request.out), time.monotonic() - started, memory, parity, remark)


def _free_place(out: Path) -> Path:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already; a recipe is never overwritten: give another --out")
    if out.exists():
        out.rmdir()
    partial = out.parent / f".{out.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def _read(panels: PanelSet, settings: MethodSettings, tell: Tell) -> tuple[Stack, int]:
    """All good panels, resized, and the panel area in pixels of one map cell at stride 4."""
    found = list(panels.panels("train", GOOD))
    if len(found) < 2 * FEWEST:
        raise PanelError(f"{panels.path}: {len(found)} panels in train/good; at least {2 * FEWEST} are needed")
    geometry = Resize(height=settings.height, width=settings.width)
    rows, areas = [], []
    for number, panel in enumerate(found):
        tell("reading", number, len(found))
        frames = panels.read(panel)
        if rows and frames.dtype != rows[0].dtype:
            raise PanelError(f"{panel.path}: is {frames.dtype}, the panels before are {rows[0].dtype}")
        rows.append(Gather(len(frames), geometry, frames.dtype.name).resized(frames))
        areas.append(frames.shape[1] * frames.shape[2])
    cell_px = 16 * np.median(areas) / (settings.height * settings.width)
    return Stack(np.stack(rows), tuple(panel.name for panel in found)), round(float(cell_px))


def _split(stack: Stack, every: int) -> tuple[Stack, Stack]:
    if every < 2:
        raise UsageError(f"hold out every {every}: give at least 2, or nothing is left for training")
    held_out = np.arange(len(stack.names)) % every == every - 1
    return stack.part(~held_out), stack.part(held_out)


class Shelf:
    """Training batches with the teacher's answers, kept in half precision as far as memory allows."""

    def __init__(self, model: Any, stack: Stack) -> None:
        self._model, self._stack = model, stack
        self._kept: dict[tuple[int, int], list[Tensor]] = {}
        self._bytes = 0

    def batch(self, chosen: Sequence[int], flips: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Panels `chosen`, each mirrored as its entry of `flips` says: bit 0 left-right, bit 1 top-bottom."""
        rows = [_flipped(self._stack.tensor(index), flip) for index, flip in zip(chosen, flips, strict=True)]
        batch = torch.stack(rows)
        keys = list(zip(chosen, flips, strict=True))
        unknown = [place for place, key in enumerate(keys) if key not in self._kept]
        fresh = dict(zip(unknown, self._ask(batch[unknown]), strict=True)) if unknown else {}
        answers = [fresh[place] if place in fresh else self._kept[key] for place, key in enumerate(keys)]
        for place, answer in fresh.items():
            self._keep(keys[place], answer)
        return batch, [torch.stack(level).float() for level in zip(*answers, strict=True)]

    def _ask(self, batch: Tensor) -> list[list[Tensor]]:
        levels = [level.half() for level in self._model.targets(batch)]
        return [[level[row].clone() for level in levels] for row in range(len(batch))]

    def _keep(self, key: tuple[int, int], answer: list[Tensor]) -> None:
        size = sum(level.numel() * level.element_size() for level in answer)
        if self._bytes + size <= CACHE_BYTES:
            self._kept[key] = answer
            self._bytes += size


def _flipped(row: Tensor, flip: int) -> Tensor:
    dims = [dim for bit, dim in ((1, 2), (2, 1)) if flip & bit]
    return row.flip(dims) if dims else row


def _fit(model: Any, stack: Stack, schedule: Schedule, seed: int, tell: Tell) -> list[float]:
    """Train and fit what stands before and after the networks; the loss of every step."""
    model.fit_input(stack.batches)
    rng = np.random.default_rng(seed)
    shelf, order = Shelf(model, stack), _endless(len(stack.names), rng)
    optimiser = torch.optim.AdamW(model.trained(), lr=schedule.learning_rate)
    steps = math.ceil(schedule.image_passes / schedule.batch)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _pace(step / steps))
    losses = []
    model.train()
    for step in range(steps):
        tell("teaching", step, steps)
        chosen = [next(order) for _ in range(schedule.batch)]
        flips = rng.integers(0, 4 if schedule.flips else 1, schedule.batch).tolist()
        batch, targets = shelf.batch(chosen, flips)
        loss = model.loss(batch, None, targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        losses.append(float(loss.detach()))
    model.eval()
    model.fit_output(stack.batches)
    return losses


def _endless(count: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(count).tolist()


def _pace(done: float) -> float:
    """Share of the learning rate: full in the first half, then down to zero along a cosine."""
    return 1.0 if done < 0.5 else 0.5 * (1 + math.cos(math.pi * (2 * done - 1)))


def _export(model: Any, stack: Stack, folder: Path) -> None:
    example = stack.tensor(slice(0, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        torch.onnx.export(
            model,
            (example,),
            folder / recipe.NETWORK,
            dynamo=True,
            opset_version=20,
            input_names=[INPUT],
            output_names=[MAP, SCORE],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=EXPORT_BATCH)},),
            external_data=False,
            verbose=False,
        )
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / recipe.WEIGHTS)


def _prove(method: Any, settings: MethodSettings, stack: Stack, folder: Path) -> float:
    """Largest score difference of `weights.safetensors` in PyTorch and `network.onnx` in ONNX Runtime."""
    fresh = method.build(stack.frames.shape[1], settings)
    fresh.load_state_dict(load_file(folder / recipe.WEIGHTS))
    batch = stack.tensor(slice(0, 8))
    with torch.no_grad():
        map, score = (each.numpy() for each in fresh.eval()(batch))
    runtime = runtimes.load("onnxruntime", "fp32")
    with runtime.open_network(folder / recipe.NETWORK, "fp32", 2, len(batch)) as network:
        answer = network.run({INPUT: batch.numpy()})
        map_error = float(np.abs(answer[MAP] - map).max())
        score_error = float((np.abs(answer[SCORE] - score) / (1 + np.abs(score))).max())
    if not (map_error <= MAP_TOLERANCE and score_error <= SCORE_TOLERANCE):
        raise EngineError(f"the exported network differs from the taught one (map {map_error}, score {score_error})")
    return score_error


def _facts(request: Request, settings: MethodSettings, stack: Stack, teacher: tuple[str, str]) -> dict[str, Any]:
    return {
        "product": request.panels.product,
        "channels": tuple(map(_channel, request.panels.channels)),
        "geometry": Resize(height=settings.height, width=settings.width),
        "dtype": stack.frames.dtype.name,
        "method": request.method,
        "settings": settings.model_dump(mode="json"),
        "mm_per_px": request.panels.facts.mm_per_px,
    }


def _channel(name: str) -> Channel:
    light, mark, focus = name.rpartition("_")
    return Channel(name=name, light=light, focus=focus) if mark else Channel(name=name, light=name)


def _finish(
    request: Request,
    partial: Path,
    facts: dict[str, Any],
    held_out: Stack,
    losses: Sequence[float],
    area_px: int,
    tell: Tell,
) -> str | None:
    """Score the held-out panels on the production path, set limits, choose golden panels, report, seal."""
    unlimited = recipe.write(partial, {**facts, "limits": _unlimited()})
    with open_detector(unlimited) as detector:
        scores, maps = _scored(detector, held_out.frames, tell)
        limits, remark = set_limits(scores, maps, request.promise, area_px)
        rng = np.random.default_rng(request.seed)
        recipe.write_golden(partial, golden.choose(detector, held_out.frames, limits.image, rng))
    shown = [
        report.Shown(*each) for each in zip(held_out.names, held_out.frames[:, 0], maps, scores.tolist(), strict=True)
    ]
    report.write(partial / "report.html", _table(facts, limits, remark), losses, shown, limits)
    recipe.write(partial, {**facts, "limits": limits})
    return remark


def _scored(detector: Detector, frames: NDArray, tell: Tell) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    findings = []
    for number, panel in enumerate(frames):
        tell("scoring", number, len(frames))
        findings += detector.inspect([panel])
    return np.array([one.score for one in findings]), np.stack([one.map for one in findings])


def _unlimited() -> Limits:
    """Limits that reject nothing, for the recipe that scores the panels its limits are made of."""
    nothing = ScoreStatistics(panels=0, mean=0.0, std=0.0, minimum=0.0, median=0.0, maximum=0.0)
    most = float(np.finfo(np.float32).max)
    promise = Promise(rate=1.0, confidence=0.0)
    return Limits(image=most, pixel=most, low=-most, min_area_px=1, promise=promise, statistics=nothing)


def _table(facts: dict[str, Any], limits: Limits, remark: str | None) -> dict[str, Any]:
    training: Training = facts["training"]
    kept = limits.promise
    return {
        "product": facts["product"],
        "method": facts["method"],
        "teacher": training.teacher,
        "channels": ", ".join(channel.name for channel in facts["channels"]),
        "input": f"{facts['geometry'].height} x {facts['geometry'].width} {facts['dtype']}",
        "panels": f"{training.panels} taught, {training.held_out} held out",
        "limit": f"{limits.image:.4g}",
        "promise": f"at most {kept.rate:.1%} false rejects with {kept.confidence:.0%} confidence",
        "remark": remark or "none",
        **training.facts,
    }
