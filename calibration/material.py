"""What the training loop shows: good panels with the teacher's answers, and panels with defects.

What a step shows depends on seed, stage and step, on nothing before it.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration import anomalies
from calibration.specimens import different
from calibration.stack import Stack, floats
from engines.methods import Schedule, Stage

CACHE_BYTES = 1_500_000_000
DEFECT_SHARE = 0.75
LEAST_VARIETY = 64
UNSEEN_EVERY, FEWEST_UNSEEN, FEWEST_PARTED = 8, 4, 24


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

    def parted(self) -> "tuple[Material, Material | None]":
        """What trains a network, and good panels kept from it, see `unseen_of`; None if scarce."""
        unseen = unseen_of(self.good.numbers())
        return (self.without(unseen), self.without(~unseen)) if unseen.any() else (self, None)

    def batches(self, size: int = 8) -> Iterator[Tensor]:
        """All good panels once, float32 [<=size, C, h, w]."""
        for start in range(0, len(self.good.names), size):
            yield torch.from_numpy(self.good.floats(slice(start, start + size)))


def unseen_of(specimens: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool [n], of good panels of these `specimens`: every eighth is kept from training, and all of its specimen.

    At least `FEWEST_UNSEEN` where each is another specimen; none if scarce. They are as few as tell quantiles of a
    map's cells, since each of them is missing in training.
    """
    count, things = len(specimens), different(specimens)
    if count < FEWEST_PARTED or things < FEWEST_UNSEEN:
        return np.zeros(count, bool)
    every = min(UNSEEN_EVERY, count // FEWEST_UNSEEN, things)
    return specimens % every == every - 1


@dataclass(frozen=True)
class Shown:
    """One row of a batch: a good panel, its mirroring (bit 0 left-right, bit 1 top-bottom), the channel it lost."""

    index: int
    flip: int
    lost: int | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step shows: panels, masks where they have defects, what the stage's `targets` says, and who they are."""

    panels: Tensor
    masks: Tensor | None
    targets: Sequence[Tensor] | None
    names: tuple[str, ...]


class Course:
    """Which panels each step of a stage shows."""

    def __init__(self, material: Material, stage: Stage, schedule: Schedule) -> None:
        self._material, self._stage, self._schedule = material, stage, schedule
        self._key = (material.seed, zlib.crc32(stage.name.encode()))
        self._order = lru_cache(maxsize=2)(self._shuffled)
        self.steps = math.ceil(stage.image_passes / schedule.batch)

    def rng(self, number: int) -> np.random.Generator:
        """For everything that is drawn for a step, or for a panel of those that are shown again."""
        return np.random.default_rng((*self._key, 0, number))

    def rows(self, step: int, rng: np.random.Generator) -> list[Shown]:
        return [self.row(place, rng) for place in self._places(step)]

    def row(self, place: int, rng: np.random.Generator) -> Shown:
        good = len(self._material.good.names)
        epoch, at = divmod(place, good)
        index = int(self._order(epoch, good)[at])
        flip = int(rng.integers(4)) if self._schedule.flips else 0
        channels = len(self._material.channels)
        loses = channels > 1 and rng.uniform() < self._stage.channel_dropout
        # always the same one of a mirrored panel, so that the teacher's answer can be kept
        return Shown(index, flip, (index + 5 * flip) % channels if loses else None)

    def again(self, step: int, variety: int) -> list[int]:
        """Which of `variety` panels the step shows: all of them, then all of them in another order."""
        return [int(self._order(place // variety, variety)[place % variety]) for place in self._places(step)]

    def _places(self, step: int) -> range:
        return range(step * self._schedule.batch, (step + 1) * self._schedule.batch)

    def _shuffled(self, epoch: int, count: int) -> NDArray[np.int64]:
        return np.random.default_rng((*self._key, 1, epoch)).permutation(count)


class GoodPanels:
    """Batches of good panels; what the targets say of each is kept, in half precision, as far as memory allows."""

    def __init__(self, material: Material, stage: Stage, course: Course) -> None:
        self._good, self._targets, self._course = material.good, stage.targets, course
        self._kept: dict[Shown, list[Tensor]] = {}
        self._room = CACHE_BYTES

    def batch(self, step: int) -> Batch:
        rows = self._course.rows(step, self._course.rng(step))
        panels = torch.stack([_seen(torch.from_numpy(self._good.floats(row.index)), row) for row in rows])
        return Batch(panels, None, self._answers(rows, panels), _names(self._good, rows))

    def _answers(self, rows: Sequence[Shown], panels: Tensor) -> list[Tensor] | None:
        if self._targets is None:
            return None
        unknown = [place for place, row in enumerate(rows) if row not in self._kept]
        said = _halves(self._targets(panels[unknown])) if unknown else []
        fresh = dict(zip(unknown, said, strict=True))
        answers = [fresh[place] if place in fresh else self._kept[row] for place, row in enumerate(rows)]
        for place, answer in fresh.items():
            self._keep(rows[place], answer)
        return _joined(answers)

    def _keep(self, row: Shown, answer: list[Tensor]) -> None:
        size = _bytes(answer)
        if size <= self._room:
            self._kept[row] = answer
            self._room -= size


class Defects:
    """Batches with defects, each drawn for its step alone."""

    def __init__(self, material: Material, stage: Stage, course: Course) -> None:
        self._material, self._targets, self._course = material, stage.targets, course

    def batch(self, step: int) -> Batch:
        rng = self._course.rng(step)
        rows = self._course.rows(step, rng)
        panels, masks = with_defects(self._material, rows, rng)
        targets = self._targets(panels) if self._targets else None
        return Batch(panels, masks, targets, _names(self._material.good, rows))


@dataclass(frozen=True, eq=False)
class _Drawn:
    """One panel of `DefectsAgain`: its integers, its mask, and what the targets say of it."""

    row: Shown
    frames: NDArray
    mask: NDArray[np.bool_]
    answer: list[Tensor]


class DefectsAgain:
    """Batches of `variety` panels with defects that come again, with what the targets say of each.

    They are fewer where memory holds fewer, but `LEAST_VARIETY`; what is not held then is drawn anew.
    """

    def __init__(self, material: Material, stage: Stage, course: Course) -> None:
        assert stage.variety and stage.targets
        self._material, self._course = material, course
        self._targets = stage.targets
        self._kept: dict[int, _Drawn] = {}
        self._room = CACHE_BYTES
        fitting = CACHE_BYTES // _size(self._draw(0))
        self._variety = min(stage.variety, max(LEAST_VARIETY, fitting))

    def batch(self, step: int) -> Batch:
        drawn = [self._kept.get(number) or self._draw(number) for number in self._course.again(step, self._variety)]
        panels = torch.stack([_panel(one) for one in drawn])
        masks = torch.stack([_mirrored(torch.from_numpy(one.mask)[None], one.row.flip)[0] for one in drawn])
        names = _names(self._material.good, [one.row for one in drawn])
        return Batch(panels, masks, _joined([one.answer for one in drawn]), names)

    def _draw(self, number: int) -> _Drawn:
        rng = self._course.rng(number)
        row = self._course.row(number, rng)
        frames, mask = _with_defect(self._material, row, rng)
        panel = _seen(torch.from_numpy(floats(frames)), row)
        [answer] = _halves(self._targets(panel[None]))
        drawn = _Drawn(row, frames, mask, answer)
        if (size := _size(drawn)) <= self._room:
            self._kept[number] = drawn
            self._room -= size
        return drawn


def batches(material: Material, stage: Stage, course: Course) -> GoodPanels | Defects | DefectsAgain:
    """What a stage asks for."""
    if not stage.needs_defects:
        return GoodPanels(material, stage, course)
    return DefectsAgain(material, stage, course) if stage.variety else Defects(material, stage, course)


def _names(good: Stack, rows: Sequence[Shown]) -> tuple[str, ...]:
    return tuple(good.names[row.index] for row in rows)


def _panel(one: _Drawn) -> Tensor:
    return _seen(torch.from_numpy(floats(one.frames)), one.row)


def _halves(levels: Sequence[Tensor]) -> list[list[Tensor]]:
    """Each row's levels by themselves, in half precision."""
    halves = [level.half() for level in levels]
    return [[level[row].clone() for level in halves] for row in range(len(halves[0]))]


def _joined(answers: Sequence[list[Tensor]]) -> list[Tensor]:
    return [torch.stack(level).float() for level in zip(*answers, strict=True)]


def _size(one: _Drawn) -> int:
    return one.frames.nbytes + one.mask.nbytes + _bytes(one.answer)


def _bytes(answer: Sequence[Tensor]) -> int:
    return sum(level.numel() * level.element_size() for level in answer)


def with_defects(material: Material, rows: Sequence[Shown], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Panels as floats, three in four defective, and the masks, bool [N, h, w].

    Labelled defective panels where there are any, else synthetic defects on good panels. A synthetic defect that shows
    in the lost channel alone leaves no mask: nothing of it is to be seen.
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
    return drawn.frames, np.zeros_like(drawn.mask) if _shows_alone(drawn.visible, row.lost) else drawn.mask


def _shows_alone(visible: NDArray[np.bool_], channel: int | None) -> bool:
    return channel is not None and bool(visible[channel]) and int(visible.sum()) == 1


def _seen(panel: Tensor, row: Shown) -> Tensor:
    if row.lost is not None:
        panel = panel.clone()
        panel[row.lost] = 0
    return _mirrored(panel, row.flip)


def _mirrored(panel: Tensor, flip: int) -> Tensor:
    dims = [dim for bit, dim in ((1, 2), (2, 1)) if flip & bit]
    return panel.flip(dims) if dims else panel
