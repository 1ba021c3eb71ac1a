"""The teacher that ships: a thin ResNet with the heads through which it imitates ResNet-18's levels."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from engines.backbones.backbone import STRIDES
from engines.backbones.resnet import ThinResNet
from engines.errors import UsageError

WIDTH, BLOCKS = 40, 2
IMITATED = {4: 64, 8: 128, 16: 256}  # stride: ResNet-18's channels


class Imitation(ThinResNet):
    """Levels of strides 4, 8 and 16 with the channels that ResNet-18 has there.

    The heads stay, unlike a student's: they are a twentieth of the weights, and behind them the channels have the
    scales that make a cosine of raw features tell defects.

    Raises:
        UsageError: a level is asked for that it does not have.
    """

    def __init__(self, strides: Sequence[int] = STRIDES) -> None:
        if foreign := [stride for stride in strides if stride not in IMITATED]:
            there = ", ".join(map(str, IMITATED))
            raise UsageError(f"the teacher that ships has no map of stride {foreign[0]}; there is {there}")
        super().__init__(WIDTH, BLOCKS, strides)
        pairs = zip(self.strides, self.widths, strict=True)
        self.heads = nn.ModuleDict({str(stride): nn.Conv2d(width, IMITATED[stride], 1) for stride, width in pairs})
        self.widths = tuple(IMITATED[stride] for stride in self.strides)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [functional.relu(one) for one in self.linear(x)]

    def linear(self, x: Tensor) -> list[Tensor]:
        """The levels before their activation."""
        maps = super().forward(x)
        return [head(one) for head, one in zip(self.heads.values(), maps, strict=True)]
