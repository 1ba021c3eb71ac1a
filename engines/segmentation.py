"""Post-segmentation: the teacher's features weighted by disagreement, a small decoder over them, and its loss."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.backbones.backbone import STRIDES

GOOD, DEFECT = 0, 1  # the decoder's classes
LEAST_SHARE = 1e-6  # of either class: half precision still holds it


def weight_mask(features: Tensor, distance: Tensor) -> Tensor:
    """Features where the student disagrees: (1 - W) * T with 1 - W the distance [N, h, w], W the cosine.

    [N, C, h, w] -> [N, C, h, w]; 0 where the student's direction is the teacher's. Nothing in it is learnt.
    """
    return distance[:, None] * features


def marked_cells(defect_mask: Tensor, stride: int) -> Tensor:
    """1.0 in cells of which any pixel is defective: bool [N, H, W] -> float [N, H / stride, W / stride]."""
    return functional.max_pool2d(defect_mask[:, None].float(), stride)[:, 0]


def focal_loss(logits: Tensor, marked: Tensor, gamma: float, alpha: float) -> Tensor:
    """Mean of -a * (1 - p)^gamma * ln p, with p the probability of a cell's true class (Lin et al., ICCV 2017).

    `logits` are [N, 2, h, w], good and defective; `marked` [N, h, w] is 1 where defective. The share a is `alpha` for
    defective cells and 1 - alpha for good ones. 1 - p is taken as the other class's probability, which keeps its digits
    where p is nearly 1.
    """
    good, defect = functional.log_softmax(logits, 1).unbind(1)
    missed = alpha * torch.exp(gamma * good) * defect
    invented = (1 - alpha) * torch.exp(gamma * defect) * good
    return -(marked * missed + (1 - marked) * invented).mean()


def log_odds(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Logarithm of the odds of a defect in the mask smoothed by two matrices: [N, 2, h, w] -> [N, h, w].

    Both classes are smoothed, so that neither loses its digits.
    """
    smooth = rows @ torch.softmax(logits, 1) @ columns.T
    good, defect = smooth.clip(LEAST_SHARE).log().unbind(1)
    return defect - good


class UpBlock(nn.Module):
    """Twice the size by a transposed convolution, a level's features beside it, two 3x3 convolutions."""

    def __init__(self, below: int, beside: int, outside: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(below, outside, 2, 2)
        self.convolutions = _two(outside + beside, outside)

    def forward(self, below: Tensor, beside: Tensor) -> Tensor:
        return self.convolutions(torch.cat([self.up(below), beside], 1))


class Decoder(nn.Module):
    """Features of levels that halve from one to the next, fine to coarse -> logits [N, 2, h, w] at the finest.

    `inside` are the levels' channels, fine to coarse; `widths` the decoder's own, coarse to fine, one a level.
    `narrow`, coarse to fine, is what a 1x1 convolution brings each level to before anything else; None leaves it as it
    is. The narrowing is linear and of one cell, so that the mask of weights acts on what it leaves, at less cost.
    """

    def __init__(self, inside: Sequence[int], widths: Sequence[int], narrow: Sequence[int] | None = None) -> None:
        super().__init__()
        beside = list(reversed(inside)) if narrow is None else list(narrow)
        self.narrow = nn.ModuleList(nn.Identity() for _ in inside)
        if narrow is not None:
            pairs = zip(inside, reversed(narrow), strict=True)
            self.narrow = nn.ModuleList(nn.Conv2d(before, after, 1, bias=False) for before, after in pairs)
        self.bottom = _two(beside[0], widths[0])
        steps = zip(pairwise(widths), beside[1:], strict=True)
        self.blocks = nn.ModuleList(UpBlock(below, level, outside) for (below, outside), level in steps)
        self.last = nn.Conv2d(widths[-1], 2, 3, padding=1)

    def forward(self, levels: Sequence[Tensor], distances: Sequence[Tensor] | None = None) -> Tensor:
        """Of levels as the teacher has them where `distances` are given, else of levels that are weighted already."""
        narrowed = [narrow(level) for narrow, level in zip(self.narrow, levels, strict=True)]
        if distances is not None:
            narrowed = [weight_mask(*pair) for pair in zip(narrowed, distances, strict=True)]
        coarsest, *finer = reversed(narrowed)
        x = self.bottom(coarsest)
        for block, level in zip(self.blocks, finer, strict=True):
            x = block(x, level)
        return self.last(x)

    def reach(self, finest: int = STRIDES[0]) -> int:
        """Pixels by which a cell sees farther than a cell of the coarsest level, where the finest has this stride."""
        cells = 3 + 4  # of the finest level: the last convolution's and those before it
        for _ in self.blocks:
            cells = cells // 2 + 1 + 4  # those above that many, at worst, and the convolutions' own
        return (cells - 1) * finest * 2 ** len(self.blocks)


def _two(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(inside, outside), *_convolution(outside, outside))


def _convolution(inside: int, outside: int) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
