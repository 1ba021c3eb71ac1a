"""Any number of channels -> the three that a teacher for photographs takes, by a fixed rule."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from engines.backbones import IMAGENET_MEAN, IMAGENET_STD

STEP = 4  # of the pixels from which channels are learnt
BALANCED_TOP = 6.0  # a border or glare must not drown the rest
NORMAL_QUARTILES = 1.349  # between the quartiles of a normal distribution of deviation 1

Batches = Callable[[], Iterable[Tensor]]


class Blend(nn.Module):
    """C channels -> 3, standardised: [N, C, H, W] -> [N, 3, H, W]. Fixed, nothing in it is trained."""

    channel_mean: Tensor
    channel_std: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("channel_mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("channel_std", torch.ones(1, channels, 1, 1))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.raw(x) - self.mean) / self.std

    def raw(self, x: Tensor) -> Tensor:
        """The three channels before they are standardised."""
        if self.kind in ("repeat", "colour"):
            return x if x.shape[1] == 3 else x.repeat(1, 3, 1, 1)
        if self.kind == "balanced":
            x = ((x - self.channel_mean) / self.channel_std).clamp(-BALANCED_TOP, BALANCED_TOP)
        return statistics(x)

    def fit(self, batches: Batches) -> None:
        """Learn mean and deviation of good panels; those of photographs stay where the three are a photograph."""
        if self.kind == "balanced":
            balance(self.channel_mean, self.channel_std, channel_values(batches))
        if self.kind in ("balanced", "statistics"):
            learn_moments(self.mean, self.std, map(self.raw, batches()))


def chosen_kind(wanted: str, channels: int) -> str:
    """The kind of a `Blend` of so many channels: `wanted`, or with "auto" the first that fits."""
    if wanted == "auto":
        return {1: "repeat", 3: "colour"}.get(channels, "statistics")
    return wanted


def statistics(x: Tensor) -> Tensor:
    """Mean, largest minus smallest, and deviation over the channels: [N, C, H, W] -> [N, 3, H, W]."""
    mean = x.mean(1, keepdim=True)
    spread = x.amax(1, keepdim=True) - x.amin(1, keepdim=True)
    return torch.cat([mean, spread, (x - mean).square().mean(1, keepdim=True).sqrt()], 1)


def channel_values(batches: Batches) -> Tensor:
    """Every so many-th pixel of good panels, [C, n]."""
    return torch.cat([batch[:, :, ::STEP, ::STEP] for batch in batches()]).transpose(0, 1).flatten(1)


def balance(centre: Tensor, scale: Tensor, values: Tensor) -> None:
    """Put each channel's median and quartile spread, which a border of another brightness does not move, into the two.

    `values` are [C, n]; the tensors [1, C, 1, 1].
    """
    low, middle, high = (quantile(values, share) for share in (0.25, 0.5, 0.75))
    centre.copy_(middle.view_as(centre))
    scale.copy_(((high - low) / NORMAL_QUARTILES).clamp(min=1e-3).view_as(scale))


def quantile(values: Tensor, share: float) -> Tensor:
    """Of each row, [rows, n] -> [rows]; torch.quantile refuses large rows."""
    return values.kthvalue(1 + round(share * (values.shape[1] - 1)), dim=1).values


def learn_moments(mean: Tensor, std: Tensor, batches: Iterable[Tensor]) -> None:
    """Put mean and deviation of each channel over all pixels of `batches` into the two tensors [1, C, 1, 1]."""
    count, total, squares = 0, torch.zeros(mean.numel()).double(), torch.zeros(mean.numel()).double()
    for batch in batches:
        values = batch.double()
        count += values[:, 0].numel()
        total += values.sum((0, 2, 3))
        squares += values.square().sum((0, 2, 3))
    centre = total / count
    mean.copy_(centre.view_as(mean))
    std.copy_((squares / count - centre.square()).clamp(min=1e-8).sqrt().view_as(std))
