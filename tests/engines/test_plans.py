"""Compiling for a card without one: what is kept, what is refused, in one line each."""

from pathlib import Path

import numpy as np
import pytest

from engines import plans
from engines import recipe as recipes
from engines.errors import EngineError
from engines.runtimes import Source

trt = pytest.importorskip("tensorrt_rtx", reason="needs the extra [gpu-build]")
SMALL = Path(__file__).parents[2] / "pipeline/bench/recipe"


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source("network.onnx", recipes.load(SMALL).read("network.onnx"), kept=tmp_path)


def test_a_plan_is_compiled_once_for_each_card_library_and_batch(source: Source) -> None:
    first = plans.obtained(trt, "rtx 1", source, 4, "card sm_90")
    again = plans.obtained(trt, "rtx 1", source, 4, "card sm_90")
    assert first.fresh and not again.fresh and first.content == again.content
    for library, batch, card in (("rtx 2", 4, "card sm_90"), ("rtx 1", 5, "card sm_90"), ("rtx 1", 4, "card sm_80")):
        assert plans.obtained(trt, library, source, batch, card).fresh


def test_a_plan_that_was_cut_or_changed_is_compiled_anew(source: Source) -> None:
    whole = plans.obtained(trt, "rtx 1", source, 2, "card")
    assert source.kept is not None
    (file,) = (source.kept / "plans").glob("*.plan")
    content = file.read_bytes()
    for damaged in (b"", content[:40], content[:-1], content[:100] + bytes([content[100] ^ 1]) + content[101:]):
        file.write_bytes(damaged)
        found = plans.obtained(trt, "rtx 1", source, 2, "card")
        assert found.fresh and len(found.content) == len(whole.content)


def test_a_network_that_is_open_behind_the_batch_is_refused() -> None:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "side"]) for name in ("panels", "map")]
    graph = helper.make_graph([helper.make_node("Relu", ["panels"], ["map"])], "open", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(EngineError, match=r"panels: shape .* is open behind the batch; teach again"):
        plans.compiled(trt, Source("open", model.SerializeToString()), 4, {})


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_damaged_graph_is_one_line(source: Source, share: float) -> None:
    damaged = Source("network.onnx", source.network[: int(share * len(source.network))])
    with pytest.raises(EngineError, match=r"network\.onnx") as raised:
        plans.compiled(trt, damaged, 4, {})
    assert "\n" not in str(raised.value)


def test_one_profile_for_the_usual_batch_and_one_for_the_largest() -> None:
    assert plans.profiles(1) == ((1, 1),) and plans.profiles(2) == ((1, 2),)
    for largest in range(3, 70):
        ends = plans.profiles(largest)
        covered = np.concatenate([np.arange(low, high + 1) for low, high in ends])
        np.testing.assert_array_equal(covered, np.arange(1, largest + 1))
