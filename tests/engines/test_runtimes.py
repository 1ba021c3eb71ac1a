"""Every runtime in every precision keeps the one contract; the suite lists the folder."""

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import copytree

import barely_taught
import numpy as np
import pytest
from numpy.typing import NDArray

from engines import plans, runtimes
from engines import recipe as recipes
from engines.build import derive, engine_key, source_of
from engines.derivation import answers, change, golden
from engines.detector import open_detector
from engines.errors import DeviceError, EngineError, UsageError
from engines.gather import Gather
from engines.plugins import kinds
from engines.recipe import NETWORK, WEIGHTS, Recipe
from engines.runtimes import Network, Source

DEMO = Path(__file__).parents[2] / "pipeline/demo/recipe"
MAX_BATCH = 4
LIBRARIES = {"pytorch": "torch", "torch_cuda": "torch"}
SCORE_ERROR = {
    "fp32": 1e-4,
    "fp16": 0.01,
    "bf16": 0.05,
    "int8": 0.15,
    "fp8": 0.15,
}  # relative, nearest to the limit
MAP_ERROR = {"fp32": 1e-4, "fp16": 0.01, "bf16": 0.05, "int8": 0.25, "fp8": 0.25}  # of the maps' range
ON_CARDS = ("tensorrt", "tensorrt_rtx", "torch_cuda")  # batches of another size may round otherwise there
ROUNDING = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 1e-2, "int8": 2e-2, "fp8": 2e-2}


def engines() -> list[tuple[str, str]]:
    """Runtimes and precisions; those whose library is missing stay, and are skipped with the reason."""
    found = []
    for kind in kinds("engines.runtimes"):
        try:
            found += [(kind, precision) for precision in runtimes.load(kind, "fp32").PRECISIONS]
        except UsageError:
            found.append((kind, "fp32"))
    return found


@cache
def demo() -> Recipe:
    return recipes.load(DEMO)


@cache
def derived(kind: str, precision: str) -> bytes | None:
    return derive(demo(), kind, precision)


@cache
def tiles() -> NDArray[np.float32]:
    """Golden panels as the network takes them: two good ones, two defective ones."""
    manifest = demo().manifest
    gather = Gather(len(manifest.channels), manifest.geometry, manifest.dtype)
    chosen = [one for index, one in enumerate(demo().golden) if index in (0, 5, 8, 13)]
    batch = np.empty((len(chosen), *gather.shape), np.float32)
    for one, tile in zip(chosen, batch, strict=True):
        gather(one.frames, tile)
    return batch


@dataclass(frozen=True)
class Engine:
    kind: str
    precision: str

    def source(self) -> Source:
        return source_of(demo(), self.kind, self.precision, derived(self.kind, self.precision))

    def same(self, found: NDArray, expected: NDArray) -> None:
        """To the last bit; on cards but for rounding, since a batch of another size may take other kernels."""
        tolerance = ROUNDING[self.precision] if self.kind in ON_CARDS else 0
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())

    def opened(self, source: Source | None = None, threads: int = 1) -> AbstractContextManager[Network]:
        module = runtimes.load(self.kind, self.precision)
        return module.open_network(source or self.source(), self.precision, threads, MAX_BATCH)


@pytest.fixture(params=engines(), ids="-".join)
def engine(request: pytest.FixtureRequest) -> Engine:
    kind, precision = request.param
    pytest.importorskip("onnx", reason="needs the extra [int8]")
    if missing := lacking(kind, precision):
        pytest.skip(missing)
    return Engine(kind, precision)


def lacking(kind: str, precision: str) -> str:
    """What an engine needs that is not here, a library or a card; empty where it can be opened."""
    try:
        runtimes.load(kind, precision).device()
    except (UsageError, DeviceError) as missing:
        return str(missing)
    return ""


@pytest.fixture
def network(engine: Engine) -> Iterator[Network]:
    with engine.opened() as opened:
        yield opened


def run(network: Network, batch: NDArray[np.float32]) -> dict[str, NDArray]:
    return {name: each.copy() for name, each in network.run({"panels": batch}).items()}


def test_shapes_and_types_are_those_of_the_recipe(network: Network) -> None:
    assert dict(network.inputs) == {"panels": runtimes.TensorSpec(tiles().shape[1:], "float32")}
    assert {name: (spec.shape, spec.dtype) for name, spec in network.outputs.items()} == {
        "map": (demo().golden[0].map.shape, "float32"),
        "score": ((), "float32"),
    }
    answer = run(network, tiles()[:3])
    assert answer["map"].shape == (3, *demo().golden[0].map.shape) and answer["score"].shape == (3,)


def test_a_row_answers_as_it_does_alone_wherever_it_stands(engine: Engine, network: Network) -> None:
    alone = [run(network, tiles()[row : row + 1]) for row in range(len(tiles()))]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 2, 0]):
        answer = run(network, np.ascontiguousarray(tiles()[order]))
        for row, panel in enumerate(order):
            for name, each in alone[panel].items():
                engine.same(answer[name][row], each[0])
    assert len({float(each["score"][0]) for each in alone}) == len(alone)


def test_the_same_batch_gives_the_same_answer(engine: Engine) -> None:
    found = []
    for _ in range(2):
        with engine.opened() as network:
            found += [run(network, tiles()) for _ in range(2)]
    for each in found[1:]:
        np.testing.assert_array_equal(each["map"], found[0]["map"])
        np.testing.assert_array_equal(each["score"], found[0]["score"])


def test_threads_change_nothing_but_rounding(engine: Engine) -> None:
    with engine.opened(threads=1) as one, engine.opened(threads=2) as two:
        np.testing.assert_allclose(run(one, tiles())["score"], run(two, tiles())["score"], rtol=1e-5)


def test_what_is_not_written_is_nan(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    assert np.isfinite(run(network, tiles())["score"]).all()
    monkeypatch.setattr(network, "_infer", lambda tensors, outputs: None)
    assert all(np.isnan(each).all() for each in run(network, tiles()).values())


def test_nan_in_a_panel_never_becomes_a_passing_score(engine: Engine, network: Network) -> None:
    sick = tiles().copy()
    sick[1] = np.nan
    score = run(network, sick)["score"]
    assert not score[1] <= demo().manifest.limits.image or score[1] < demo().manifest.limits.low
    engine.same(score[0], run(network, tiles())["score"][0])


def test_tensors_that_do_not_fit_are_refused(network: Network) -> None:
    good = tiles()
    wrong = (good[:, :, :-1], good.astype(np.float64), good[:0], np.repeat(good, 2, axis=0), good[:, ::-1], good[0])
    for each in wrong:
        with pytest.raises(EngineError, match="does not fit"):
            network.run({"panels": each})
    for names in ({}, {"frames": good}, {"panels": good, "more": good}):
        with pytest.raises(EngineError, match="takes panels"):
            network.run(names)
    assert np.isfinite(run(network, good)["score"]).all()


def test_leaving_frees_the_network(engine: Engine) -> None:
    with engine.opened() as network:
        run(network, tiles())
        held = weakref.ref(vars(network)["_infer"])
        assert held() is not None
    assert held() is None
    with pytest.raises(EngineError, match="closed"):
        network.run({"panels": tiles()})


def test_a_damaged_source_is_one_clear_line(engine: Engine, tmp_path: Path) -> None:
    whole = engine.source()
    for keep in (0, 10, 0.5, 0.99):
        damaged = _damaged(whole, keep, tmp_path / str(keep))
        with pytest.raises(EngineError) as raised, engine.opened(damaged):
            pass
        assert "\n" not in str(raised.value) and damaged.name in str(raised.value)


def _damaged(source: Source, keep: float, folder: Path) -> Source:
    """Cut after `keep` bytes, or after that share."""

    def cut(content: bytes) -> bytes:
        return content[: int(keep if keep >= 1 else keep * len(content))]

    if source.network:
        return Source(source.name, cut(source.network), source.recipe)
    copytree(DEMO, folder)
    (folder / WEIGHTS).write_bytes(cut((folder / WEIGHTS).read_bytes()))
    facts = {name: value for name, value in demo().manifest if name not in ("format", "files")}
    return Source(str(folder), recipe=recipes.write(folder, facts))


def test_an_unknown_operator_is_one_clear_line(engine: Engine) -> None:
    from onnx import TensorProto, helper

    if not engine.source().network:
        pytest.skip("reads no graph")
    value = helper.make_tensor_value_info
    ends = [value(name, TensorProto.FLOAT, ["batch", 2]) for name in ("panels", "map")]
    node = helper.make_node("Abracadabra", ["panels"], ["map"], domain="nowhere")
    graph = helper.make_graph([node], "unknown", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("nowhere", 1)], ir_version=10)
    source = Source("unknown", model.SerializeToString())
    with pytest.raises(EngineError, match="Abracadabra") as raised, engine.opened(source):
        pass
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", kinds("engines.runtimes"))
def test_a_missing_library_names_the_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = LIBRARIES.get(kind, kind)
    asked = {"torch": r"takt\[teach\]", "onnxruntime": "takt"}.get(library, rf"takt\[{kind}\]")
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"engines.runtimes.{kind}", raising=False)
    with pytest.raises(UsageError, match=f"pip install '{asked}'"):
        runtimes.load(kind, "fp32")


def test_every_engine_has_a_key_of_its_own() -> None:
    hashes = [
        engine_key(demo(), kind, precision, "d" if derived(kind, precision) else "").hash
        for kind, precision in _loadable()
    ]
    assert len(set(hashes)) == len(hashes)


def test_golden_answers_are_the_references(engine: Engine) -> None:
    """Maps and scores stay near those of float32; where nothing is rounded, no verdict changes."""
    made = derived(engine.kind, engine.precision)
    with open_detector(demo(), threads=1) as reference:
        before = answers(reference, golden(demo()))
    with open_detector(demo(), engine.kind, engine.precision, 1, derived=made, proving=False) as measured:
        found = change(before, answers(measured, golden(demo())))
    assert found.score_error_relative <= SCORE_ERROR[engine.precision]
    assert found.map_error <= MAP_ERROR[engine.precision]
    assert found.auroc_before == found.auroc_after == 1.0
    assert engine.precision != "fp32" or not found.flipped


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=pytest.mark.slow if name != "mkd" else ()) for name in barely_taught.METHODS]
)
def test_every_method_runs_on_every_engine(method: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra [teach]")
    recipe, error = barely_taught.write_recipe(tmp_path / method, method)
    assert error < 1e-4, "the exported network answers as the taught one"
    batch = np.random.default_rng(1).random(
        (2, barely_taught.CHANNELS, barely_taught.SIDE, barely_taught.SIDE), dtype=np.float32
    )
    reference: NDArray | None = None
    for kind, precision in (("onnxruntime", "fp32"), *_loadable()):
        source = source_of(recipe, kind, precision, derive(recipe, kind, precision))
        with runtimes.load(kind, precision).open_network(source, precision, 1, 2) as network:
            both, last = run(network, batch)["score"], run(network, batch[1:])["score"]
        assert np.isfinite(both).all() and both[1] == last[0], f"{kind} {precision}"
        reference = both if reference is None else reference
        if precision == "fp32":
            np.testing.assert_allclose(both, reference, rtol=1e-4, err_msg=kind)
        else:
            assert (np.abs(both - reference) < 0.5 * np.abs(reference)).all(), f"{kind} {precision}: {both} {reference}"


@pytest.mark.slow
@pytest.mark.parametrize("method", barely_taught.METHODS)
def test_every_method_compiles_without_a_card(method: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra [teach]")
    pytest.importorskip("tensorrt_rtx", reason="needs the extra [gpu-build]")
    recipe, _ = barely_taught.write_recipe(tmp_path / method, method)
    for precision in ("fp32", "fp16", "int8"):
        compiles_without_a_card(recipe, precision)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "fp8"])
@pytest.mark.parametrize("folder", ["pipeline/demo/recipe", "pipeline/bench/recipe"])
def test_recipes_that_ship_compile_without_a_card(folder: str, precision: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra [gpu-build]")
    pytest.importorskip("onnx", reason="needs the extra [int8]")
    compiles_without_a_card(recipes.load(DEMO.parents[2] / folder), precision)


def compiles_without_a_card(recipe: Recipe, precision: str) -> None:
    """By TensorRT-RTX: it parses the graph and makes a plan of it."""
    runtime = runtimes.load("tensorrt_rtx", precision)
    graph = derive(recipe, "tensorrt_rtx", precision)
    source = source_of(recipe, "tensorrt_rtx", precision, graph)
    plan = plans.compiled(runtime.LIBRARY, source, 9, {})
    assert len(plan) > 10_000, f"{recipe.path} {precision}"


def _loadable() -> Iterator[tuple[str, str]]:
    yield from (each for each in engines() if not lacking(*each))


def test_network_files_are_what_their_names_say(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe()
    assert derive(recipe, "onnxruntime", "fp32") is None
    assert source_of(recipe, "onnxruntime", "fp32").network == recipe.network.read_bytes() == recipe.read(NETWORK)
