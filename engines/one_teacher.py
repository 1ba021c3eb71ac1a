"""Settings of the methods that have one frozen teacher: which it is, and what "auto" stands for."""

from pathlib import Path
from typing import Literal, Self

from engines.backbones import at_hand
from engines.methods import MethodSettings

DOWNLOADED, SHIPPED = "resnet18", "takt"


class OneTeacher(MethodSettings):
    """`teacher`: "takt" ships with this package, the others need their weights; "auto" is settled by what is there."""

    teacher: Literal[
        "auto", "takt", "resnet18", "resnet34", "wide_resnet50_2", "vgg16", "efficientnet_b0", "mobilenet_v2"
    ] = "auto"

    @property
    def teacher_kind(self) -> str:
        """One of `engines.backbones.TEACHERS`; what is not settled is the one that would be downloaded."""
        return DOWNLOADED if self.teacher == "auto" else self.teacher

    def teachers(self) -> tuple[str, ...]:
        return (self.teacher_kind,)

    def settled(self, weights: Path | None) -> Self:
        """ResNet-18 from the folder or downloaded before, else the teacher that ships."""
        if self.teacher != "auto":
            return self
        there = weights is not None or at_hand(DOWNLOADED, None)
        return self.model_copy(update={"teacher": DOWNLOADED if there else SHIPPED})
