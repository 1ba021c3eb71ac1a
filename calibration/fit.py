"""The training loop: a model's stages over good panels, each step drawn from the seed alone, so that it can be resumed.

What a step shows depends on seed, stage and step, on nothing before it: a run that was interrupted goes on from its
last checkpoint and ends with the numbers of one that was not, up to the rounding of the teacher's answers, which are
asked for in other batches.
"""

import math
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration import anomalies
from calibration.stack import Stack, Tell, floats
from engines.errors import UsageError
from engines.methods import Schedule, Stage

CACHE_BYTES = 1_500_000_000
DEFECT_SHARE = 0.75


@dataclass(frozen=True, eq=False)
class Defective:
    """Labelled defective panels: integers [n, C, h, w] and masks, bool [n, h, w]."""

    frames: NDArray
    masks: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Material:
    """What is shown: good panels, their channels' names, and labelled defective panels where the set has them.

    `kinds`: the synthetic defects to draw, all where None.
    """

    good: Stack
    channels: tuple[str, ...]
    seed: int
    defective: Defective | None = None
    kinds: tuple[str, ...] | None = None

    def without(self, kept_back: NDArray[np.bool_]) -> "Material":
        """The same without the good panels where `kept_back` [n] is true."""
        return replace(self, good=self.good.part(~kept_back))

    def batches(self, size: int = 8) -> Iterator[Tensor]:
        """All good panels once, float32 [<=size, C, h, w]."""
        for start in range(0, len(self.good.names), size):
            yield torch.from_numpy(self.good.floats(slice(start, start + size)))


@dataclass(frozen=True)
class Shown:
    """One row of a batch: a good panel, its mirroring (bit 0 left-right, bit 1 top-bottom), the channel it lost."""

    index: int
    flip: int
    lost: int | None = None


class Course:
    """Which panels each step of a stage shows."""

    def __init__(self, material: Material, stage: Stage, schedule: Schedule) -> None:
        self._material, self._stage, self._schedule = material, stage, schedule
        self._key = (material.seed, zlib.crc32(stage.name.encode()))
        self._order = lru_cache(maxsize=2)(self._shuffled)
        self.steps = math.ceil(stage.image_passes / schedule.batch)

    def rng(self, step: int) -> np.random.Generator:
        return np.random.default_rng((*self._key, 0, step))

    def rows(self, step: int, rng: np.random.Generator) -> list[Shown]:
        places = range(step * self._schedule.batch, (step + 1) * self._schedule.batch)
        return [self._row(place, rng) for place in places]

    def _row(self, place: int, rng: np.random.Generator) -> Shown:
        epoch, at = divmod(place, len(self._material.good.names))
        index = int(self._order(epoch)[at])
        flip = int(rng.integers(4)) if self._schedule.flips else 0
        channels = len(self._material.channels)
        loses = channels > 1 and rng.uniform() < self._stage.channel_dropout
        # always the same one of a mirrored panel, so that the teacher's answer can be kept
        return Shown(index, flip, (index + 5 * flip) % channels if loses else None)

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((*self._key, 1, epoch)).permutation(len(self._material.good.names))


class Shelf:
    """Training batches with the teacher's answers, kept in half precision as far as memory allows."""

    def __init__(self, ask: Callable[[Tensor], Sequence[Tensor]] | None, good: Stack) -> None:
        self._targets, self._good = ask, good
        self._kept: dict[Shown, list[Tensor]] = {}
        self._bytes = 0

    def batch(self, rows: Sequence[Shown]) -> tuple[Tensor, list[Tensor] | None]:
        batch = torch.stack([_seen(torch.from_numpy(self._good.floats(row.index)), row) for row in rows])
        if self._targets is None:
            return batch, None
        unknown = [place for place, row in enumerate(rows) if row not in self._kept]
        fresh = dict(zip(unknown, self._ask(batch[unknown]), strict=True)) if unknown else {}
        answers = [fresh[place] if place in fresh else self._kept[row] for place, row in enumerate(rows)]
        for place, answer in fresh.items():
            self._keep(rows[place], answer)
        return batch, [torch.stack(level).float() for level in zip(*answers, strict=True)]

    def _ask(self, batch: Tensor) -> list[list[Tensor]]:
        assert self._targets is not None
        levels = [level.half() for level in self._targets(batch)]
        return [[level[row].clone() for level in levels] for row in range(len(batch))]

    def _keep(self, row: Shown, answer: list[Tensor]) -> None:
        size = sum(level.numel() * level.element_size() for level in answer)
        if self._bytes + size <= CACHE_BYTES:
            self._kept[row] = answer
            self._bytes += size


@dataclass(frozen=True)
class Checkpoint:
    """A file from which an interrupted training goes on; written every `every_s` seconds and after every stage."""

    path: Path
    every_s: float = 20.0

    def read(self) -> dict[str, Any] | None:
        return torch.load(self.path, weights_only=True) if self.path.is_file() else None

    def write(self, state: dict[str, Any]) -> None:
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.path)


class Bookmark:
    """The checkpoint during one stage."""

    def __init__(self, checkpoint: Checkpoint, stage: int) -> None:
        self._checkpoint, self._stage, self._written_s = checkpoint, stage, time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._written_s > self._checkpoint.every_s

    def put(self, state: dict[str, Any]) -> None:
        self._checkpoint.write(state | {"stage": self._stage})
        self._written_s = time.monotonic()


class Run:
    """One stage of one training."""

    def __init__(self, model: Any, stage: Stage, course: Course, schedule: Schedule) -> None:
        self._model, self._stage, self._course = model, stage, course
        rate = schedule.learning_rate if stage.learning_rate is None else stage.learning_rate
        self._optimiser = torch.optim.AdamW(stage.parameters, lr=rate)
        self._pace = torch.optim.lr_scheduler.LambdaLR(self._optimiser, lambda step: pace(step / course.steps))
        self._losses: list[float] = []

    def go(
        self, material: Material, tell: Callable[[int, int], None], bookmark: Bookmark, saved: dict[str, Any] | None
    ) -> list[float]:
        shelf = Shelf(self._stage.targets, material.good)
        if saved:
            self._resume(saved)
        self._model.train()
        for step in range(len(self._losses), self._course.steps):
            tell(step, self._course.steps)
            self._losses.append(self._step(step, material, shelf))
            if bookmark.due():
                bookmark.put(self._state())
        bookmark.put(self._state())
        return self._losses

    def _step(self, step: int, material: Material, shelf: Shelf) -> float:
        rng = self._course.rng(step)
        rows = self._course.rows(step, rng)
        mask = None
        if self._stage.needs_defects:
            batch, mask = with_defects(material, rows, rng)
            targets = self._stage.targets(batch) if self._stage.targets else None
        else:
            batch, targets = shelf.batch(rows)
        loss = self._stage.loss(batch, mask, targets)
        if not bool(torch.isfinite(loss)):
            raise UsageError(self._cause(step, batch, targets, [material.good.names[row.index] for row in rows]))
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        self._pace.step()
        return float(loss.detach())

    def _cause(self, step: int, batch: Tensor, targets: Sequence[Tensor] | None, names: Sequence[str]) -> str:
        """What went wrong first, in one line."""
        if not bool(torch.isfinite(batch).all()):
            where = "the panels themselves are not finite"
        elif targets is not None and not all(bool(torch.isfinite(level).all()) for level in targets):
            where = "the teacher's answer is not finite: its weights do not suit these panels"
        else:
            where = "the student's answer is not finite: lower schedule.learning_rate"
        return f"teaching the {self._stage.name} stopped at step {step}: {where} (panels {', '.join(names)})"

    def _state(self) -> dict[str, Any]:
        return {
            "model": self._model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "pace": self._pace.state_dict(),
            "losses": self._losses,
        }

    def _resume(self, saved: dict[str, Any]) -> None:
        self._model.load_state_dict(saved["model"])
        self._optimiser.load_state_dict(saved["optimiser"])
        self._pace.load_state_dict(saved["pace"])
        self._losses = list(saved["losses"])


def fit(model: Any, material: Material, schedule: Schedule, checkpoint: Checkpoint, tell: Tell) -> list[float]:
    """Train `model` and fit what stands before and after the networks; the loss of every step of the last stage.

    The checkpoint is written now and then, read where it is there already, and left behind. `tell` hears the name of
    the stage.

    Raises:
        UsageError: the loss is no finite number; step and panels are named.
    """
    model.fit_input(material.batches)
    saved = checkpoint.read()
    losses: list[float] = []
    for number, stage in enumerate(model.stages()):
        if saved and number < saved["stage"]:
            continue
        run = Run(model, stage, Course(material, stage, schedule), schedule)
        losses = run.go(material, partial(tell, stage.name), Bookmark(checkpoint, number), saved)
        saved = None
    model.eval()
    model.fit_output(material.batches)
    return losses


def with_defects(material: Material, rows: Sequence[Shown], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Panels as floats, three in four defective, and the masks, bool [N, h, w].

    Labelled defective panels where there are any, else synthetic defects on good panels.
    """
    batch, masks = [], []
    for row in rows:
        frames, mask = _with_defect(material, row, rng)
        batch.append(_seen(torch.from_numpy(floats(frames)), row))
        masks.append(_mirrored(torch.from_numpy(mask)[None], row.flip)[0])
    return torch.stack(batch), torch.stack(masks)


def _with_defect(material: Material, row: Shown, rng: np.random.Generator) -> tuple[NDArray, NDArray[np.bool_]]:
    good = material.good.frames[row.index]
    if rng.uniform() >= DEFECT_SHARE:
        return good, np.zeros(good.shape[1:], bool)
    if material.defective is not None:
        chosen = rng.integers(len(material.defective.frames))
        return material.defective.frames[chosen], material.defective.masks[chosen]
    kind = str(rng.choice(material.kinds)) if material.kinds else None
    drawn = anomalies.draw(good, rng, kind, material.channels)
    return drawn.frames, drawn.mask


def _seen(panel: Tensor, row: Shown) -> Tensor:
    if row.lost is not None:
        panel = panel.clone()
        panel[row.lost] = 0
    return _mirrored(panel, row.flip)


def _mirrored(panel: Tensor, flip: int) -> Tensor:
    dims = [dim for bit, dim in ((1, 2), (2, 1)) if flip & bit]
    return panel.flip(dims) if dims else panel


def pace(done: float) -> float:
    """Share of the learning rate: full in the first half, then down to zero along a cosine."""
    return 1.0 if done < 0.5 else 0.5 * (1 + math.cos(math.pi * (2 * done - 1)))
