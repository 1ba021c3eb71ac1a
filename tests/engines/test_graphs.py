"""Derived graphs: trunks in low precision, all else in float32, the same bytes every time."""

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import cpu, graphs
from engines.errors import EngineError, UsageError

onnx = pytest.importorskip("onnx", reason="needs the extra [int8]")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from engines.graphs.int8 import INTEGER  # noqa: E402
from engines.graphs.region import CONVOLUTIONS, key, trunks, wiring  # noqa: E402

DEMO = Path(__file__).parents[2] / "pipeline/demo/recipe/network.onnx"
INT8 = [form for form in graphs.FORMS if form.startswith("int8")]
FAR = 1e5  # beyond half precision


def convolution(source: str, target: str, inside: int, outside: int, size: int = 3) -> tuple:
    weights = np.random.default_rng(len(target)).normal(size=(outside, inside, size, size)).astype(np.float32) / inside
    node = helper.make_node("Conv", [source, f"{target}.w"], [target], pads=[size // 2] * 4)
    return node, numpy_helper.from_array(weights, f"{target}.w")


def small(scale: float = 1.0) -> bytes:
    """A blend, a teacher and a student of two levels, a weight mask with a decoder behind it, a map and a score."""
    made = [
        convolution("panels", "blend", 2, 3, 1),
        convolution("blend", "t1", 3, 4),
        convolution("t1r", "t2", 4, 4),
        convolution("blend", "s1", 3, 4),
        convolution("s1r", "s2", 4, 4, 1),
        convolution("weighted", "d1", 4, 4),
        convolution("d1r", "d2", 4, 1),
    ]
    nodes = {node.output[0]: node for node, _ in made}
    weights = [each for _, each in made]
    weights[0] = numpy_helper.from_array(numpy_helper.to_array(weights[0]) * np.float32(scale), "blend.w")
    weights += [helper.make_tensor("channels", TensorProto.INT64, [1], [1])]
    weights += [helper.make_tensor("places", TensorProto.INT64, [2], [1, 2])]
    op = helper.make_node
    order = [
        *(nodes["blend"], nodes["t1"], op("Relu", ["t1"], ["t1r"]), nodes["t2"]),
        *(op("Add", ["t2", "t1r"], ["t2s"]), op("Relu", ["t2s"], ["t2r"])),
        *(nodes["s1"], op("Relu", ["s1"], ["s1r"]), nodes["s2"]),
        op("Mul", ["t2r", "s2"], ["product"]),
        op("ReduceSum", ["product", "channels"], ["likeness"], keepdims=1),
        op("Mul", ["t2r", "likeness"], ["weighted"]),
        *(nodes["d1"], op("Relu", ["d1"], ["d1r"]), nodes["d2"]),
        op("Squeeze", ["d2", "channels"], ["map"]),
        op("ReduceMax", ["map", "places"], ["score"], keepdims=0),
    ]
    value = helper.make_tensor_value_info
    ends = [value("map", TensorProto.FLOAT, ["batch", 8, 8]), value("score", TensorProto.FLOAT, ["batch"])]
    graph = helper.make_graph(order, "small", [value("panels", TensorProto.FLOAT, ["batch", 2, 8, 8])], ends, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


def panels(count: int = 3, channels: int = 2, side: int = 8) -> list[NDArray[np.float32]]:
    return list(np.random.default_rng(0).random((count, channels, side, side), dtype=np.float32))


def answer(network: bytes, batch: NDArray[np.float32]) -> NDArray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["map"], {"panels": batch})[0])


def types(network: bytes) -> tuple[dict[str, int], list]:
    """Element type of every tensor, and the nodes."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(network), strict_mode=True)
    known = (*model.graph.value_info, *model.graph.output, *model.graph.input)
    found = {each.name: each.type.tensor_type.elem_type for each in known}
    return found | {each.name: each.data_type for each in model.graph.initializer}, list(model.graph.node)


def test_the_rule_parts_trunks_from_blend_and_comparison() -> None:
    graph = onnx.load_from_string(small()).graph
    assert trunks(wiring(graph)) == {"t1", "t1r", "t2", "s1", "s1r", "s2", "d1", "d1r", "d2"}


def test_the_shipped_recipes_convolutions_are_all_in_and_its_comparison_is_out() -> None:
    wired = wiring(onnx.load(DEMO).graph)
    low = trunks(wired)
    assert all(key(node) in low for node in wired.nodes if node.op_type in CONVOLUTIONS)
    inside = {node.op_type for node in wired.nodes if key(node) in low}
    assert inside == {"Conv", "Relu", "Add", "MaxPool"}


def computed_here(form: str) -> bool:
    """ONNX Runtime has no bf16 convolution; where sums of products saturate, only weights of 7 bits give their sum."""
    return form not in ("bf16", "fp8") and not (cpu.saturates() and form in ("int8", "int8-sparing"))


@pytest.mark.parametrize("form", graphs.FORMS)
def test_a_derived_graph_is_valid_repeatable_and_near(form: str) -> None:
    derived = graphs.derive(small(), form, panels())
    onnx.checker.check_model(onnx.load_from_string(derived), full_check=True)
    assert derived == graphs.derive(small(), form, panels())
    assert derived != small()
    if computed_here(form):
        batch = np.stack(panels())
        before, after = answer(small(), batch), answer(derived, batch)
        assert np.abs(after - before).max() < 0.1 * np.ptp(before)


def test_numbers_of_eight_bits_are_near() -> None:
    """As ONNX Runtime computes them where it joins no nodes: it has no convolution of such."""
    import onnxruntime as ort

    derived, batch = graphs.derive(small(), "fp8", panels()), np.stack(panels())
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(derived, options, providers=["CPUExecutionProvider"])
    after = np.asarray(session.run(["map"], {"panels": batch})[0])
    before = answer(small(), batch)
    assert 0 < np.abs(after - before).max() < 0.15 * np.ptp(before)


@pytest.mark.parametrize("form", graphs.HALVES)
def test_half_precision_is_of_the_trunks_alone(form: str) -> None:
    half = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[form]
    found, nodes = types(graphs.derive(small(), form))
    for node in (each for each in nodes if each.op_type != "Cast"):
        inside = node.output[0].endswith("/half")
        expected = half if inside else TensorProto.FLOAT
        assert found[node.output[0]] == expected, node.output[0]
        assert inside == (node.op_type in ("Conv", "Relu") and node.output[0] not in ("blend", "t2r")), node.output[0]
    assert found["panels"] == found["map"] == found["score"] == TensorProto.FLOAT


@pytest.mark.parametrize("form", INT8)
def test_integers_stand_around_the_trunks_alone(form: str) -> None:
    found, nodes = types(graphs.derive(small(), form, panels()))
    kind = TensorProto.INT8 if "signed" in form else TensorProto.UINT8
    made = {name: node for node in nodes for name in node.output}
    for node in nodes:
        if node.op_type == "QuantizeLinear":
            assert found[node.output[0]] == kind
        if node.op_type == "Conv":
            whole = {"blend"} if "sparing" in form else {"blend", "s2"}
            assert (node.input[1] not in made) == (node.output[0] in whole)
            assert node.output[0] == "blend" or made[node.input[0]].op_type == "DequantizeLinear"
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            assert found[node.output[0]] == TensorProto.FLOAT
    assert not any(name.startswith("blend.w/") for name in found)
    weights = [value for name, value in found.items() if name.endswith(".w/integers")]
    assert weights == [TensorProto.INT8] * (6 if "sparing" in form else 5)


def test_sparing_rounds_less() -> None:
    rounded = {}
    for form in ("int8", "int8-sparing"):
        nodes = onnx.load_from_string(graphs.derive(small(), form, panels())).graph.node
        rounded[form] = {node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    assert rounded["int8"] - rounded["int8-sparing"] == {"t2", "d2"}


def test_seven_bits_keep_to_their_range() -> None:
    for form, largest in (("int8", 127), ("int8-7", 63)):
        constants = onnx.load_from_string(graphs.derive(small(), form, panels())).graph.initializer
        integers = [numpy_helper.to_array(each) for each in constants if each.name.endswith(".w/integers")]
        assert {int(np.abs(each).max()) for each in integers} == {largest}
        steps = [numpy_helper.to_array(each) for each in constants if each.name.endswith(".w/step")]
        assert sorted(len(each) for each in steps) == [1, 4, 4, 4, 4]


def test_ranges_are_those_of_the_panels() -> None:
    """What is far outside them is cut, what is inside is kept."""
    derived = graphs.derive(small(), "int8", panels())
    far = np.stack(panels()) * 10
    assert np.abs(answer(derived, far)).max() < np.abs(answer(small(), far)).max() / 3


def test_what_cannot_be_derived_is_refused() -> None:
    with pytest.raises(UsageError, match="no graph 'int4'"):
        graphs.derive(small(), "int4")
    with pytest.raises(EngineError, match="no golden ones"):
        graphs.derive(small(), "int8")
    with pytest.raises(EngineError, match="not finite"):
        graphs.derive(small(), "int8", [np.full((2, 8, 8), np.nan, np.float32)])
    for damaged in (b"", b"nonsense", small()[:100]):
        with pytest.raises(EngineError, match="no ONNX graph"):
            graphs.derive(damaged, "fp16")


def test_a_weight_beyond_half_precision_is_refused() -> None:
    model = onnx.load_from_string(small())
    for each in model.graph.initializer:
        if each.name == "t1.w":
            each.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(each) * np.float32(FAR * 10), "t1.w"))
    with pytest.raises(EngineError, match="take bf16"):
        graphs.derive(model.SerializeToString(), "fp16")
    graphs.derive(model.SerializeToString(), "bf16")


def test_a_large_blend_stays_what_it_is() -> None:
    """It is no part of the trunks: neither its weights nor its place in front make it half precision."""
    found, _ = types(graphs.derive(small(scale=FAR), "fp16"))
    assert found["blend.w"] == TensorProto.FLOAT


def test_deriving_without_onnx_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "engines.graphs.rewriting", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'takt\[int8\]'"):
        graphs.derive(small(), "fp16")


def test_operators_in_integers_are_among_those_that_keep_channels_apart() -> None:
    from engines.graphs.region import SEPARATE

    assert set(INTEGER) <= {*SEPARATE, *CONVOLUTIONS}
