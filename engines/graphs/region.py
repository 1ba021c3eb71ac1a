"""Which nodes of a network may be computed in low precision.

The rule. A convolution belongs to the *trunks* when it has constant weights and sees more than one pixel, or when one
that does lies before it: a blend of channels into three, which only mixes what one pixel shows, comes before all of
them. Any other operator belongs to the trunks when it keeps channels apart and values local, when all that it reads,
constants aside, comes from the trunks, and when a convolution of the trunks follows behind nothing but such operators.

All else stays in float32: the blend, the last sum and activation of each trunk, and the comparison: products of two
trunks' features, sums over channels, interpolation, statistics and score. A decoder behind a mask of weights is
convolutions again and so belongs to the trunks; the mask, one factor of which is a comparison, does not.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

CONVOLUTIONS = ("Conv", "ConvTranspose")
SEPARATE = (  # operators that keep channels apart
    *("Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "GlobalAveragePool", "HardSigmoid", "HardSwish"),
    *("Identity", "LeakyRelu", "MaxPool", "Mul", "PRelu", "ReduceMean", "Relu", "Sigmoid"),
)


@dataclass(frozen=True)
class Wiring:
    """Who makes and who reads each tensor of a graph. `constants` are its initializers by name."""

    nodes: tuple[Any, ...]
    constants: Mapping[str, Any]
    maker: Mapping[str, Any]
    readers: Mapping[str, tuple[Any, ...]]

    def variables(self, node: Any) -> Iterator[str]:
        """What a node reads, constants aside."""
        return (name for name in node.input if name and name not in self.constants)

    def before(self, node: Any) -> list[Any]:
        """The nodes whose results a node reads."""
        return [self.maker[name] for name in self.variables(node) if name in self.maker]

    def behind(self, node: Any) -> list[Any]:
        """The nodes that read a node's results."""
        return [reader for name in node.output for reader in self.readers.get(name, ())]


def wiring(graph: Any) -> Wiring:
    """Of an ONNX graph, whose nodes stand in topological order, as the format demands."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            readers.setdefault(name, []).append(node)
    return Wiring(
        tuple(graph.node),
        {each.name: each for each in graph.initializer},
        {name: node for node in graph.node for name in node.output},
        {name: tuple(each) for name, each in readers.items()},
    )


def trunks(wired: Wiring) -> frozenset[str]:
    """First outputs of the nodes that belong to the trunks, see above; they name the nodes."""
    found: set[str] = set()
    convolved: set[str] = set()  # behind a convolution of the trunks, whatever lies between
    for node in wired.nodes:
        after = any(key(each) in convolved for each in wired.before(node))
        if _convolves(node, wired, after) or _follows(node, wired, found):
            found.add(key(node))
        if after or (node.op_type in CONVOLUTIONS and key(node) in found):
            convolved.add(key(node))
    return _leading_to_convolutions(wired, found)


def key(node: Any) -> str:
    """What names a node: its first output, since names of nodes may be missing."""
    return node.output[0]


def _convolves(node: Any, wired: Wiring, after: bool) -> bool:
    if node.op_type not in CONVOLUTIONS or node.input[1] not in wired.constants:
        return False
    return after or any(size > 1 for size in wired.constants[node.input[1]].dims[2:])


def _follows(node: Any, wired: Wiring, found: set[str]) -> bool:
    if node.op_type not in SEPARATE or (node.op_type == "ReduceMean" and not _spatial(node, wired)):
        return False
    before = list(wired.variables(node))
    return bool(before) and all(name in wired.maker and key(wired.maker[name]) in found for name in before)


def _spatial(node: Any, wired: Wiring) -> bool:
    """Whether a mean is over rows and columns alone, which an export writes for a global pooling."""
    from onnx import numpy_helper

    axes = wired.constants.get(node.input[1]) if len(node.input) > 1 else None
    return axes is not None and {int(axis) % 4 for axis in numpy_helper.to_array(axes)} == {2, 3}


def _leading_to_convolutions(wired: Wiring, found: set[str]) -> frozenset[str]:
    kept: set[str] = set()
    for node in reversed(wired.nodes):
        leads = any(key(each) in kept for each in wired.behind(node))
        if key(node) in found and (node.op_type in CONVOLUTIONS or leads):
            kept.add(key(node))
    return frozenset(kept)
