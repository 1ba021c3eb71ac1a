"""Multiresolution knowledge distillation: a thin student imitates a frozen teacher on good panels only.

The paper's (Salehi et al., CVPR 2021, and its released code): a frozen pretrained VGG-16 and a much thinner student of
its layout, several depths compared, in value (mean squared difference) and in direction (1 - cosine of the whole
flattened map), good images only; image score and loss are the same sum. The paper puts the weight on the direction, the
code on the value, 0.5 on MVTec AD and 0.01 elsewhere; `value_weight` is the code's. Their form is
`teacher=vgg16 student_width=16 strides=[4,8,16,32] direction=flattened value_weight=0.5`.

Even then ours: teacher and student see the picture standardised as ImageNet is (their code does not on MVTec AD); all
trained levels are scored (theirs leaves the finest out); defects are located by the distance at each location, since
their gradient of the score needs a backward pass for every panel; the blend of an image set's channels to three.

Our reading for a line, the default: the cosine is taken at each location (as in STFPM), so that a minute defect is not
averaged away, and no value term; raw features after ReLU; a ResNet-18 teacher and a student of half its width with one
block a stage and 1x1 heads. Its score is ours too: the map's maximum (small defects) and the mean of its highest
hundredth (large, faint ones), each divided by its spread over the training panels, added, and scaled so that good
panels score around 1. It ranks panels as the mean of the two z-scores does, and an engine that answers zeros scores
below everything real. It was fixed before any test panel was looked at.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from engines.backbones import STRIDES, TEACHERS, Backbone, ThinVgg, load_weights, thin_student
from engines.blend import Batches, Blend, chosen_kind
from engines.compare import cosine_distance, flattened_distance, fuse, interpolation, value_distance
from engines.located import Located
from engines.methods import Stage
from engines.one_teacher import OneTeacher
from engines.patches import smoothed
from engines.zones import TopMean

needs_defects = False

Pairs = Sequence[tuple[Tensor, Tensor]]  # teacher's and student's map of each level


class Settings(OneTeacher):
    """Settings of this method.

    `strides` are the levels compared. `direction`: the cosine at each "location", or of the whole "flattened" map as in
    the paper, whose sum with the weighted value term is then the score as well. `value_weight`: of the mean squared
    difference, beside the direction. A VGG-16 teacher has a student of its own layout, which needs neither blocks nor
    heads; the paper's has width 16.

    `blend`: "repeat" one channel, "colour" as they are, "statistics" mean, max - min and standard deviation over
    the channels, "balanced" the same of channels that were each standardised first, so that a dark field counts as
    much as a bright one; "auto" takes the first that fits.

    `position_correction` subtracts the mean map of good panels: a line presents panels the same way, and where parts
    lie anyhow the smoothed mean is flat and does no harm.
    """

    student_width: Annotated[int, Field(ge=4, le=128)] = 32
    student_blocks: Annotated[int, Field(ge=1, le=4)] = 1
    strides: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = STRIDES
    direction: Literal["location", "flattened"] = "location"
    value_weight: Annotated[float, Field(ge=0, le=100)] = 0.0
    blend: Literal["auto", "repeat", "colour", "statistics", "balanced"] = "auto"
    smooth: Annotated[float, Field(ge=0, le=8)] = 1.0  # sigma, map cells
    position_correction: bool = True

    @field_validator("strides")
    @classmethod
    def _each_once(cls, strides: tuple[int, ...]) -> tuple[int, ...]:
        if not set(strides) <= {4, 8, 16, 32} or list(strides) != sorted(set(strides)):
            raise ValueError("of 4, 8, 16 and 32, rising, each at most once")
        return strides


class Mkd(Located):
    """See `engines.methods.Model`."""

    def __init__(self, channels: int, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.corrected = settings.position_correction
        self.blend = Blend(chosen_kind(settings.blend, channels), channels)
        self.teacher = TEACHERS[settings.teacher_kind].trunk(settings.strides)
        self.student, heads = _student(settings, self.teacher)
        self.heads = nn.ModuleList(heads)
        networks = max(self.teacher.fields[-1], self.student.fields[-1])
        self.receptive_field = networks + smoothed(settings.strides[-1], settings.strides[0], settings.smooth)
        self.training_facts: dict[str, str | int | float] = {"blend": self.blend.kind}
        self._register_maps(settings)

    def _register_maps(self, settings: Settings) -> None:
        cells = self.teacher.cells(settings.height, settings.width)
        height, width = cells[0]
        for level, (rows, columns) in enumerate(cells):
            down, across = interpolation(height, rows, settings.smooth), interpolation(width, columns, settings.smooth)
            self.register_buffer(f"rows{level}", torch.from_numpy(down), persistent=False)
            self.register_buffer(f"columns{level}", torch.from_numpy(across), persistent=False)
        self.place(height, width, 2 if settings.direction == "location" else 1)

    def train(self, mode: bool = True) -> "Mkd":
        super().train(mode)
        self.teacher.eval()
        return self

    def fit_input(self, batches: Batches) -> None:
        self.blend.fit(batches)

    def stages(self) -> Iterator[Stage]:
        """The student imitates."""
        parameters = [*self.student.parameters(), *self.heads.parameters()]
        passes = self.settings.schedule.image_passes
        yield Stage("student", passes, parameters, self.loss, targets=self.targets)

    def targets(self, batch: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return self.teacher(self.blend(batch))

    def loss(self, batch: Tensor, defect_mask: Tensor | None, targets: Sequence[Tensor] | None = None) -> Tensor:
        """Mean over the batch of the levels' sum of direction and weighted value; `defect_mask` is not needed."""
        known = self.targets(batch) if targets is None else targets
        pairs = list(zip(known, self._imitate(self.blend(batch)), strict=True))
        if self.settings.direction == "flattened":
            return self._whole(pairs).mean()
        return torch.stack([one.mean() for one in self._imitation(pairs)]).sum()

    def score_rule(self) -> tuple[TopMean, ...]:
        """The two parts of the map that are scored; none where the score is the paper's own sum."""
        if self.settings.direction == "flattened":
            return ()
        return super().score_rule()

    def distance(self, batch: Tensor) -> Tensor:
        return self._fused(self._pairs(batch))

    def answer(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """As `Located` has it; with the flattened direction the score is the paper's own sum, [N, 1]."""
        if self.settings.direction == "location":
            return super().answer(batch)
        pairs = self._pairs(batch)
        return self._fused(pairs) - self.position, self._whole(pairs)[:, None]

    def _pairs(self, batch: Tensor) -> Pairs:
        return self._compared(self.blend(batch))

    def _compared(self, seen: Tensor) -> Pairs:
        return list(zip(self.teacher(seen), self._imitate(seen), strict=True))

    def _imitate(self, seen: Tensor) -> list[Tensor]:
        return [head(one) for head, one in zip(self.heads, self._features(seen), strict=True)]

    def _features(self, seen: Tensor) -> list[Tensor]:
        """The student's own maps, before its heads."""
        return self.student(seen)

    def _distances(self, pairs: Pairs) -> list[Tensor]:
        """What makes the map, of each level at each location: [N, h_i, w_i]."""
        return self._imitation(pairs)

    def _imitation(self, pairs: Pairs) -> list[Tensor]:
        """What the student is pulled by, of each level at each location: [N, h_i, w_i]."""
        return [self._apart(*pair) for pair in pairs]

    def _apart(self, teacher: Tensor, student: Tensor, channel_weights: Tensor | None = None) -> Tensor:
        """The distance of one level, with weights of its channels [1, C]: [N, h, w]."""
        weight, distance = self.settings.value_weight, cosine_distance(teacher, student, channel_weights)
        return distance + weight * value_distance(teacher, student, channel_weights) if weight else distance

    def _whole(self, pairs: Pairs) -> Tensor:
        """The paper's score of each panel [N]: the levels' sum of flattened direction and weighted value."""
        weight = self.settings.value_weight
        levels = [flattened_distance(*pair) + weight * value_distance(*pair).mean((1, 2)) for pair in pairs]
        return torch.stack(levels).sum(0)

    def _fused(self, pairs: Pairs) -> Tensor:
        """Distance of teacher and student at the finest level: [N, h, w]."""
        return fuse(self._distances(pairs), *self._growth())

    def _growth(self) -> tuple[list[Tensor], list[Tensor]]:
        """What brings each level to the finest one's rows and columns, see `engines.compare.fuse`."""
        levels = range(len(self.teacher.widths))
        return [self.get_buffer(f"rows{one}") for one in levels], [self.get_buffer(f"columns{one}") for one in levels]


def build(channels: int, settings: Settings) -> Mkd:
    """An untaught model for sets of `channels` channels."""
    return Mkd(channels, settings)


def load_teacher(model: Mkd, weights: Path | None) -> tuple[str, str]:
    """Fill the teacher from the folder `weights`; its name and the SHA-256 of its file.

    Raises:
        UsageError: the weights are missing or of another network.
    """
    return load_weights(model.teacher, model.settings.teacher_kind, weights)


def _student(settings: Settings, teacher: Backbone) -> tuple[Backbone, list[nn.Module]]:
    """The student, and what brings each of its levels to the teacher's width."""
    if settings.teacher == "vgg16":
        student = ThinVgg(settings.student_width, settings.strides)
        return student, [nn.Identity() for _ in student.widths]
    return thin_student(teacher, settings.student_width, settings.student_blocks)
