"""Asymmetric distillation with post-segmentation: the teacher sees the panel, the student patches, a decoder the rest.

The paper's (Xing et al., TNNLS 2025), from its text: the frozen teacher sees the whole picture, the student 32x32
patches of it (8x8 of them at 256), its maps put back in place; per level the weight mask block (1 - W) * T with the
cosine W of teacher and student; a decoder of UpBlocks (transposed convolution, the level beside it, two 3x3
convolutions with batch norm and ReLU) and a last 3x3 convolution with softmax, whose defect probability is the mask;
per level the distance is pulled down where the picture is normal and the cosine where a synthetic defect lies, a focal
loss on the mask with weight 1, both trained jointly; the panel's score is the maximum of the smoothed mask.

Not stated there: the student, the levels, the decoder's widths, the smoothing, the focal loss's numbers. It speaks of
WideResNet-50 as the teacher, so its form is presumably `teacher=wide_resnet50_2 student=twin score=maximum`.

Ours: a ResNet-18 teacher and a thin student with 1x1 heads by default; levels of strides 4, 8 and 16; two convolutions
instead of the coarsest level itself below the first UpBlock, and narrow ones, so that it suits a line; the mask at
stride 4, not at full size; a cell counts as defective where any of its pixels is; the push ends at a right angle;
synthetic defects of reflectance instead of foreign textures; AdamW and the schedule. `course=after` is ours as well:
the student learns from good panels alone, as in mkd, and the decoder then on the frozen pair, since a push that acts
from the start can spoil the distances.

The map is the mask in other units. Good panels' probabilities lie near 0, where neither a limit nor a lower bound nor
eight bits have room. So a cell holds ln(1 + o / o0), with o the odds of the smoothed mask and o0 the median odds on
good panels: the order of cells stays, a typical cell holds ln 2, each factor e in the odds adds up to 1, and it is
never quite 0, so that an engine that answers zeros scores below everything real. The score is made of it as mkd's, see
`engines.located`; `score=maximum` ranks panels as the paper does.
"""

from collections.abc import Iterator, Sequence
from math import lcm
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn
from torch.nn import functional

from engines.backbones import STRIDES, TEACHERS, Backbone, load_weights, thin_student
from engines.blend import Batches, Blend, chosen_kind
from engines.compare import cosine_distance, interpolation
from engines.located import Located
from engines.methods import Stage
from engines.one_teacher import OneTeacher
from engines.patches import checked_patch, patchwise, smoothed
from engines.segmentation import Decoder, focal_loss, log_odds, marked_cells

needs_defects = True


class Settings(OneTeacher):
    """Settings of this method.

    `strides` are the levels compared, 4 and up, each twice the one before. `patch_px`: side of the student's patches.
    `student`: "thin", or a "twin" of the teacher's layout; both start untrained, and width and blocks are the thin
    one's. `decoder_widths`: channels from the coarsest level to the finest. `course`: "joint" trains student and
    decoder together for the schedule's passes, as the paper does; "after" the student alone, then the decoder for
    `decoder_passes`. `segmentation_weight`: of the focal loss beside the distances. `focal_alpha`: the share of
    defective cells in it. `blend` as in mkd. `score`: from "both" parts of the map, or its "maximum" alone.
    """

    student: Literal["thin", "twin"] = "thin"
    student_width: Annotated[int, Field(ge=4, le=128)] = 32
    student_blocks: Annotated[int, Field(ge=1, le=4)] = 1
    strides: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = STRIDES
    patch_px: Annotated[int, Field(ge=4)] = 32
    decoder_widths: Annotated[tuple[int, ...], Field(strict=False, validate_default=True)] = (64, 48, 32)
    course: Literal["joint", "after"] = "joint"
    decoder_passes: Annotated[int, Field(ge=1)] = 2400
    segmentation_weight: Annotated[float, Field(ge=0, le=100)] = 1.0
    focal_gamma: Annotated[float, Field(ge=0, le=10)] = 2.0
    focal_alpha: Annotated[float, Field(gt=0, lt=1)] = 0.75
    blend: Literal["auto", "repeat", "colour", "statistics", "balanced"] = "auto"
    smooth: Annotated[float, Field(ge=0, le=8)] = 1.0  # sigma, map cells
    score: Literal["both", "maximum"] = "both"

    @property
    def grid(self) -> int:
        return lcm(super().grid, self.patch_px)

    @field_validator("strides")
    @classmethod
    def _halving(cls, strides: tuple[int, ...]) -> tuple[int, ...]:
        if strides != (4, 8, 16, 32)[: len(strides)]:
            raise ValueError("from 4 on, each twice the one before, up to 32: [4, 8, 16]")
        return strides

    @field_validator("patch_px")
    @classmethod
    def _on_a_grid(cls, patch_px: int, info: ValidationInfo) -> int:
        known = info.data
        if {"height", "width", "strides"} <= known.keys():
            return checked_patch(patch_px, known["height"], known["width"], known["strides"][-1])
        return patch_px

    @field_validator("decoder_widths")
    @classmethod
    def _one_a_level(cls, widths: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        levels = len(info.data.get("strides", widths))
        if len(widths) != levels or min(widths) < 1:
            raise ValueError(f"give {levels} positive widths, one for each of strides")
        return widths


class Adps(Located):
    """See `engines.methods.Model`."""

    typical: Tensor
    corrected = False  # the decoder answers for itself

    def __init__(self, channels: int, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.blend = Blend(chosen_kind(settings.blend, channels), channels)
        self.teacher = TEACHERS[settings.teacher_kind].trunk(settings.strides)
        self.student, heads = _student(settings, self.teacher)
        self.heads = nn.ModuleList(heads)
        self.decoder = Decoder(self.teacher.widths, settings.decoder_widths)
        of_patch = min(self.student.fields[-1], 2 * settings.patch_px - 1)
        networks = max(self.teacher.fields[-1], of_patch) + self.decoder.reach(settings.strides[0])
        self.receptive_field = networks + smoothed(0, settings.strides[0], settings.smooth)
        self.training_facts: dict[str, str | int | float] = {"blend": self.blend.kind}
        self._student_is_taught = False
        self._register_map(settings)

    def _register_map(self, settings: Settings) -> None:
        height, width = self.teacher.cells(settings.height, settings.width)[0]
        for name, size in (("rows", height), ("columns", width)):
            self.register_buffer(name, torch.from_numpy(interpolation(size, size, settings.smooth)), persistent=False)
        self.register_buffer("typical", torch.zeros(()))
        self.place(height, width)

    def train(self, mode: bool = True) -> "Adps":
        """The teacher never learns, nor the student once it is taught, its statistics included."""
        super().train(mode)
        self.teacher.eval()
        if self._student_is_taught:
            self.student.eval()
        return self

    def fit_input(self, batches: Batches) -> None:
        self.blend.fit(batches)

    def stages(self) -> Iterator[Stage]:
        """Both networks together, or the student and then the decoder."""
        passes = self.settings.schedule.image_passes
        student, decoder = [*self.student.parameters(), *self.heads.parameters()], [*self.decoder.parameters()]
        if self.settings.course == "joint":
            yield Stage("student and decoder", passes, [*student, *decoder], self.loss, True, self.targets)
            return
        yield Stage("student", passes, student, self._pull, targets=self.targets)
        self._student_is_taught = True
        yield Stage("decoder", self.settings.decoder_passes, decoder, self._segment, True, self.targets)
        self._student_is_taught = False

    def targets(self, batch: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return self.teacher(self.blend(batch))

    def loss(self, batch: Tensor, defect_mask: Tensor | None, targets: Sequence[Tensor] | None = None) -> Tensor:
        """The paper's sum: distances pulled and pushed, and the weighted focal loss on the mask."""
        assert defect_mask is not None
        teacher, distances = self._compared(batch, targets)
        levels = zip(distances, self.teacher.strides, strict=True)
        parts = [pulled_and_pushed(distance, marked_cells(defect_mask, stride)) for distance, stride in levels]
        focal = self._focal(teacher, distances, defect_mask)
        return torch.stack(parts).sum() + self.settings.segmentation_weight * focal

    def _pull(self, batch: Tensor, defect_mask: Tensor | None, targets: Sequence[Tensor] | None = None) -> Tensor:
        return torch.stack([distance.mean() for distance in self._compared(batch, targets)[1]]).sum()

    def _segment(self, batch: Tensor, defect_mask: Tensor | None, targets: Sequence[Tensor] | None = None) -> Tensor:
        assert defect_mask is not None
        with torch.no_grad():
            teacher, distances = self._compared(batch, targets)
        return self._focal(teacher, distances, defect_mask)

    def _focal(self, teacher: Sequence[Tensor], distances: Sequence[Tensor], defect_mask: Tensor) -> Tensor:
        marked = marked_cells(defect_mask, self.teacher.strides[0])
        logits = self.decoder(teacher, distances)
        return focal_loss(logits, marked, self.settings.focal_gamma, self.settings.focal_alpha)

    def fit_output(self, batches: Batches) -> None:
        with torch.no_grad():
            self.typical.copy_(torch.cat([self._log_odds(batch) for batch in batches()]).median())
            self.training_facts["typical_log_odds"] = round(float(self.typical), 3)
            super().fit_output(batches)
            if self.settings.score == "maximum":
                highest = torch.cat([self.distance(batch).amax((1, 2)) for batch in batches()])
                self.score_weight.copy_(torch.stack([1 / highest.mean(), torch.zeros(())]))

    def distance(self, batch: Tensor) -> Tensor:
        return functional.softplus(self._log_odds(batch) - self.typical)

    def _log_odds(self, batch: Tensor) -> Tensor:
        """Of the smoothed mask, [N, h, w]."""
        logits = self.decoder(*self._compared(batch))
        return log_odds(logits, self.get_buffer("rows"), self.get_buffer("columns"))

    def _compared(
        self, batch: Tensor, targets: Sequence[Tensor] | None = None
    ) -> tuple[Sequence[Tensor], list[Tensor]]:
        """The teacher's maps and the student's distance from each: [N, C, h, w] and [N, h, w] a level."""
        seen = self.blend(batch)
        teacher = self.teacher(seen) if targets is None else targets
        return teacher, [cosine_distance(*pair) for pair in zip(teacher, self._imitate(seen), strict=True)]

    def _imitate(self, seen: Tensor) -> list[Tensor]:
        """The student's maps [N, C, h, w], each patch seen for itself; heads see one cell, so that they come after."""
        patches = patchwise(self.student, seen, self.settings.patch_px)
        return [head(level) for head, level in zip(self.heads, patches, strict=True)]


def pulled_and_pushed(distance: Tensor, marked: Tensor) -> Tensor:
    """Mean over the locations of the distance, 1 - cosine, where `marked` is 0, and of the cosine, at least 0, where 1.

    [N, h, w] twice. Bounded without a margin: between 0 and 2 where normal, between 0 and 1 where defective.
    """
    return ((1 - marked) * distance + marked * (1 - distance).clamp(min=0)).mean()


def build(channels: int, settings: Settings) -> Adps:
    """An untaught model for sets of `channels` channels."""
    return Adps(channels, settings)


def load_teacher(model: Adps, weights: Path | None) -> tuple[str, str]:
    """Fill the teacher from the folder `weights`; its name and the SHA-256 of its file.

    Raises:
        UsageError: the weights are missing or of another network.
    """
    return load_weights(model.teacher, model.settings.teacher_kind, weights)


def _student(settings: Settings, teacher: Backbone) -> tuple[Backbone, list[nn.Module]]:
    """The student, and what brings each of its levels to the teacher's width."""
    if settings.student == "twin":
        twin = TEACHERS[settings.teacher_kind].trunk(settings.strides).requires_grad_(True)
        return twin, [nn.Identity() for _ in twin.widths]
    return thin_student(teacher, settings.student_width, settings.student_blocks)
