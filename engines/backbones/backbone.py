"""What all trunks are: networks cut off behind the last level that is asked for, with what each level sees."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from engines.errors import UsageError

STRIDES = (4, 8, 16)


@dataclass(frozen=True)
class Part:
    """One step of a trunk under its published name. `width`: channels of the level that it ends, 0 if it ends none."""

    name: str
    module: nn.Module
    width: int = 0


class Shortcut(nn.Sequential):
    """Runs beside other layers, so that it adds nothing to what a cell sees."""


@dataclass(frozen=True)
class Window:
    """What one layer looks at: `kernel` cells of the layer before, every `stride` cells, `padding` at each border."""

    kernel: int
    stride: int
    padding: int

    def cells(self, size: int) -> int:
        """Cells along a side that had `size`."""
        return (size + 2 * self.padding - self.kernel) // self.stride + 1


class Backbone(nn.Module):
    """A trunk: [N, 3, H, W] -> one map for each of `strides`, fine to coarse.

    `widths` are the maps' channels and `fields` their receptive fields: pixels across which a cell sees. Both,
    and the strides, follow from the layers themselves. Squeeze-excitation is left out of the fields: it scales whole
    channels by what the whole picture holds.

    Raises:
        UsageError: the network has no map of a stride that is asked for.
    """

    def __init__(self, parts: Iterable[Part], strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = tuple(sorted(set(strides)))
        self.widths: tuple[int, ...] = ()
        self.fields: tuple[int, ...] = ()
        self._names: list[str] = []
        self._levels: list[str] = []
        self._take(parts)

    def _take(self, parts: Iterable[Part]) -> None:
        """Add parts until the last level is reached; what lies behind it is never made."""
        there, seen = [], 1
        stride = 1
        for part in parts:
            self._add(part)
            for window in windows(part.module):
                seen += (window.kernel - 1) * stride
                stride *= window.stride
            if not part.width:
                continue
            there.append(stride)
            if stride in self.strides:
                self._levels.append(part.name)
                self.widths, self.fields = (*self.widths, part.width), (*self.fields, seen)
            if stride >= self.strides[-1]:
                break
        if len(self._levels) < len(self.strides):
            missing = next(one for one in self.strides if one not in there)
            raise UsageError(f"{type(self).__name__} has no map of stride {missing}; there is {_listed(there)}")

    def _add(self, part: Part) -> None:
        group, _, name = part.name.rpartition(".")
        if group and group not in self._modules:
            self.add_module(group, nn.Sequential())
        (self.get_submodule(group) if group else self).add_module(name, part.module)
        self._names.append(part.name)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for name in self._names:
            x = self.get_submodule(name)(x)
            if name in self._levels:
                maps.append(x)
        return maps

    def cells(self, height: int, width: int) -> list[tuple[int, int]]:
        """Rows and columns of each level's map of a picture of this size."""
        sizes = []
        for name in self._names:
            for window in windows(self.get_submodule(name)):
                height, width = window.cells(height), window.cells(width)
            if name in self._levels:
                sizes.append((height, width))
        return sizes

    @property
    def names(self) -> tuple[str, ...]:
        """The parts, named as in the published network."""
        return tuple(self._names)


def windows(module: nn.Module) -> Iterator[Window]:
    """The windows of a module's convolutions and poolings along its longest path, in order."""
    if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
        yield Window(_side(module.kernel_size), _side(module.stride), _side(module.padding))
    elif not isinstance(module, Shortcut):
        for child in module.children():
            yield from windows(child)


def _side(size: object) -> int:
    """Of a square window, which may be stated as one number or as two."""
    side = size[0] if isinstance(size, tuple) else size
    assert isinstance(side, int)
    return side


def _listed(strides: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(set(strides))))
