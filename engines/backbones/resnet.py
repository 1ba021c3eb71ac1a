"""ResNet and Wide ResNet, layout and names as in torchvision."""

from collections.abc import Iterator, Sequence
from typing import Literal

from torch import Tensor, nn

from engines.backbones.backbone import STRIDES, Backbone, Part, Shortcut


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a short cut (He et al. 2016). `inner` is not used: both have `outside` channels."""

    def __init__(self, inside: int, inner: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample = _shortcut(inside, outside, stride)

    def forward(self, x: Tensor) -> Tensor:
        same = x if self.downsample is None else self.downsample(x)
        inner = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(inner)) + same)


class Bottleneck(nn.Module):
    """1x1 to `inner` channels, 3x3 with the stride, 1x1 to `outside` channels, and a short cut."""

    def __init__(self, inside: int, inner: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outside, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(inside, outside, stride)

    def forward(self, x: Tensor) -> Tensor:
        same = x if self.downsample is None else self.downsample(x)
        inner = self.relu(self.bn1(self.conv1(x)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        return self.relu(self.bn3(self.conv3(inner)) + same)


def _shortcut(inside: int, outside: int, stride: int) -> Shortcut | None:
    if stride == 1 and inside == outside:
        return None
    return Shortcut(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))


class ResNet(Backbone):
    """Levels of strides 4, 8, 16 and 32: layer1 to layer4, with `blocks` blocks each.

    Kind "basic" has width, 2, 4 and 8 times `width` channels; "bottleneck" four times as many, and convolutions
    inside its blocks that are `wide` times as wide (2 in WideResNet-50-2).
    """

    def __init__(
        self,
        blocks: Sequence[int],
        width: int = 64,
        kind: Literal["basic", "bottleneck"] = "basic",
        wide: int = 1,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        super().__init__(_parts(blocks, width, kind, wide), strides)


class ThinResNet(ResNet):
    """ResNet of basic blocks, `blocks` at each level: students, and the trunk of the teacher that ships."""

    def __init__(self, width: int, blocks: int, strides: Sequence[int] = STRIDES) -> None:
        super().__init__((blocks,) * 4, width, strides=strides)


class ReducedResNet(Backbone):
    """MixedTeacher's student: ResNet-18 with one block a level, the first of them with stride 2 as well.

    So its levels have strides 8, 16 and 32 and the 64, 128 and 256 channels that ResNet-18 has at 4, 8 and 16.
    """

    def __init__(self, strides: Sequence[int] = (8, 16)) -> None:
        super().__init__(_reduced(), strides)


def _reduced(width: int = 64) -> Iterator[Part]:
    yield from _stem(width)
    inside = width
    for level in range(3):
        outside = width * 2**level
        yield Part(f"layer{level + 1}", nn.Sequential(BasicBlock(inside, outside, outside, 2)), outside)
        inside = outside


def _stem(width: int) -> Iterator[Part]:
    yield Part("conv1", nn.Conv2d(3, width, 7, 2, 3, bias=False))
    yield Part("bn1", nn.BatchNorm2d(width))
    yield Part("relu", nn.ReLU())
    yield Part("maxpool", nn.MaxPool2d(3, 2, 1))


def _parts(blocks: Sequence[int], width: int, kind: Literal["basic", "bottleneck"], wide: int) -> Iterator[Part]:
    yield from _stem(width)
    block, growth = (BasicBlock, 1) if kind == "basic" else (Bottleneck, 4)
    inside = width
    for level, count in enumerate(blocks):
        inner = width * 2**level
        outside, stride = inner * growth, 1 if level == 0 else 2
        first = block(inside, inner * wide, outside, stride)
        more = (block(outside, inner * wide, outside, 1) for _ in range(count - 1))
        yield Part(f"layer{level + 1}", nn.Sequential(first, *more), outside)
        inside = outside


def thin_student(teacher: Backbone, width: int, blocks: int) -> tuple[ThinResNet, list[nn.Module]]:
    """An untaught student with the teacher's levels, and the 1x1 heads that bring each to the teacher's width."""
    student = ThinResNet(width, blocks, teacher.strides)
    pairs = zip(student.widths, teacher.widths, strict=True)
    return student, [nn.Conv2d(inside, outside, 1) for inside, outside in pairs]
