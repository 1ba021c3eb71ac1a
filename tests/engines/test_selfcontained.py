"""A network that takes values from a file beside the process reaches no runtime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import recipe as recipes
from engines import selfcontained
from engines.build import derive, source_of
from engines.detector import open_detector
from engines.errors import EngineError
from engines.recipe import Recipe
from engines.selfcontained import INSIDE, MODEL, TENSOR

pytest.importorskip("onnx", reason="needs the extra [teach]")
import onnx
from onnx.external_data_helper import set_external_data

Make = Callable[..., Recipe]
DEMO = Path(__file__).parents[2] / "pipeline" / "demo" / "recipe" / "network.onnx"


def tensor(outside: bool) -> "onnx.TensorProto":
    made = onnx.numpy_helper.from_array(np.ones(4, np.float32), "w")
    if outside:
        set_external_data(made, "w.bin")
        made.ClearField("raw_data")
    return made


def in_a_node(outside: bool) -> "onnx.NodeProto":
    return onnx.helper.make_node("Constant", [], ["c"], value=tensor(outside))


def graph(nodes: list, initializers: list) -> "onnx.GraphProto":
    return onnx.helper.make_graph(nodes, "g", [], [], initializers)


def nested(outside: bool, depth: int = 3) -> "onnx.NodeProto":
    inner = in_a_node(outside)
    for _ in range(depth):
        inner = onnx.helper.make_node("If", ["x"], ["y"], then_branch=graph([inner], []), else_branch=graph([], []))
    return inner


def sparse(outside: bool) -> "onnx.GraphProto":
    made = graph([], [])
    made.sparse_initializer.add(values=tensor(outside), dims=[4])
    return made


def function(outside: bool) -> "onnx.ModelProto":
    model = onnx.helper.make_model(graph([], []))
    body = onnx.helper.make_function("d", "f", [], ["c"], [in_a_node(outside)], [])
    model.functions.append(body)
    return model


PLACES: dict[str, Callable[[bool], "onnx.ModelProto"]] = {
    "initializer": lambda outside: onnx.helper.make_model(graph([], [tensor(False), tensor(outside)])),
    "node": lambda outside: onnx.helper.make_model(graph([in_a_node(outside)], [])),
    "branch": lambda outside: onnx.helper.make_model(graph([nested(outside)], [])),
    "deep branch": lambda outside: onnx.helper.make_model(graph([nested(outside, 20)], [])),
    "sparse": lambda outside: onnx.helper.make_model(sparse(outside)),
    "function": function,
}


@pytest.mark.parametrize("place", PLACES)
def test_values_outside_are_found_wherever_they_are_told_of(place: str) -> None:
    selfcontained.check(PLACES[place](False).SerializeToString(), "network.onnx")
    with pytest.raises(EngineError, match=r"network\.onnx: has values in another file, which nobody has verified"):
        selfcontained.check(PLACES[place](True).SerializeToString(), "network.onnx")


def test_the_table_knows_every_way_to_a_tensor() -> None:
    """Held against the library's own description of the format."""
    ways: dict[str, dict[int, str]] = {}
    waiting = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        kind = waiting.pop()
        if kind.name in ways:
            continue
        inner = {field.number: field.message_type for field in kind.fields if field.message_type}
        ways[kind.name] = {number: message.name for number, message in inner.items()}
        waiting += inner.values()
    leading = {TENSOR}
    while more := {kind for kind in ways if leading & set(ways[kind].values())} - leading:
        leading |= more
    expected = {kind: {at: to for at, to in ways[kind].items() if to in leading} for kind in leading}
    assert expected | {TENSOR: {}} == INSIDE and MODEL in expected


def test_the_demos_network_holds_all_its_values() -> None:
    selfcontained.check(DEMO.read_bytes(), "network.onnx")


@pytest.mark.parametrize("cut", [1, 2, 100, 10_000])
def test_a_torn_file_is_one_line(cut: int) -> None:
    with pytest.raises(EngineError, match="is no whole ONNX file; teach again"):
        selfcontained.check(DEMO.read_bytes()[:-cut], "network.onnx")


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused_in_one_line(content: bytes) -> None:
    try:
        selfcontained.check(content, "x")
    except EngineError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_no_runtime_is_given_a_network_with_values_outside(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Sealed and signed as it may be: what it would run with nobody has seen."""
    recipe = make_recipe()
    network = onnx.load(recipe.network)
    network.graph.initializer.append(tensor(outside=True))
    recipe.network.write_bytes(network.SerializeToString())
    recipe = recipes.write(recipe.path, {name: value for name, value in recipe.manifest if name != "files"})
    (tmp_path / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineError, match="values in another file"):
        if precision == "fp32":
            open_detector(recipe).__enter__()
        else:
            derive(recipe, "onnxruntime", precision)
    if precision == "int8":
        with pytest.raises(EngineError, match="values in another file"):
            source_of(recipe, "onnxruntime", precision, recipe.read("network.onnx"))
