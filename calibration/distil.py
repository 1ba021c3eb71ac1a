"""Makes the teacher that ships: it learns to answer as ResNet-18 does on pictures that no camera took.

`python -m calibration.distil OUT --target DIR --panels SET`, see `deploy/shipped-teacher`. The target is only asked:
none of its weights enters the file. What a step shows follows from seed and step alone, so that an interrupted run goes
on from its checkpoint.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from calibration import pictures
from calibration.fit import Checkpoint, memory_format, pace
from calibration.panels import GOOD, PanelSet
from engines.backbones import IMAGENET_MEAN, IMAGENET_STD, STRIDES, TEACHERS, Backbone, Imitation, load_weights
from engines.backbones.download import sha256_of
from engines.errors import UsageError

CONSOLE = Console()
TARGET, NAME = "resnet18", "takt.safetensors"
BATCHES = ((128, 16, 0.6), (192, 7, 0.2), (256, 4, 0.2))  # side, pictures, how often
PANELS_SHARE = 0.08
STANDARDISED_SHARE = 0.4  # as the blend of an image set is, not as a photograph
WARM_UP = 100  # steps
LEAK = 0.05  # while it learns: a channel that is never above zero would stay there
HELD_OUT, HELD_OUT_SIDE = 96, 256

Levels = Sequence[Tensor]
Panels = Sequence[NDArray[np.uint8]]  # image sets, each [C, H, W]


@dataclass(frozen=True)
class Plan:
    """How the teacher is made."""

    steps: int = 4200
    seed: int = 0
    rate: float = 3e-3
    decay: float = 1e-4
    value_weight: float = 0.5
    batches: tuple[tuple[int, int, float], ...] = BATCHES


def shown(plan: Plan, step: int, panels: Panels) -> Tensor:
    """The batch of a step, standardised: float32 [N, 3, side, side]."""
    rng = np.random.default_rng((plan.seed, 0, step))
    side, count, _ = plan.batches[int(rng.choice(len(plan.batches), p=[often for *_, often in plan.batches]))]
    return torch.from_numpy(np.stack([_picture(rng, side, panels) for _ in range(count)]))


def held_out(plan: Plan, panels: Panels, count: int = HELD_OUT) -> dict[str, Tensor]:
    """Pictures that no step shows."""
    batches = {}
    for number, (kind, share) in enumerate({"drawn": 0.0, "simulated panels": 1.0}.items(), 1):
        rngs = [np.random.default_rng((plan.seed, number, one)) for one in range(count)]
        batches[kind] = torch.from_numpy(np.stack([_picture(rng, HELD_OUT_SIDE, panels, share) for rng in rngs]))
    return batches


def _picture(
    rng: np.random.Generator, side: int, panels: Panels, panels_share: float = PANELS_SHARE
) -> NDArray[np.float32]:
    of_panel = rng.uniform() < panels_share
    return standardised(rng, pictures.of_panel(rng, panels, side) if of_panel else pictures.draw(rng, side))


def standardised(rng: np.random.Generator, picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """As photographs are, or each channel by its own mean and deviation, nearly, as after `engines.blend`."""
    if rng.uniform() >= STANDARDISED_SHARE:
        mean, deviation = (np.reshape(values, (3, 1, 1)) for values in (IMAGENET_MEAN, IMAGENET_STD))
    else:
        mean, deviation = picture.mean((1, 2), keepdims=True), picture.std((1, 2), keepdims=True) + 0.02
        mean, deviation = mean + 0.3 * deviation * rng.standard_normal((3, 1, 1)), deviation * rng.uniform(0.7, 1.6)
    return ((picture - mean) / deviation).astype(np.float32)


def loss(answers: Levels, targets: Levels, value_weight: float) -> Tensor:
    """Sum over the levels [N, C, h, w] of 1 - cosine at each location and of the squared difference, which is relative
    to the target's energy and weighted."""
    return torch.stack([_level(*pair, value_weight) for pair in zip(answers, targets, strict=True)]).sum()


def _level(answer: Tensor, target: Tensor, value_weight: float) -> Tensor:
    direction = 1 - functional.cosine_similarity(answer, target, dim=1).mean()
    return direction + value_weight * (answer - target).square().mean() / target.square().mean()


class Distillation:
    """The student that is to ship, its target and its course."""

    def __init__(self, plan: Plan, target: Backbone, panels: Panels) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.panels = plan, panels
        self.target = target.to(memory_format=memory_format())  # type: ignore[call-overload]
        self.student = Imitation().to(memory_format=memory_format())  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(self.student.parameters(), lr=plan.rate, weight_decay=plan.decay)
        self.losses: list[float] = []
        self.seconds = 0.0

    def go(self, checkpoint: Checkpoint, tell: Callable[[int], None]) -> None:
        """To the last step, from where the checkpoint stands.

        Raises:
            UsageError: the checkpoint is of another plan.
        """
        saved = checkpoint.read()
        if saved:
            self._resume(saved)
        written = time.monotonic()
        self.student.train()
        for step in range(len(self.losses), self.plan.steps):
            began = time.monotonic()
            self.losses.append(self._step(step))
            self.seconds += time.monotonic() - began
            tell(step)
            if time.monotonic() - written > checkpoint.every_s:
                checkpoint.write(self._state())
                written = time.monotonic()
        checkpoint.write(self._state())

    def _step(self, step: int) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate * min(1, (step + 1) / WARM_UP) * pace(step / self.plan.steps)
        batch = shown(self.plan, step, self.panels).to(memory_format=memory_format())
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                targets = self.target(batch)
            linear = self.student.linear(batch)
        answers = [functional.leaky_relu(one.float(), LEAK) for one in linear]
        error = loss(answers, [one.float() for one in targets], self.plan.value_weight)
        self.optimiser.zero_grad()
        error.backward()
        self.optimiser.step()
        return float(error.detach())

    def _state(self) -> dict[str, Any]:
        return {
            "plan": asdict(self.plan),
            "student": self.student.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "losses": self.losses,
            "seconds": self.seconds,
        }

    def _resume(self, saved: dict[str, Any]) -> None:
        if saved["plan"] != asdict(self.plan):
            raise UsageError("the checkpoint is of another plan; remove it or name another folder")
        self.student.load_state_dict(saved["student"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.losses, self.seconds = list(saved["losses"]), float(saved["seconds"])


def similarity(student: nn.Module, target: nn.Module, batch: Tensor) -> list[tuple[float, float]]:
    """Of each level: mean cosine at each location, and the same with the target's mean taken from both.

    Much of the first is the mean that all pictures share; the second shows what is known of each place.
    """
    student.eval()
    with torch.no_grad():
        parts = [(student(part), target(part)) for part in batch.split(8)]
    answers, wanted = ([torch.cat(maps) for maps in zip(*side, strict=True)] for side in zip(*parts, strict=True))
    return [_similar(*pair) for pair in zip(answers, wanted, strict=True)]


def _similar(answer: Tensor, wanted: Tensor) -> tuple[float, float]:
    centre = wanted.mean((0, 2, 3), keepdim=True)
    plain = functional.cosine_similarity(answer, wanted, dim=1).mean()
    return float(plain), float(functional.cosine_similarity(answer - centre, wanted - centre, dim=1).mean())


def write(student: nn.Module, path: Path) -> str:
    """The file that ships, and its SHA-256: convolutions in half precision, the rest whole."""
    tensors = {
        name: (value.half() if value.ndim > 1 else value).contiguous()
        for name, value in student.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(tensors, path)
    path.chmod(0o644)  # safetensors leaves it to its owner alone
    return sha256_of(path)


def report(work: Distillation, found: dict[str, list[tuple[float, float]]], digest: str, size: int) -> str:
    """Markdown."""
    plan = work.plan
    shares = ", ".join(f"{often:.0%} of the batches {count} of {side} px" for side, count, often in plan.batches)
    lines = [
        "# The teacher that ships",
        "",
        f"`{NAME}`, {size / 1e6:.2f} MB, SHA-256 `{digest}`.",
        "",
        f"{plan.steps} steps, {shares}; seed {plan.seed}, learning rate {plan.rate:g}; {work.seconds / 60:.0f} minutes "
        f"on one core, torch {torch.__version__}; loss of the last 100 steps {np.mean(work.losses[-100:]):.3f}.",
        "",
        "Held out: "
        + f"{HELD_OUT} pictures of {HELD_OUT_SIDE} px of each kind that no step showed. Cosine with ResNet-18 "
        "at each location, and the same with ResNet-18's mean taken from both:",
        "",
        "| pictures | " + " | ".join(f"stride {stride}" for stride in STRIDES) + " |",
        "|---" * (len(STRIDES) + 1) + "|",
        *(
            f"| {kind} | " + " | ".join(f"{plain:.3f}; {centred:.3f}" for plain, centred in levels) + " |"
            for kind, levels in found.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def main(
    out: Annotated[Path, typer.Argument(help="folder for the file, its report and the checkpoint")],
    target: Annotated[Path, typer.Option(help="folder with ResNet-18's weights")],
    panels: Annotated[Path, typer.Option(help="simulated panel set, of which train/good is shown")],
    steps: Annotated[int, typer.Option(min=1)] = Plan.steps,
    seed: Annotated[int, typer.Option(min=0)] = Plan.seed,
) -> None:
    """Distil the teacher that ships."""
    cv2.setNumThreads(1)
    out.mkdir(parents=True, exist_ok=True)
    shown_set = PanelSet(panels)
    frames = [shown_set.read(panel) for panel in shown_set.panels("train", GOOD)]
    trunk = TEACHERS[TARGET].trunk()
    load_weights(trunk, TARGET, target)
    work = Distillation(Plan(steps, seed), trunk, frames)
    with Progress(console=CONSOLE) as progress:
        bar = progress.add_task("distilling", total=steps)
        work.go(Checkpoint(out / "checkpoint.pt"), lambda step: progress.update(bar, completed=step + 1))
    found = {kind: similarity(work.student, trunk, batch) for kind, batch in held_out(work.plan, frames).items()}
    digest = write(work.student, out / NAME)
    text = report(work, found, digest, (out / NAME).stat().st_size)
    (out / "teacher.md").write_text(text, encoding="utf-8")
    CONSOLE.print(text, markup=False)


if __name__ == "__main__":
    typer.run(main)
