"""What every rewriting of an ONNX graph does."""

from collections.abc import Iterable, Mapping
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


def copy_of(message: Any) -> Any:
    """A copy of a model or a node."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def reading(node: onnx.NodeProto, renamed: Mapping[str, str]) -> onnx.NodeProto:
    """A copy of `node` that reads other tensors."""
    copy = copy_of(node)
    copy.input[:] = [renamed.get(name, name) if name else name for name in node.input]
    return copy


def add_constant(graph: onnx.GraphProto, name: str, value: NDArray) -> None:
    """A constant for new nodes to read; one that is already there stays."""
    if all(each.name != name for each in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(value, name))


def rewire(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Put `nodes` in place of the graph's, the first of those that make one tensor, and drop what nobody reads."""
    once: dict[str, onnx.NodeProto] = {}
    for node in nodes:
        once.setdefault(node.output[0], node)
    replace(graph.node, once.values())
    read = {name for node in graph.node for name in node.input}
    replace(graph.initializer, [each for each in graph.initializer if each.name in read])
    del graph.value_info[:]  # shapes and types of before


def replace(field: Any, items: Iterable[Any]) -> None:
    """Put `items` in place of what a repeated field holds."""
    kept = list(items)
    del field[:]
    field.extend(kept)
