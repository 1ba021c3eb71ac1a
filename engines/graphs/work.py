"""How much work a network is: operations and bytes of one row, by its graph; and a graph that is matrix products alone.

Products of convolutions and matrices are counted, two operations each; the rest of a network is a few per cent of them.
It needs the library `onnx`, which the extra `int8` brings.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.errors import EngineError

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Work:
    """Of one row. `moved` is what no cache saves: the input and the outputs once; `weights` once a run."""

    operations: int
    moved: int
    weights: int


def work(network: bytes) -> Work:
    """The work of an ONNX graph.

    Raises:
        EngineError: shapes cannot be inferred.
    """
    model = onnx.load_from_string(network)
    _one_row(model)
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = _shapes(graph)
    operations = sum(_operations(node, shapes) for node in graph.node)
    if not operations:
        raise EngineError("the graph has no product whose size is known")
    ends = [*graph.input, *graph.output]
    weights = sum(len(each.raw_data) for each in graph.initializer)
    return Work(operations, sum(4 * prod(shapes[each.name]) for each in ends if each.name in shapes), weights)


def matrices(size: int, chain: int) -> bytes:
    """A graph `a` [1, size, size] -> `b`, by `chain` products with one constant matrix: 2 chain size^3 operations."""
    values = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32) / size**0.5
    names = ["a", *(f"product_{number}" for number in range(1, chain)), "b"]
    nodes = [helper.make_node("MatMul", [names[n], "matrix"], [names[n + 1]]) for n in range(chain)]
    value = helper.make_tensor_value_info
    ends = [value(name, TensorProto.FLOAT, ["batch", size, size]) for name in ("a", "b")]
    graph = helper.make_graph(nodes, "matrices", ends[:1], ends[1:], [numpy_helper.from_array(values, "matrix")])
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def _one_row(model: onnx.ModelProto) -> None:
    for each in (*model.graph.input, *model.graph.output):
        dims = each.type.tensor_type.shape.dim
        if dims:
            dims[0].dim_value = 1


def _shapes(graph: onnx.GraphProto) -> Shapes:
    known = {each.name: tuple(each.dims) for each in graph.initializer}
    for each in (*graph.input, *graph.value_info, *graph.output):
        known[each.name] = tuple(dim.dim_value for dim in each.type.tensor_type.shape.dim)
    return {name: shape for name, shape in known.items() if all(shape)}


def _operations(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Twice the products; 0 for what has none, or whose shapes are open."""
    inner = {"Conv": _each_conv, "ConvTranspose": _each_transposed, "MatMul": _each_matrix, "Gemm": _each_matrix}
    if node.op_type not in inner or not {*node.input[:2], node.output[0]} <= shapes.keys():
        return 0
    return 2 * inner[node.op_type](node, shapes)


def _each_conv(node: onnx.NodeProto, shapes: Shapes) -> int:
    """An output pixel sums over its kernel and the group's channels, which the weights [out, in, h, w] tell."""
    return prod(shapes[node.output[0]]) * prod(shapes[node.input[1]][1:])


def _each_transposed(node: onnx.NodeProto, shapes: Shapes) -> int:
    """An input pixel is spread over its kernel and the group's outputs: weights [in, out, h, w]."""
    return prod(shapes[node.input[0]]) * prod(shapes[node.input[1]][1:])


def _each_matrix(node: onnx.NodeProto, shapes: Shapes) -> int:
    left = shapes[node.input[0]]
    transposed = any(each.name == "transA" and each.i for each in node.attribute)
    return prod(shapes[node.output[0]]) * left[-2 if transposed else -1]
