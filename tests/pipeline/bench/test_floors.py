"""Work of a graph counted by hand, rates of this machine, energy counters and clocks."""

from pathlib import Path

import pytest

from engines.errors import EngineError
from pipeline.bench import floors
from pipeline.bench.clocks import Clocks, told
from pipeline.bench.energy import Meter, cpu_counters
from pipeline.bench.floors import Rates, floor_of

onnx = pytest.importorskip("onnx", reason="needs the extra [int8] or [teach]")
HEIGHT, WIDTH, OUT, IN = 8, 6, 4, 3


def convolution(groups: int = 1, known: bool = True) -> bytes:
    """A 3 x 3 convolution of [batch, 3, 8, 6] to four channels, or in three groups to three."""
    from onnx import TensorProto, helper, numpy_helper

    numpy = pytest.importorskip("numpy")
    out = OUT if groups == 1 else IN
    weights = numpy_helper.from_array(numpy.ones((out, IN // groups, 3, 3), numpy.float32), "weights")
    operator = "Conv" if known else "Softmax"
    inputs, options = (["a", "weights"], {"pads": [1, 1, 1, 1], "group": groups}) if known else (["a"], {})
    node = helper.make_node(operator, inputs, ["b"], **options)
    value = helper.make_tensor_value_info
    ends = [value("a", TensorProto.FLOAT, ["batch", IN, HEIGHT, WIDTH])]
    made = [value("b", TensorProto.FLOAT, ["batch", out if known else IN, HEIGHT, WIDTH])]
    graph = helper.make_graph([node], "one", ends, made, [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


@pytest.mark.parametrize(("groups", "products"), [(1, OUT * IN * 9), (3, IN * 9)])
def test_operations_are_two_for_each_product_of_an_output_pixel(groups: int, products: int) -> None:
    from engines.graphs.work import work

    found = work(convolution(groups))
    assert found.operations == 2 * HEIGHT * WIDTH * products
    assert found.moved == 4 * HEIGHT * WIDTH * (IN + (OUT if groups == 1 else IN))
    assert found.weights == 4 * 9 * (OUT * IN if groups == 1 else IN)


def test_matrices_have_the_work_that_their_size_says_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from engines.graphs.work import matrices, work

    assert work(matrices(16, 3)).operations == 2 * 3 * 16**3
    monkeypatch.setattr(floors, "SIZE", 64)
    monkeypatch.setattr(floors, "COPY_MB", 1)
    found = floors.rates("onnxruntime", "fp32", 1)
    assert found.operations and found.operations > 1e6 and found.bytes > 1e6 and found.why == ""


def test_a_precision_without_a_matrix_rate_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "COPY_MB", 1)
    found = floors.rates("onnxruntime", "int8", 1)
    assert found.operations is None and "int8" in found.why


def test_the_floor_is_the_larger_of_the_two() -> None:
    slow_products = floor_of(convolution(), 2, Rates(operations=1e6, bytes=1e12))
    assert slow_products.ms == slow_products.compute_ms == pytest.approx(1000 * 2 * 2 * 48 * 108 / 1e6)
    slow_copies = floor_of(convolution(), 1, Rates(operations=1e15, bytes=1e6))
    assert slow_copies.ms == slow_copies.bytes_ms == pytest.approx(1000 * (4 * 48 * 7 + 432) / 1e6)
    assert floor_of(convolution(), 1, Rates(None, 1e9)).ms is None


def test_a_graph_without_products_has_no_floor() -> None:
    from engines.graphs.work import work

    with pytest.raises(EngineError, match="no product"):
        work(convolution(known=False))
    assert floor_of(convolution(known=False), 1, Rates(1e9, 1e9)).ms is None


def package(folder: Path, number: int, energy_uj: str, name: str = "package-0") -> Path:
    place = folder / f"intel-rapl:{number}"
    place.mkdir(exist_ok=True)
    for file, text in {"name": name, "energy_uj": energy_uj, "max_energy_range_uj": "10000000"}.items():
        (place / file).write_text(f"{text}\n")
    return place


def test_a_processors_energy_is_read_and_its_counter_may_begin_anew(tmp_path: Path) -> None:
    package(tmp_path, 0, "9000000")
    (tmp_path / "intel-rapl:0:0").mkdir()
    meter = Meter(dict(cpu_counters(tmp_path)))
    package(tmp_path, 0, "9500000")
    assert meter.used()["cpu package-0"]["joules"] == pytest.approx(0.5)
    package(tmp_path, 0, "1000000")
    assert meter.used()["cpu package-0"]["joules"] == pytest.approx(2.0)


def test_a_machine_that_counts_no_energy_says_nothing(tmp_path: Path) -> None:
    package(tmp_path, 0, "no number")
    assert cpu_counters(tmp_path) == {} == cpu_counters(tmp_path / "nowhere")
    assert Meter({}).used() == {}


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ((1010.0, 510.0, 410.0), []),
        ((1010.05, 510.0, 410.0), []),
        ((1070.0, 510.0, 410.0), ["the wall clock was set by +60.0 s"]),
        ((950.0, 510.0, 410.0), ["the wall clock was set by -60.0 s"]),
        ((1040.0, 540.0, 410.0), ["the machine slept for 30.0 s"]),
    ],
)
def test_a_clock_that_jumps_is_told_in_one_line(after: tuple[float, float, float], said: list[str]) -> None:
    found = list(told((1000.0, 500.0, 400.0), after))
    assert [text.startswith(begin) for text, begin in zip(found, said, strict=True)] == [True] * len(said)


def test_clocks_that_run_evenly_say_nothing() -> None:
    assert list(Clocks().said()) == []
