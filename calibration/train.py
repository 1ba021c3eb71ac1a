"""Good panels -> recipe. The only place where the line's networks are trained; needs the extra [teach]."""

import logging
import math
import resource
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from calibration import anomalies
from calibration.panels import PanelSet
from calibration.seal import Draft, finish
from calibration.stack import Stack, Tell, floats, read_good, split
from engines import methods, recipe, runtimes
from engines.detector import INPUT, MAP, SCORE
from engines.errors import EngineError, UsageError
from engines.methods import MethodSettings, Schedule, Stage
from engines.recipe import Promise, Recipe, Resize, Training

CACHE_BYTES = 1_500_000_000
MAP_TOLERANCE, SCORE_TOLERANCE = 1e-4, 1e-3
EXPORT_BATCH = 64
DEFECT_SHARE = 0.75
DEFAULT_PROMISE = Promise(rate=0.02, confidence=0.9)


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


def teach(request: Request, tell: Tell = lambda phase, done, total: None) -> Taught:
    """Teach a recipe from the good panels of a set and write it to `request.out`.

    Raises:
        PanelError: the set is unreadable or too small.
        UsageError: the settings or weights cannot be used, or `out` is taken.
        EngineError: the exported network does not answer as the taught one.
    """
    started = time.monotonic()
    place = _free_place(request.out)
    try:
        parity, remark = _teach_into(place, request, tell)
        place.rename(request.out)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Taught(recipe.load(request.out), time.monotonic() - started, memory, parity, remark)


def _teach_into(folder: Path, request: Request, tell: Tell) -> tuple[float, str | None]:
    method = methods.load(request.method)
    settings = methods.settings_of(method, request.settings)
    geometry = Resize(height=settings.height, width=settings.width)
    torch.manual_seed(request.seed)
    model = method.build(len(request.panels.channels), settings)
    teacher = method.load_teacher(model, request.teacher_weights)
    training, held_out = split(read_good(request.panels, geometry, tell), request.hold_out_every)
    losses = _fit(model, training, settings.schedule, request.seed, tell)
    tell("exporting", 0, 1)
    _export(model, training, folder)
    parity = _prove(method, settings, held_out, folder)
    facts = _training(request.seed, model, (len(training.names), len(held_out.names)), teacher, losses)
    plain = settings.model_dump(mode="json")
    draft = Draft(folder, request.panels, request.method, plain, geometry, facts, losses)
    return parity, finish(draft, held_out, request.promise, tell)


def _training(
    seed: int, model: Any, counts: tuple[int, int], teacher: tuple[str, str], losses: Sequence[float]
) -> Training:
    facts = {"loss": round(float(np.mean(losses[-20:])), 6), "steps": len(losses), "torch": str(torch.__version__)}
    return Training(
        panels=counts[0],
        held_out=counts[1],
        seed=seed,
        teacher=teacher[0],
        teacher_sha256=teacher[1],
        facts={**model.training_facts, **facts},
    )


def _free_place(out: Path) -> Path:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already; a recipe is never overwritten: give another --out")
    if out.exists():
        out.rmdir()
    place = out.parent / f".{out.name}.partial"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def _batches(stack: Stack, size: int = 8) -> Iterator[Tensor]:
    for start in range(0, len(stack.names), size):
        yield torch.from_numpy(stack.floats(slice(start, start + size)))


class Shelf:
    """Training batches with the teacher's answers, kept in half precision as far as memory allows."""

    def __init__(self, ask: Callable[[Tensor], Sequence[Tensor]] | None, stack: Stack) -> None:
        self._targets, self._stack = ask, stack
        self._kept: dict[tuple[int, int], list[Tensor]] = {}
        self._bytes = 0

    def batch(self, chosen: Sequence[int], flips: Sequence[int]) -> tuple[Tensor, list[Tensor] | None]:
        """Panels `chosen`, each mirrored as its entry of `flips` says: bit 0 left-right, bit 1 top-bottom."""
        rows = [
            _flipped(torch.from_numpy(self._stack.floats(index)), flip)
            for index, flip in zip(chosen, flips, strict=True)
        ]
        batch = torch.stack(rows)
        if self._targets is None:
            return batch, None
        keys = list(zip(chosen, flips, strict=True))
        unknown = [place for place, key in enumerate(keys) if key not in self._kept]
        fresh = dict(zip(unknown, self._ask(batch[unknown]), strict=True)) if unknown else {}
        answers = [fresh[place] if place in fresh else self._kept[key] for place, key in enumerate(keys)]
        for place, answer in fresh.items():
            self._keep(keys[place], answer)
        return batch, [torch.stack(level).float() for level in zip(*answers, strict=True)]

    def _ask(self, batch: Tensor) -> list[list[Tensor]]:
        assert self._targets is not None
        levels = [level.half() for level in self._targets(batch)]
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
    """Train and fit what stands before and after the networks; the loss of every step of the last stage."""
    model.fit_input(partial(_batches, stack))
    losses: list[float] = []
    for stage in model.stages():
        losses = _run(stage, model, stack, schedule, np.random.default_rng(seed), tell)
    model.eval()
    model.fit_output(partial(_batches, stack))
    return losses


def _run(
    stage: Stage, model: Any, stack: Stack, schedule: Schedule, rng: np.random.Generator, tell: Tell
) -> list[float]:
    shelf, order = Shelf(stage.targets, stack), _endless(len(stack.names), rng)
    optimiser = torch.optim.AdamW(stage.parameters, lr=schedule.learning_rate)
    steps = math.ceil(stage.image_passes / schedule.batch)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _pace(step / steps))
    losses = []
    model.train()
    for step in range(steps):
        tell(f"teaching the {stage.name}", step, steps)
        chosen = [next(order) for _ in range(schedule.batch)]
        flips = rng.integers(0, 4 if schedule.flips else 1, schedule.batch).tolist()
        mask = None
        if stage.needs_defects:
            batch, mask = _with_defects(stack, chosen, flips, rng)
            targets = stage.targets(batch) if stage.targets else None
        else:
            batch, targets = shelf.batch(chosen, flips)
        loss = stage.loss(batch, mask, targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        losses.append(float(loss.detach()))
    return losses


def _with_defects(
    stack: Stack, chosen: Sequence[int], flips: Sequence[int], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Panels as floats, three in four with a synthetic defect, and the masks, bool [N, h, w]."""
    rows, masks = [], []
    for index, flip in zip(chosen, flips, strict=True):
        frames, mask = stack.frames[index], np.zeros(stack.frames.shape[2:], bool)
        if rng.uniform() < DEFECT_SHARE:
            drawn = anomalies.draw(frames, rng)
            frames, mask = drawn.frames, drawn.mask
        rows.append(_flipped(torch.from_numpy(floats(frames)), flip))
        masks.append(_flipped(torch.from_numpy(mask)[None], flip)[0])
    return torch.stack(rows), torch.stack(masks)


def _endless(count: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(count).tolist()


def _pace(done: float) -> float:
    """Share of the learning rate: full in the first half, then down to zero along a cosine."""
    return 1.0 if done < 0.5 else 0.5 * (1 + math.cos(math.pi * (2 * done - 1)))


def _export(model: Any, stack: Stack, folder: Path) -> None:
    example = torch.from_numpy(stack.floats(slice(0, 2)))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports which optional packages it lacks
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
    _forget_where(folder / recipe.NETWORK)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / recipe.WEIGHTS)
    (folder / recipe.WEIGHTS).chmod(0o644)  # safetensors leaves it to its owner alone


def _forget_where(path: Path) -> None:
    """Take out of a network file in which source files of this machine its nodes were traced."""
    network = onnx.load(path)
    for each in (network, network.graph, *network.graph.node, *network.graph.value_info, *network.graph.initializer):
        del each.metadata_props[:]
        each.doc_string = ""
    onnx.save(network, path)


def _prove(method: Any, settings: MethodSettings, stack: Stack, folder: Path) -> float:
    """Largest score difference of `weights.safetensors` in PyTorch and `network.onnx` in ONNX Runtime."""
    fresh = method.build(stack.frames.shape[1], settings)
    fresh.load_state_dict(load_file(folder / recipe.WEIGHTS))
    batch = torch.from_numpy(stack.floats(slice(0, 8)))
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
