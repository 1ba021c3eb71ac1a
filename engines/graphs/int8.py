"""int8, fp8: the trunks between QuantizeLinear and DequantizeLinear, ranges from good panels; all else stays float32.

Weights are int8, symmetric, one scale an output channel. An activation tensor has one scale: uint8 with a zero point,
or int8 around 0 (`Scheme.signed`). Ranges are the smallest and largest value that good panels show: narrower ones,
which cut outliers, cost more than they won on real panels. Biases stay float32.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from ml_dtypes import float8_e4m3fn
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from engines.errors import EngineError
from engines.graphs import ranges, surgery
from engines.graphs.region import Wiring, key, trunks, wiring

INTEGER = ("Add", "AveragePool", "Clip", "Conv", "GlobalAveragePool", "MaxPool", "Relu")  # others compute in float32
ACTIVATIONS = ("Clip", "Relu")  # part of the convolution or sum before them
SELECTING = ("MaxPool",)  # what comes out went in, so it keeps its scale
LEAST_STEP = 1e-8
LARGEST_FP8 = 448


@dataclass(frozen=True)
class Scheme:
    """How numbers become integers. `weight_bits` is 7 where sums of two products are kept in 16 bits.

    `sparing` is for runtimes whose convolutions add and hand on what they have before it is rounded: results that are
    only added to, or leave the trunks, stay as they are. Where every result of integers is rounded, sums are better
    computed in float32, and so is a last convolution of one pixel: measured, neither costs time.
    """

    signed: bool = False
    weight_bits: int = 8
    sparing: bool = False
    floats: bool = False  # fp8: numbers of 8 bits with 4 for the exponent, in place of integers

    @property
    def largest(self) -> int:
        """What a weight or a signed activation becomes at most."""
        return LARGEST_FP8 if self.floats else 2 ** (self.weight_bits - 1) - 1

    @property
    def kind(self) -> np.dtype:
        """Of activations."""
        return np.dtype(float8_e4m3fn) if self.floats else np.dtype(np.int8 if self.signed else np.uint8)

    @property
    def weight_kind(self) -> np.dtype:
        return self.kind if self.floats else np.dtype(np.int8)

    @staticmethod
    def named(words: Sequence[str]) -> "Scheme":
        """Of the name of a form, in words."""
        if words[0] == "fp8":
            return Scheme(signed=True, floats=True)
        return Scheme("signed" in words, 7 if "7" in words else 8, "sparing" in words)


@dataclass(frozen=True)
class Scale:
    """real = step * (integer - zero)."""

    step: float
    zero: int


def derive(model: onnx.ModelProto, panels: Iterable[NDArray[np.float32]], words: Sequence[str]) -> onnx.ModelProto:
    """A copy of the float32 network `model` with its trunks in integers; `panels` are good ones, each [C, h, w].

    Raises:
        EngineError: there are no panels, or the network gives no finite numbers for them.
    """
    scheme, wired = Scheme.named(words), wiring(model.graph)
    low = _in_integers(wired, scheme)
    rounded = list(dict.fromkeys(_rounded(wired, low, scheme)))
    scales = _scales(wired, ranges.observed(model, rounded, panels), scheme)
    derived = surgery.copy_of(model)
    surgery.rewire(derived.graph, list(_nodes(derived.graph, wired, low, scales, scheme)))
    return derived


def _in_integers(wired: Wiring, scheme: Scheme) -> frozenset[str]:
    """The nodes that are computed in integers."""
    low = frozenset(key(node) for node in wired.nodes if node.op_type in INTEGER) & trunks(wired)
    dear = () if scheme.sparing else (key(node) for node in wired.nodes if key(node) in low and _dear(node, wired, low))
    return low - frozenset(dear)


def _dear(node: Any, wired: Wiring, low: frozenset[str]) -> bool:
    """Whether rounding all that a node makes loses more than integers gain; see `Scheme`."""
    if node.op_type == "Conv":
        pixel = all(size == 1 for size in wired.constants[node.input[1]].dims[2:])
        return pixel and not any(key(each) in low for each in wired.behind(node))
    return node.op_type == "Add" or (
        node.op_type in ACTIVATIONS and any(each.op_type == "Add" for each in wired.before(node))
    )


def _rounded(wired: Wiring, low: frozenset[str], scheme: Scheme) -> Iterator[str]:
    """The tensors that become integers: what the trunks' nodes read and make."""
    for node in wired.nodes:
        if key(node) in low:
            joined = node.op_type in ACTIVATIONS and any(_ends_in(each, wired, low) for each in wired.before(node))
            reads = () if joined else wired.variables(node)
            yield from (name for name in reads if not _spared(wired.maker.get(name), wired, low, scheme))
            if not _ends_in(node, wired, low) and not _spared(node, wired, low, scheme):
                yield key(node)


def _ends_in(node: Any, wired: Wiring, low: frozenset[str]) -> bool:
    """Whether an activation in the trunks is all that reads a convolution or a sum."""
    behind = wired.behind(node)
    alone = len(behind) == 1 and behind[0].op_type in ACTIVATIONS and key(behind[0]) in low
    return alone and node.op_type in ("Add", "Conv")


def _spared(node: Any, wired: Wiring, low: frozenset[str], scheme: Scheme) -> bool:
    """Whether a convolution's result stays as it is; see `Scheme`."""
    if not scheme.sparing or node is None or node.op_type != "Conv" or key(node) not in low:
        return False
    behind = wired.behind(node)
    return not any(key(each) in low for each in behind) or [each.op_type for each in behind] == ["Add"]


def _scales(wired: Wiring, found: Mapping[str, tuple[float, float]], scheme: Scheme) -> dict[str, Scale]:
    scales: dict[str, Scale] = {}
    for name, (low, high) in found.items():
        maker = wired.maker.get(name)
        if maker is not None and maker.op_type in SELECTING and maker.input[0] in scales:
            scales[name] = scales[maker.input[0]]
        elif scheme.signed:
            scales[name] = Scale(max(-low, high, LEAST_STEP) / (scheme.largest if scheme.floats else 127), 0)
        else:  # 0 is always among the values: padding is exact
            low, high = min(low, 0.0), max(high, 0.0)
            step = max((high - low) / 255, LEAST_STEP)
            scales[name] = Scale(step, round(-low / step))
    return scales


def _nodes(
    graph: Any, wired: Wiring, low: frozenset[str], scales: Mapping[str, Scale], scheme: Scheme
) -> Iterator[Any]:
    """All nodes of the graph, those of the trunks behind what makes numbers of integers; constants go into `graph`."""
    kind = scheme.kind
    for each in graph.input:
        yield from _through(graph, each.name, scales, kind)
    for node in wired.nodes:
        weights = node.input[1] if key(node) in low and node.op_type == "Conv" else ""
        if weights:
            yield _weights(graph, weights, wired.constants[weights], scheme)
        yield surgery.reading(node, {name: _dequantised(name) for name in (*_taken(node, wired, low, scales), weights)})
        for name in node.output:
            yield from _through(graph, name, scales, kind)


def _taken(node: Any, wired: Wiring, low: frozenset[str], scales: Mapping[str, Scale]) -> Iterator[str]:
    """What a node reads as integers: the trunks' all that is rounded, others what the trunks' nodes have rounded.

    A convolution's result that float32 nodes read as it was would have to be computed in float32 as well.
    """
    for name in node.input:
        made_low = name in wired.maker and key(wired.maker[name]) in low
        if name in scales and (key(node) in low or made_low):
            yield name


def _through(graph: Any, name: str, scales: Mapping[str, Scale], kind: np.dtype) -> Iterator[Any]:
    """A tensor into integers and back."""
    if name not in scales:
        return
    step, zero, integers = f"{name}/step", f"{name}/zero", f"{name}/integers"
    surgery.add_constant(graph, step, np.array(scales[name].step, np.float32))
    surgery.add_constant(graph, zero, np.array(scales[name].zero, kind))
    yield helper.make_node("QuantizeLinear", [name, step, zero], [integers], f"quantize {name}")
    yield helper.make_node("DequantizeLinear", [integers, step, zero], [_dequantised(name)], f"dequantize {name}")


def _weights(graph: Any, name: str, constant: Any, scheme: Scheme) -> Any:
    """Weights [out, in, h, w] as integers, or numbers of 8 bits, and the node that makes numbers of them."""
    values, largest = numpy_helper.to_array(constant), scheme.largest
    steps = np.maximum(np.abs(values).max(axis=(1, 2, 3)) / largest, LEAST_STEP).astype(np.float32)
    if not np.isfinite(steps).all():
        raise EngineError(f"{name}: a weight is no finite number; teach again")
    scaled = values / steps[:, None, None, None]
    integers = np.clip(scaled if scheme.floats else np.rint(scaled), -largest, largest).astype(scheme.weight_kind)
    read = [f"{name}/integers", f"{name}/step", f"{name}/zero"]
    for each, value in zip(read, (integers, steps, np.zeros(len(steps), scheme.weight_kind)), strict=True):
        surgery.add_constant(graph, each, value)
    return helper.make_node("DequantizeLinear", read, [_dequantised(name)], f"dequantize {name}", axis=0)


def _dequantised(name: str) -> str:
    return f"{name}/rounded"
