"""MobileNetV2 and EfficientNet-B0: inverted residuals, layout and names as in torchvision."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from engines.backbones.backbone import STRIDES, Backbone, Part

STEM = 32


@dataclass(frozen=True)
class Row:
    """A row of the papers' tables: `count` blocks, the first with the stride. `level`: a map is taken behind it."""

    expansion: int
    kernel: int
    stride: int
    width: int
    count: int
    level: bool = True


MOBILENET_V2 = (  # Sandler et al. 2018, table 2
    Row(1, 3, 1, 16, 1),
    Row(6, 3, 2, 24, 2),
    Row(6, 3, 2, 32, 3),
    Row(6, 3, 2, 64, 4, level=False),
    Row(6, 3, 1, 96, 3),
    Row(6, 3, 2, 160, 3, level=False),
    Row(6, 3, 1, 320, 1),
)
EFFICIENTNET_B0 = (  # Tan and Le 2019, table 1
    Row(1, 3, 1, 16, 1),
    Row(6, 3, 2, 24, 2),
    Row(6, 5, 2, 40, 2),
    Row(6, 3, 2, 80, 3, level=False),
    Row(6, 5, 1, 112, 3),
    Row(6, 5, 2, 192, 4, level=False),
    Row(6, 3, 1, 320, 1),
)


class Unit(nn.Sequential):
    """Convolution, batch norm, activation; padded so that only the stride changes the size."""

    def __init__(
        self, inside: int, outside: int, kernel: int, stride: int, groups: int, activation: type[nn.Module] | None
    ) -> None:
        convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
        behind = [] if activation is None else [activation()]
        super().__init__(convolution, nn.BatchNorm2d(outside), *behind)


class Excitation(nn.Module):
    """Squeeze and excitation (Hu et al. 2018): each channel scaled by what the mean of all channels says."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, width, 1)
        self.activation, self.gate = nn.SiLU(), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.fc2(self.activation(self.fc1(mean))))


class Inverted(nn.Module):
    """MobileNetV2's block: wider, by depth, narrower again without activation; added to its input where that fits."""

    def __init__(self, row: Row, inside: int, stride: int) -> None:
        super().__init__()
        self.added = stride == 1 and inside == row.width
        wide = inside * row.expansion
        wider = [] if row.expansion == 1 else [Unit(inside, wide, 1, 1, 1, nn.ReLU6)]
        depthwise = Unit(wide, wide, row.kernel, stride, wide, nn.ReLU6)
        narrower = nn.Conv2d(wide, row.width, 1, bias=False)
        self.conv = nn.Sequential(*wider, depthwise, narrower, nn.BatchNorm2d(row.width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.added else self.conv(x)


class ExcitedInverted(nn.Module):
    """EfficientNet's block: the same with SiLU and squeeze-excitation; stochastic depth is off."""

    def __init__(self, row: Row, inside: int, stride: int) -> None:
        super().__init__()
        self.added = stride == 1 and inside == row.width
        wide = inside * row.expansion
        wider = [] if row.expansion == 1 else [Unit(inside, wide, 1, 1, 1, nn.SiLU)]
        depthwise = Unit(wide, wide, row.kernel, stride, wide, nn.SiLU)
        excitation = Excitation(wide, max(1, inside // 4))
        self.block = nn.Sequential(*wider, depthwise, excitation, Unit(wide, row.width, 1, 1, 1, None))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.added else self.block(x)


class MobileNetV2(Backbone):
    """Levels of strides 2, 4, 8, 16 and 32 with 16, 24, 32, 96 and 320 channels."""

    def __init__(self, strides: Sequence[int] = STRIDES) -> None:
        super().__init__(_mobilenet(), strides)


class EfficientNetB0(Backbone):
    """Levels of strides 2, 4, 8, 16 and 32 with 16, 24, 40, 112 and 320 channels."""

    def __init__(self, strides: Sequence[int] = STRIDES) -> None:
        super().__init__(_efficientnet(), strides)


def _mobilenet() -> Iterator[Part]:
    """Every block is a part."""
    yield Part("features.0", Unit(3, STEM, 3, 2, 1, nn.ReLU6))
    number, inside = 1, STEM
    for row in MOBILENET_V2:
        for place in range(row.count):
            block = Inverted(row, inside, row.stride if place == 0 else 1)
            ends = row.level and place == row.count - 1
            yield Part(f"features.{number}", block, row.width if ends else 0)
            number, inside = number + 1, row.width


def _efficientnet() -> Iterator[Part]:
    """Every row is a part."""
    yield Part("features.0", Unit(3, STEM, 3, 2, 1, nn.SiLU))
    inside = STEM
    for number, row in enumerate(EFFICIENTNET_B0, 1):
        first = ExcitedInverted(row, inside, row.stride)
        more = (ExcitedInverted(row, row.width, 1) for _ in range(row.count - 1))
        yield Part(f"features.{number}", nn.Sequential(first, *more), row.width if row.level else 0)
        inside = row.width
