"""The training loop: a model's stages, one after the other, over what `calibration.material` shows; it can be resumed.

A run that was interrupted goes on from its last checkpoint and ends with the numbers of one that was not, up to the
rounding of the teacher's answers, which are asked for in other batches.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from calibration.material import Batch, Course, Material, batches
from calibration.stack import Tell
from engines import cpu
from engines.errors import UsageError
from engines.methods import Schedule, Stage

KEPT = "panels_kept_for_output"  # in the training facts


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
        shown = batches(material, self._stage, self._course)
        if saved:
            self._resume(saved)
        self._model.train()
        for step in range(len(self._losses), self._course.steps):
            tell(step, self._course.steps)
            self._losses.append(self._step(step, shown.batch(step)))
            if bookmark.due():
                bookmark.put(self._state())
        bookmark.put(self._state())
        return self._losses

    def _step(self, step: int, batch: Batch) -> float:
        loss = self._stage.loss(batch.panels, batch.masks, batch.targets)
        if not bool(torch.isfinite(loss)):
            raise UsageError(self._cause(step, batch))
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        self._pace.step()
        return float(loss.detach())

    def _cause(self, step: int, batch: Batch) -> str:
        """What went wrong first, in one line."""
        if not bool(torch.isfinite(batch.panels).all()):
            where = "the panels themselves are not finite"
        elif batch.targets is not None and not all(bool(torch.isfinite(level).all()) for level in batch.targets):
            where = "the teacher's answer is not finite: its weights do not suit these panels"
        else:
            rate = "schedule.learning_rate" if self._stage.learning_rate is None else f"{self._stage.name}_rate"
            where = f"what learns is not finite: lower {rate}"
        named = ", ".join(batch.names)
        return f"teaching the {self._stage.name} stopped at step {step}: {where} (panels {named})"

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


def fit(
    model: Any,
    material: Material,
    schedule: Schedule,
    checkpoint: Checkpoint,
    tell: Tell,
    outputs: bool = True,
    share: float = 1.0,
) -> list[float]:
    """Train `model` and fit what stands before and after the networks; the loss of every step of the last stage.

    Where `material` is a `share` of what the schedule is for, each panel is shown as often as it would be there.
    Of a model that `keeps_unseen`, some good panels train nothing, see `Material.parted`.

    The checkpoint is written now and then, read where it is there already, and left behind. `tell` hears the name of
    the stage. Without `outputs`, what stands after the networks is left to the caller, and so is that parting.

    Raises:
        UsageError: the loss is no finite number; step and panels are named.
    """
    model.to(memory_format=memory_format())
    model.fit_input(material.batches)
    taught = _parted(model, material)[0] if outputs else material
    saved = checkpoint.read()
    losses: list[float] = []
    for number, whole in enumerate(model.stages()):
        if saved and number < saved["stage"]:
            continue
        stage = whole.part(share)
        run = Run(model, stage, Course(taught, stage, schedule), schedule)
        losses = run.go(taught, partial(tell, stage.name), Bookmark(checkpoint, number), saved)
        saved = None
    model.eval()
    model.to(memory_format=torch.contiguous_format)
    if outputs:
        fit_output(model, material)
    return losses


def fit_output(model: Any, material: Material) -> None:
    """Fit what stands behind the networks of a model that `fit` trained from the same material."""
    unseen = _parted(model, material)[1]
    if unseen is None:
        model.fit_output(material.batches)
    else:
        model.fit_output(material.batches, unseen.batches)
        model.training_facts[KEPT] = len(unseen.good.names)


def _parted(model: Any, material: Material) -> tuple[Material, Material | None]:
    """What trains the model, and what is kept from training for its output."""
    return material.parted() if getattr(model, "keeps_unseen", False) else (material, None)


def memory_format() -> torch.memory_format:
    """How tensors lie while a network learns: channels last is a tenth faster on a CPU.

    With AVX2 and without AVX-512, torch 2.13 then spoils the heap in the backward pass of narrow convolutions.
    """
    return torch.channels_last if "avx512f" in cpu.flags() else torch.contiguous_format


def pace(done: float) -> float:
    """Share of the learning rate: full in the first half, then down to zero along a cosine."""
    return 1.0 if done < 0.5 else 0.5 * (1 + math.cos(math.pi * (2 * done - 1)))
