"""VGG-16 with torchvision's names, and the thin student of it that multiresolution knowledge distillation uses."""

from collections.abc import Iterator, Sequence

from torch import nn

from engines.backbones.backbone import STRIDES, Backbone, Part

CONVOLUTIONS = (2, 2, 3, 3, 3)  # in a block; a max-pool ends it
WIDTHS = (64, 128, 256, 512, 512)


class Vgg16(Backbone):
    """VGG-16 without batch norm (Simonyan and Zisserman 2015), the convolutions alone.

    Levels of strides 2, 4, 8, 16 and 32: the outputs of the five max-pools.
    """

    def __init__(self, strides: Sequence[int] = STRIDES) -> None:
        super().__init__(_vgg16(), strides)


class ThinVgg(Backbone):
    """VGG-16's layout with `width` channels, of which the last convolution of blocks 2 to 5 has VGG-16's own.

    As MKD's released code has it (16 channels there): no bias, Xavier-uniform start, batch norm behind every
    convolution except the last one before a max-pool. Levels of strides 4, 8, 16 and 32.
    """

    def __init__(self, width: int = 16, strides: Sequence[int] = STRIDES) -> None:
        super().__init__(_thin(width), strides)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)


def _vgg16() -> Iterator[Part]:
    number, inside = 0, 3
    for width, count in zip(WIDTHS, CONVOLUTIONS, strict=True):
        for _ in range(count):
            yield Part(f"features.{number}", nn.Conv2d(inside, width, 3, padding=1))
            yield Part(f"features.{number + 1}", nn.ReLU())
            number, inside = number + 2, width
        yield Part(f"features.{number}", nn.MaxPool2d(2), width)
        number += 1


def _thin(width: int) -> Iterator[Part]:
    inside = 3
    for level, (whole, count) in enumerate(zip(WIDTHS, CONVOLUTIONS, strict=True)):
        inner = [(width, True)] * (count - 1)
        outside = width if level == 0 else whole
        layers: list[nn.Module] = []
        for wide, normed in [*inner, (outside, False)]:
            layers += _convolution(inside, wide, normed)
            inside = wide
        yield Part(f"block{level + 1}", nn.Sequential(*layers, nn.MaxPool2d(2)), outside if level else 0)


def _convolution(inside: int, outside: int, normed: bool) -> list[nn.Module]:
    norm = [nn.BatchNorm2d(outside)] if normed else []
    return [nn.Conv2d(inside, outside, 3, padding=1, bias=False), *norm, nn.ReLU()]
