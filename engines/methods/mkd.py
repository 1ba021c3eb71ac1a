"""Multiresolution knowledge distillation: a thin student imitates a frozen teacher on good panels only.

From the paper (Salehi et al., CVPR 2021): a frozen pretrained teacher, a much smaller student of the same family,
several depths compared, direction of the features compared by cosine, good images only.

Our reading, for a line: the cosine is taken at each location (as in STFPM) and not of the flattened map, so that a
minute defect is not averaged away and no backward pass is needed for the map; raw features after ReLU and no
value term; a ResNet-18 teacher and a student of half its width with one block a stage and 1x1 heads; the blend of
an image set's channels to three, which MKD does not have.

The score is ours too: the map's maximum (small defects) and the mean of its highest hundredth (large, faint ones),
each divided by its spread over the training panels, added, and scaled so that good panels score around 1. It ranks
panels as the mean of the two z-scores does, and an engine that answers zeros scores below everything real. It was
fixed before any test panel was looked at.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from engines.backbones import IMAGENET_MEAN, IMAGENET_STD, STRIDES, TEACHERS, ThinResNet, load_weights
from engines.compare import cosine_distance, fuse, gaussian, interpolation, top_mean
from engines.methods import MethodSettings, Stage

needs_defects = False

TOP_SHARE = 0.01
POSITION_SIGMA = 3.0  # cells
PROBE_WEIGHT = 8.0  # of a defective cell, of which there are few
BALANCED_TOP = 6.0  # a border or glare must not drown the rest
NORMAL_QUARTILES = 1.349  # between the quartiles of a normal distribution of deviation 1

Batches = Callable[[], Iterable[Tensor]]


class Settings(MethodSettings):
    """Settings of this method.

    `blend`: "repeat" one channel, "colour" as they are, "statistics" mean, max - min and standard deviation over
    the channels, "balanced" the same of channels that were each standardised first, so that a dark field counts as
    much as a bright one; "auto" takes the first that fits.

    `position_correction` subtracts the mean map of good panels: a
    line presents panels the same way, and where parts lie anyhow the smoothed mean is flat and does no harm.
    """

    teacher: Literal["resnet18", "small"] = "resnet18"
    teacher_passes: Annotated[int, Field(ge=0)] = 4000  # only for a teacher made here
    student_width: Annotated[int, Field(ge=4, le=128)] = 32
    student_blocks: Annotated[int, Field(ge=1, le=4)] = 1
    blend: Literal["auto", "repeat", "colour", "statistics", "balanced"] = "auto"
    smooth: Annotated[float, Field(ge=0, le=8)] = 1.0  # sigma, map cells
    position_correction: bool = True


class Blend(nn.Module):
    """C channels -> 3, standardised: [N, C, H, W] -> [N, 3, H, W]. Fixed, nothing in it is trained."""

    channel_mean: Tensor
    channel_std: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("channel_mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("channel_std", torch.ones(1, channels, 1, 1))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.raw(x) - self.mean) / self.std

    def raw(self, x: Tensor) -> Tensor:
        """The three channels before they are standardised."""
        if self.kind in ("repeat", "colour"):
            return x if x.shape[1] == 3 else x.repeat(1, 3, 1, 1)
        if self.kind == "balanced":
            x = ((x - self.channel_mean) / self.channel_std).clamp(-BALANCED_TOP, BALANCED_TOP)
        mean = x.mean(1, keepdim=True)
        spread = x.amax(1, keepdim=True) - x.amin(1, keepdim=True)
        return torch.cat([mean, spread, (x - mean).square().mean(1, keepdim=True).sqrt()], 1)

    def fit(self, batches: Batches) -> None:
        """Learn mean and deviation of good panels; those of photographs stay where the three are a photograph."""
        if self.kind == "balanced":
            self._balance(torch.cat([batch[:, :, ::4, ::4] for batch in batches()]))
        if self.kind in ("balanced", "statistics"):
            _learn(self.mean, self.std, map(self.raw, batches()))

    def _balance(self, panels: Tensor) -> None:
        """Median and quartile spread of each channel, which a border of another brightness does not move."""
        values = panels.transpose(0, 1).flatten(1)
        low, centre, high = (_quantile(values, share) for share in (0.25, 0.5, 0.75))
        self.channel_mean.copy_(centre.view_as(self.channel_mean))
        self.channel_std.copy_(((high - low) / NORMAL_QUARTILES).clamp(min=1e-3).view_as(self.channel_std))


def _quantile(values: Tensor, share: float) -> Tensor:
    """Of each row; torch.quantile refuses large rows."""
    return values.kthvalue(1 + round(share * (values.shape[1] - 1)), dim=1).values


def _learn(mean: Tensor, std: Tensor, batches: Iterable[Tensor]) -> None:
    """Put mean and deviation of each channel over all pixels of `batches` into the two tensors [1, C, 1, 1]."""
    count, total, squares = 0, torch.zeros(mean.numel()).double(), torch.zeros(mean.numel()).double()
    for batch in batches:
        values = batch.double()
        count += values[:, 0].numel()
        total += values.sum((0, 2, 3))
        squares += values.square().sum((0, 2, 3))
    centre = total / count
    mean.copy_(centre.view_as(mean))
    std.copy_((squares / count - centre.square()).clamp(min=1e-8).sqrt().view_as(std))


class Mkd(nn.Module):
    """See `engines.methods.Model`."""

    position: Tensor
    score_weight: Tensor

    def __init__(self, channels: int, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.blend = Blend(_blend_kind(settings.blend, channels), channels)
        self.teacher = TEACHERS[settings.teacher].trunk()
        self.student = ThinResNet(settings.student_width, settings.student_blocks)
        pairs = zip(self.student.widths, self.teacher.widths, strict=True)
        self.heads = nn.ModuleList(nn.Conv2d(inside, outside, 1) for inside, outside in pairs)
        self.receptive_field = self.teacher.fields[-1]
        self.training_facts: dict[str, str | int | float] = {"blend": self.blend.kind}
        if settings.teacher == "small":
            self.probes = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in self.teacher.widths)
        self._register_maps(settings)

    def _register_maps(self, settings: Settings) -> None:
        height, width = settings.height // STRIDES[0], settings.width // STRIDES[0]
        for level, stride in enumerate(STRIDES):
            rows = interpolation(height, settings.height // stride, settings.smooth)
            columns = interpolation(width, settings.width // stride, settings.smooth)
            self.register_buffer(f"rows{level}", torch.from_numpy(rows), persistent=False)
            self.register_buffer(f"columns{level}", torch.from_numpy(columns), persistent=False)
        self.register_buffer("position", torch.zeros(height, width))
        self.register_buffer("score_weight", torch.ones(2))
        self.top_count = max(1, round(TOP_SHARE * height * width))

    def train(self, mode: bool = True) -> "Mkd":
        super().train(mode)
        self.teacher.eval()
        return self

    def fit_input(self, batches: Batches) -> None:
        self.blend.fit(batches)

    def stages(self) -> Iterator[Stage]:
        """A teacher made here first learns to find synthetic defects; then, always, the student imitates."""
        if self.settings.teacher == "small" and self.settings.teacher_passes:
            parameters = [*self.teacher.requires_grad_(True).parameters(), *self.probes.parameters()]
            yield Stage("teacher", self.settings.teacher_passes, parameters, self._probe_loss, needs_defects=True)
            self.teacher.requires_grad_(False).eval()
        parameters = [*self.student.parameters(), *self.heads.parameters()]
        passes = self.settings.schedule.image_passes
        yield Stage("student", passes, parameters, self.loss, targets=self.targets)

    def targets(self, batch: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return self.teacher(self.blend(batch))

    def loss(self, batch: Tensor, defect_mask: Tensor | None, targets: Sequence[Tensor] | None = None) -> Tensor:
        """Sum over levels of the mean per-location distance; `defect_mask` is not needed."""
        known = self.targets(batch) if targets is None else targets
        parts = [cosine_distance(*pair).mean() for pair in zip(known, self._imitate(batch), strict=True)]
        return torch.stack(parts).sum()

    def _probe_loss(self, batch: Tensor, defect_mask: Tensor | None, targets: Sequence[Tensor] | None = None) -> Tensor:
        """Each level of the teacher tells by one 1x1 convolution which of its cells hold a synthetic defect."""
        assert defect_mask is not None
        marked = defect_mask[:, None].float()
        self.teacher.train()
        features = self.teacher(self.blend(batch))
        losses = []
        for stride, probe, level in zip(STRIDES, self.probes, features, strict=True):
            cells = functional.max_pool2d(marked, stride)
            weight = 1 + PROBE_WEIGHT * cells
            losses.append(functional.binary_cross_entropy_with_logits(probe(level), cells, weight))
        return torch.stack(losses).sum()

    def fit_output(self, batches: Batches) -> None:
        with torch.no_grad():
            if self.settings.position_correction:
                self.position.copy_(self._mean_map(batches))
            parts = torch.cat([self._parts(self._corrected(batch)) for batch in batches()])
        per_spread = 1 / parts.std(0).clamp(min=1e-6)
        self.score_weight.copy_(per_spread / (per_spread * parts.mean(0)).sum())

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        map = self._corrected(batch)
        return map, (self._parts(map) * self.score_weight).sum(1)

    def _imitate(self, batch: Tensor) -> list[Tensor]:
        features = self.student(self.blend(batch))
        return [head(one) for head, one in zip(self.heads, features, strict=True)]

    def _fused(self, batch: Tensor) -> Tensor:
        """Distance of teacher and student at stride 4: [N, C, H, W] -> [N, H/4, W/4]."""
        seen = self.blend(batch)
        taught = self.teacher(seen)
        students = [head(one) for head, one in zip(self.heads, self.student(seen), strict=True)]
        distances = [cosine_distance(*pair) for pair in zip(taught, students, strict=True)]
        levels = range(len(STRIDES))
        rows = [self.get_buffer(f"rows{level}") for level in levels]
        return fuse(distances, rows, [self.get_buffer(f"columns{level}") for level in levels])

    def _corrected(self, batch: Tensor) -> Tensor:
        return self._fused(batch) - self.position

    def _parts(self, map: Tensor) -> Tensor:
        return torch.stack([top_mean(map, 1), top_mean(map, self.top_count)], 1)

    def _mean_map(self, batches: Batches) -> Tensor:
        maps = torch.cat([self._fused(batch) for batch in batches()])
        mean = maps.mean(0)
        rows, columns = (torch.from_numpy(gaussian(size, POSITION_SIGMA)).float() for size in mean.shape)
        smooth = rows @ mean @ columns.T
        return smooth - smooth.mean()


def build(channels: int, settings: Settings) -> Mkd:
    """An untaught model for sets of `channels` channels."""
    return Mkd(channels, settings)


def load_teacher(model: Mkd, weights: Path | None) -> tuple[str, str]:
    """Fill the teacher from the folder `weights`; its name and the SHA-256 of its file.

    Raises:
        UsageError: the weights are missing or of another network.
    """
    return load_weights(model.teacher, model.settings.teacher, weights)


def _blend_kind(wanted: str, channels: int) -> str:
    if wanted == "auto":
        return {1: "repeat", 3: "colour"}.get(channels, "statistics")
    return wanted
