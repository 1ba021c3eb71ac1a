"""Teacher and student trunks in PyTorch, parameter names as in torchvision's ResNet."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engines.errors import UsageError

STRIDES = (4, 8, 16)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a short cut (He et al. 2016), layout and names as in torchvision."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample = None
        if stride != 1 or inside != outside:
            shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        same = x if self.downsample is None else self.downsample(x)
        inner = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(inner)) + same)


class Trunk(nn.Module):
    """ResNet up to layer3: [N, 3, H, W] -> maps of strides 4, 8 and 16 with width, 2 and 4 times width channels.

    Width 64 with two blocks a stage is ResNet-18.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.widths = (width, 2 * width, 4 * width)
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(width, width, blocks, stride=1)
        self.layer2 = _stage(width, 2 * width, blocks, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, blocks, stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        one = self.layer1(x)
        two = self.layer2(one)
        return [one, two, self.layer3(two)]


def receptive_field_px(blocks: int) -> int:
    """Pixels across which a cell of layer3 sees: 211 for ResNet-18."""
    field, jump = 11, 4  # stem and pooling
    for stride in (1, 2, 2):
        field += 2 * jump  # the first convolution of a stage samples at the old step
        jump *= stride
        field += 2 * jump * (2 * blocks - 1)
    return field


def _stage(inside: int, outside: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inside, outside, stride)
    return nn.Sequential(first, *(BasicBlock(outside, outside, 1) for _ in range(blocks - 1)))


@dataclass(frozen=True)
class Teacher:
    """A kind of teacher. `file` is a pattern in the weights folder; None: made here from the seed."""

    width: int
    blocks: int
    file: str | None

    def trunk(self) -> Trunk:
        return Trunk(self.width, self.blocks)


TEACHERS = {
    "resnet18": Teacher(width=64, blocks=2, file="resnet18*.pth"),
    "small": Teacher(width=16, blocks=1, file=None),
}


def load_weights(trunk: Trunk, kind: str, folder: Path | None) -> tuple[str, str]:
    """Fill a teacher's trunk; returns what it is, for the manifest, and the SHA-256 of its file ("" without).

    Raises:
        UsageError: the folder or the file is missing, or the file is not of this network.
    """
    pattern = TEACHERS[kind].file
    if pattern is None:
        return f"{kind}: made here from good panels and synthetic defects", ""
    if folder is None:
        raise UsageError(f"teacher {kind} needs its weights: give --teacher-weights DIR with {pattern}")
    found = sorted(Path(folder).glob(pattern))
    if not found:
        raise UsageError(f"{folder}: holds no {pattern}; give the folder with the teacher's weights")
    _fill(trunk, found[0])
    return found[0].stem, hashlib.sha256(found[0].read_bytes()).hexdigest()


def _fill(trunk: Trunk, path: Path) -> None:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        missing = trunk.load_state_dict(weights, strict=False).missing_keys
    except Exception as error:  # damaged files raise many kinds
        line = str(error).splitlines()[0]
        raise UsageError(f"{path}: cannot be loaded as this teacher: {line}") from error
    wanted = [name for name in missing if not name.endswith("num_batches_tracked")]
    if wanted:
        raise UsageError(f"{path}: is not of this teacher, {wanted[0]} is missing")
