"""Any number of channels -> three, by convex weights that can be learnt; a channel that is missing is filled in.

Convex weights over standardised maps: whatever is learnt, an output is an average of things seen, and cannot be scaled
away. It could still cancel, if maps that are each other's opposite were mixed; mcd's loss keeps the outputs' deviation
above a floor.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.blend import BALANCED_TOP, Batches, balance, channel_values, learn_moments, statistics

START = 7.0  # logit of the map that an output starts from; the others are 0
RIDGE = 0.01
LOCAL = 7  # px, window of the local contrast
DERIVED = 4  # maps besides the channels themselves


class ConvexBlend(nn.Module):
    """C channels -> 3, standardised: [N, C, H, W], 0..1, -> [N, 3, H, W].

    The maps that are mixed: mean over the channels, largest minus smallest (what one light alone shows), deviation,
    best focus (each pixel as the channels with the most local contrast there have it), and every channel itself. The
    three outputs start as mean, spread, and deviation or best focus; where nothing is `learnt` they are these, and the
    other maps, which cost more than those, are not computed. With `balanced` every channel is standardised before, so
    that a dark field counts as much as a bright one.

    A channel that is 0 everywhere is missing: it is filled in from the others, as a least-squares fit over good
    panels predicts it. (Our reading; of the paper's module only "transforms and aggregates" is known.)
    """

    centre: Tensor
    scale: Tensor
    others: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self, channels: int, balanced: bool, third: Literal["deviation", "focus"], *, learnt: bool = True
    ) -> None:
        super().__init__()
        self.kind = f"convex, {'balanced' if balanced else 'statistics'}"
        self._balanced, self._focused, self._learnt = balanced, third == "focus", learnt
        self._starts = (0, 1, 3 if self._focused else 2)
        self.register_buffer("centre", torch.zeros(1, channels, 1, 1))
        self.register_buffer("scale", torch.ones(1, channels, 1, 1))
        self.register_buffer("others", torch.zeros(channels, channels))
        self.register_buffer("mean", torch.zeros(1, DERIVED + channels, 1, 1))
        self.register_buffer("std", torch.ones(1, DERIVED + channels, 1, 1))
        self.logits = nn.Parameter(START * self._chosen(), requires_grad=learnt)

    def _chosen(self) -> Tensor:
        """1 where an output starts from a map: [3, 4 + C]."""
        return functional.one_hot(torch.tensor(self._starts), self.mean.shape[1]).float()

    def forward(self, x: Tensor) -> Tensor:
        if self._learnt:
            scaled = self.weights() / self.std.flatten()
            offset = (scaled * self.mean.flatten()).sum(1)
            return functional.conv2d(self._raw_maps(x), scaled[:, :, None, None], -offset)
        starts = list(self._starts)
        return (self._start_maps(x) - self.mean[:, starts]) / self.std[:, starts]

    def weights(self) -> Tensor:
        """Share of each map in each output [3, 4 + C]; rows sum to 1."""
        return torch.softmax(self.logits, 1) if self._learnt else self._chosen()

    def maps(self, x: Tensor) -> Tensor:
        """What is mixed, each standardised over good panels: [N, 4 + C, H, W]."""
        return (self._raw_maps(x) - self.mean) / self.std

    def fit(self, batches: Batches) -> None:
        """Learn what the channels and the maps of good panels look like."""
        values = channel_values(batches)
        balance(self.centre, self.scale, values)
        self.others.copy_(_predictors((values - self.centre.view(-1, 1)) / self.scale.view(-1, 1)))
        learn_moments(self.mean, self.std, map(self._raw_maps, batches()))

    def _raw_maps(self, x: Tensor) -> Tensor:
        filled = self._filled(x)
        balanced = self._in_balance(filled)
        y = balanced if self._balanced else filled
        return torch.cat([statistics(y), _sharpest(balanced, y), y], 1)

    def _start_maps(self, x: Tensor) -> Tensor:
        """Those of `_raw_maps` that the outputs start from: [N, 3, H, W]."""
        filled = self._filled(x)
        y = self._in_balance(filled) if self._balanced else filled
        found = statistics(y)
        return torch.cat([found[:, :2], _sharpest(self._in_balance(filled), y)], 1) if self._focused else found

    def _in_balance(self, filled: Tensor) -> Tensor:
        return ((filled - self.centre) / self.scale).clamp(-BALANCED_TOP, BALANCED_TOP)

    def _filled(self, x: Tensor) -> Tensor:
        """In one product of matrices, which leaves a channel that is there as it is, exactly."""
        missing = (x.amax((2, 3)) <= 0).to(x.dtype)[:, :, None]
        centre = self.centre.flatten()
        others = self.others * self.scale.view(-1, 1) / self.scale.view(1, -1)
        matrix = torch.eye(len(others)) + missing * others
        level = missing * (centre.view(-1, 1) - others @ ((1 - missing) * centre.view(-1, 1)))
        return (matrix @ x.flatten(2) + level).unflatten(2, x.shape[2:])


def _predictors(values: Tensor) -> Tensor:
    """Row c: the weights [C] with which the other channels predict channel c of `values` [C, n], by least squares."""
    channels = len(values)
    values = values.double()
    products = values @ values.T / values.shape[1]
    weights = torch.zeros(channels, channels, dtype=torch.double)
    for channel in range(channels):
        rest = [other for other in range(channels) if other != channel]
        if rest:
            among = products[rest][:, rest]
            ridge = RIDGE * torch.diag(among).mean() * torch.eye(len(rest), dtype=torch.double)
            weights[channel, rest] = torch.linalg.solve(among + ridge, products[rest, channel])
    return weights


def _sharpest(seen: Tensor, y: Tensor) -> Tensor:
    """Mean of the channels of `y`, weighted by their local contrast in `seen`: [N, C, H, W] -> [N, 1, H, W]."""
    local = _around(seen * seen) - _around(seen).square()
    weight = local.clamp(min=0) + 1e-4
    return (weight * y).sum(1, keepdim=True) / weight.sum(1, keepdim=True)


def _around(x: Tensor) -> Tensor:
    """Mean over a window, along the columns and then along the rows, which costs a third of doing both at once."""
    half = LOCAL // 2
    down = functional.avg_pool2d(x, (LOCAL, 1), 1, (half, 0), count_include_pad=False)
    return functional.avg_pool2d(down, (1, LOCAL), 1, (0, half), count_include_pad=False)
