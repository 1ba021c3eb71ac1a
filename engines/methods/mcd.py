"""Multiresolution contrastive distillation: mkd over an image set's channels, with a term that pushes defects away.

Known of the paper (Lee et al., MVA 2023), from its abstract: display panels under several lights and focus planes; mkd
as the base; teacher's and student's features pulled together or pushed apart, without anchor, positives or negatives;
a blending module that transforms and aggregates the channels into the three of the teacher's input. Its loss, margins,
networks, training, numbers and data are not known to us, and nothing here claims them.

Our reading. The pair is always teacher and student of one panel. With d in 0..1 the fused cosine distance at a
location, L = mean of d over normal locations + push * mean of max(0, 1 - d) over defective ones. The push ends where
the two are at right angles: it is bounded and needs no margin.

When it acts is ours, too. A push that trains the student from the start damages the map of distances, so the student
first learns from good panels alone, and the contrastive term then acts on what stands around it: the blend's convex
weights, and the metric, a positive factor a feature channel and a share a level. `push_student` lets it move the
student as well. The blend (`engines.convex`) is shared by teacher and student. Panels lose a channel at random in both
stages, so that the loss of one exposure does not raise the scores of good panels; the line still names the incomplete
set as what it is.

Defective panels are those of train/<defect> where the set has them (then the method is supervised, and its figures
are not comparable with those from good panels alone), else synthetic ones; the manifest says which.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from engines.blend import Batches
from engines.convex import LOCAL, ConvexBlend
from engines.methods import Stage, mkd
from engines.methods.mkd import Pairs, load_teacher

__all__ = ["Mcd", "Settings", "build", "load_teacher", "needs_defects"]

needs_defects = True

LEAST_SPREAD = 0.5  # of the blend's outputs, which are about 1 when nothing cancels
BLEND_PACE = 0.25  # the blend moves in smaller steps than the metric: larger ones lost more than the contrast won


class Settings(mkd.Settings):
    """Settings of this method, beside those of mkd.

    `blend`: "statistics" and "balanced" are what convex weights start from, see `engines.convex.ConvexBlend`; "auto"
    takes sets of one channel or of three as they are, as mkd does, and "statistics" of others. `third`: the third
    output's start. `contrast_passes`: how many panels the contrastive stage shows, 0 leaves it out. `push`: weight of
    defective locations. `push_student`: the student's share of the learning rate in that stage.
    """

    third: Literal["deviation", "focus"] = "deviation"
    channel_dropout: Annotated[float, Field(ge=0, le=1)] = 0.25
    contrast_passes: Annotated[int, Field(ge=0)] = 480
    contrast_rate: Annotated[float, Field(gt=0)] = 2e-2
    push: Annotated[float, Field(ge=0, le=100)] = 1.0
    push_student: Annotated[float, Field(ge=0, le=1)] = 0.0


class Mcd(mkd.Mkd):
    """See `engines.methods.Model`."""

    settings: Settings

    def __init__(self, channels: int, settings: Settings) -> None:
        super().__init__(channels, settings)
        if self.blend.kind in ("statistics", "balanced"):
            learnt = settings.contrast_passes > 0
            self.blend = ConvexBlend(channels, self.blend.kind == "balanced", settings.third, learnt=learnt)
            self.training_facts["blend"] = self.blend.kind
            self.receptive_field += LOCAL - 1
        self.factors = nn.ParameterList(nn.Parameter(torch.zeros(1, width, 1, 1)) for width in self.teacher.widths)
        self.shares = nn.Parameter(torch.zeros(len(self.teacher.widths)))
        self._contrasting = False

    def train(self, mode: bool = True) -> "Mcd":
        """The student's own statistics stay those of good panels while defects are shown."""
        super().train(mode)
        if self._contrasting:
            self.student.eval()
        return self

    def stages(self) -> Iterator[Stage]:
        """As mkd, with channels lost at random; then the contrastive stage."""
        dropout = self.settings.channel_dropout if isinstance(self.blend, ConvexBlend) else 0.0
        for stage in super().stages():
            yield replace(stage, channel_dropout=dropout)
        if self.settings.contrast_passes:
            self._contrasting = True
            rate = self.settings.contrast_rate
            parameters = self._learnt_by_contrast()
            passes = self.settings.contrast_passes
            yield Stage(
                "contrast", passes, parameters, self._contrast, True, channel_dropout=dropout, learning_rate=rate
            )
            self._contrasting = False

    def _learnt_by_contrast(self) -> list[dict[str, Any]]:
        rate, share = self.settings.contrast_rate, self.settings.push_student
        groups: list[dict[str, Any]] = [{"params": [*self.factors, self.shares], "weight_decay": 0.0}]
        if isinstance(self.blend, ConvexBlend):
            groups.append({"params": [self.blend.logits], "lr": BLEND_PACE * rate, "weight_decay": 0.0})
        if share:
            student = [*self.student.parameters(), *self.heads.parameters()]
            groups.append({"params": student, "lr": share * self.settings.schedule.learning_rate})
        return groups

    def _contrast(self, batch: Tensor, defect_mask: Tensor | None, targets: Sequence[Tensor] | None = None) -> Tensor:
        """Pull at normal locations, bounded push at defective ones, and a floor under the blend's spread."""
        assert defect_mask is not None
        seen = self.blend(batch)
        distance = self._fused(self._compared(seen))
        marked = functional.interpolate(defect_mask[:, None].float(), distance.shape[1:], mode="area")[:, 0] > 0
        defective = marked.float()
        pull = (distance * (1 - defective)).sum() / (1 - defective).sum().clamp(min=1)
        push = ((1 - distance).clamp(min=0) * defective).sum() / defective.sum().clamp(min=1)
        return pull + self.settings.push * push + self._guard(seen)

    def _guard(self, seen: Tensor) -> Tensor:
        """By how much the deviations of the blend's outputs fall short of their floor."""
        if not isinstance(self.blend, ConvexBlend):
            return seen.new_zeros(())
        return (LEAST_SPREAD - seen.std((0, 2, 3))).clamp(min=0).sum()

    def _distances(self, pairs: Pairs) -> list[Tensor]:
        return self._shared(self._by_metric(pairs))

    def _by_metric(self, pairs: Pairs) -> list[Tensor]:
        """Of each level, its channels scaled by their factors: [N, h_i, w_i]."""
        squares = [(2 * factor).exp().view(1, -1) for factor in self.factors]
        return [self._apart(*pair, square) for pair, square in zip(pairs, squares, strict=True)]

    def _shared(self, distances: Sequence[Tensor]) -> list[Tensor]:
        """Each level's distance times its share, which are 1 on average."""
        shares = torch.softmax(self.shares, 0) * len(self.factors)
        return [distance * share for distance, share in zip(distances, shares, strict=True)]

    def loss(self, batch: Tensor, defect_mask: Tensor | None, targets: Sequence[Tensor] | None = None) -> Tensor:
        """Without a mask the student's pull; with one the contrastive term."""
        return super().loss(batch, None, targets) if defect_mask is None else self._contrast(batch, defect_mask)

    def fit_output(self, batches: Batches) -> None:
        super().fit_output(batches)
        self._tell_blend()

    def _tell_blend(self) -> None:
        if isinstance(self.blend, ConvexBlend):
            rows = self.blend.weights().detach().numpy().round(2).tolist()
            self.training_facts["blend_weights"] = "; ".join(" ".join(f"{share:g}" for share in row) for row in rows)


def build(channels: int, settings: Settings) -> Mcd:
    """An untaught model for sets of `channels` channels."""
    return Mcd(channels, settings)
