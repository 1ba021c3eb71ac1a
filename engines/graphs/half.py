"""fp16 and bf16: the trunks in half precision, with casts where they begin and end; all else stays float32."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.errors import EngineError
from engines.graphs import surgery
from engines.graphs.region import Wiring, key, trunks, wiring

OPSET = 22  # the first whose convolutions take bfloat16
TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def derive(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """A copy of the float32 network `model` with its trunks in `precision`, "fp16" or "bf16".

    Raises:
        EngineError: a weight is too large for it.
    """
    wired = wiring(model.graph)
    halving = _Halving(wired, trunks(wired), TYPES[precision])
    derived = surgery.copy_of(model)
    for name in halving.constants():
        surgery.add_constant(derived.graph, _half(name), _halved(name, wired.constants[name], halving.kind))
    surgery.rewire(derived.graph, [each for node in wired.nodes for each in halving.rewritten(node)])
    _raise_opset(derived)
    return derived


@dataclass(frozen=True)
class _Halving:
    wired: Wiring
    low: frozenset[str]
    kind: int

    def rewritten(self, node: Any) -> Iterator[Any]:
        """The nodes that stand for `node`: itself, or itself in half precision between the casts that it needs."""
        if key(node) not in self.low:
            yield node
            return
        for name in self.wired.variables(node):
            if name not in self.wired.maker or key(self.wired.maker[name]) not in self.low:
                yield _cast(name, _half(name), self.kind)
        copy = surgery.reading(node, {name: _half(name) for name in node.input if self._is_number(name)})
        copy.output[:] = [_half(name) if name else name for name in node.output]
        yield copy
        yield from (_cast(_half(name), name, TensorProto.FLOAT) for name in node.output if self._leaves(name))

    def constants(self) -> Iterator[str]:
        """The float32 constants that the trunks read."""
        for node in self.wired.nodes:
            if key(node) in self.low:
                yield from (name for name in node.input if name in self.wired.constants and self._is_number(name))

    def _is_number(self, name: str) -> bool:
        """Whether an input of the trunks is in half precision then; axes and shapes are integers and stay."""
        constant = self.wired.constants.get(name)
        return constant is None or constant.data_type == TensorProto.FLOAT

    def _leaves(self, name: str) -> bool:
        """Whether others than the trunks read a tensor of theirs."""
        readers = self.wired.readers.get(name, ())
        return not readers or any(key(each) not in self.low for each in readers)


def _half(name: str) -> str:
    return f"{name}/half"


def _cast(source: str, target: str, kind: int) -> Any:
    return helper.make_node("Cast", [source], [target], f"cast to {target}", to=kind)


def _halved(name: str, constant: Any, kind: int) -> NDArray:
    with np.errstate(over="ignore"):  # what overflows is named below
        values = numpy_helper.to_array(constant).astype(helper.tensor_dtype_to_np_dtype(kind))
    if not np.isfinite(values.astype(np.float32)).all():
        raise EngineError(f"{name}: a weight is too large for half precision; take bf16 or fp32")
    return values


def _raise_opset(model: onnx.ModelProto) -> None:
    """State the operator set that has bfloat16 convolutions; of 20, 21 and 22 our operators mean the same."""
    for each in model.opset_import:
        if each.domain in ("", "ai.onnx"):
            each.version = max(each.version, OPSET)
