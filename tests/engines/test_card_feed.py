"""Panels past the host answer as by the host, to the last bit: tables, tiles, light, golden row, lanes and padding."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processor_card import OnProcessor, kernels_here
from test_tiled_detector import ANY, CHANNELS, tiled

from engines import card_feed, detector, kernels
from engines import recipe as recipes
from engines.build import source_of
from engines.detector import Detector, open_detector
from engines.errors import EngineError
from engines.feeding import overlapped
from engines.gather import Gather
from engines.recipe import Recipe
from engines.runtimes import onnxruntime
from engines.station import IDENTITY, StationCalibration

DEMO = Path(__file__).parents[2] / "pipeline/demo/recipe"
Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return kernels_here(tmp_path_factory.mktemp("kernel"))


@contextmanager
def on_card(
    library: ctypes.CDLL, recipe: Recipe, max_batch: int, calibration: StationCalibration = IDENTITY
) -> Iterator[tuple[Detector, OnProcessor]]:
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(kernels, "cubin", lambda arch, kept=None: b"")
        source, manifest = source_of(recipe, "onnxruntime", "fp32"), recipe.manifest
        inner = stack.enter_context(onnxruntime.open_network(source, "fp32", 1, max_batch + 1))
        network = OnProcessor(library, inner, max_batch + 1)
        gather = Gather(len(manifest.channels), manifest.geometry, manifest.dtype)
        feed = stack.enter_context(card_feed.opened(network, gather, calibration, manifest.dtype, None))  # type: ignore[arg-type]
        yield Detector(recipe, network, "e", calibration, max_batch, feed=feed), network
    assert not network.device.taken, "memory was not given back"


def same(found: Sequence[detector.Finding], expected: Sequence[detector.Finding]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.score, one.passed, one.problem) == (other.score, other.passed, other.problem)
        np.testing.assert_array_equal(one.map, other.map)


def test_whole_panels_of_any_size_and_golden_ones(library: ctypes.CDLL) -> None:
    demo = recipes.load(DEMO)
    panels = [one.frames for one in demo.golden[:3]] + [np.ascontiguousarray(demo.golden[9].frames[:, :150, :140])]
    with on_card(library, demo, 3) as (card, network), open_detector(demo, threads=1, max_batch=3) as host:
        same(card.inspect(panels), host.inspect(panels))
        card.prove()
        goldens = [one.frames for one in demo.golden[6:10]]
        same([one for one, _ in card.inspect_golden(goldens)], [one for one, _ in host.inspect_golden(goldens)])
        card.warm(1)
        assert card.network_calls == 2 + 2 + 2 and all(lane.computed for lane in network.lanes)


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(20, 150), st.integers(20, 150)), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
    dark=st.booleans(),
)
def test_tiles_of_several_panels_share_batches(
    library: ctypes.CDLL, tiled_recipe: Recipe, sizes: list[tuple[int, int]], seed: int, dark: bool
) -> None:
    random = np.random.default_rng(seed)
    panels = [random.integers(0, 255, (CHANNELS, *size), dtype=np.uint8) for size in sizes]
    if dark:  # tiles in which a channel that lives shows nothing
        for panel in panels:
            panel[0, : panel.shape[1] // 2] = 0
    with on_card(library, tiled_recipe, 5) as (card, _), open_detector(tiled_recipe, threads=1, max_batch=5) as host:
        same(card.inspect(panels), host.inspect(panels))
        assert card.network_calls == host.network_calls


@pytest.fixture(scope="module")
def tiled_recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    pytest.importorskip("onnx", reason="needs the extra [int8]")
    from toy_recipe import facts, write_network

    def make(channels: int = CHANNELS, **changes: object) -> Recipe:
        folder = tmp_path_factory.mktemp("tiled")
        write_network(folder / "network.onnx", channels)
        return recipes.write(folder, facts(channels) | changes)

    return tiled(make)


def test_the_light_is_corrected_on_the_card(library: ctypes.CDLL, tiled_recipe: Recipe) -> None:
    random = np.random.default_rng(3)
    panel = random.integers(0, 255, (CHANNELS, 70, 90), dtype=np.uint8)
    calibration = StationCalibration(random.uniform(0.2, 3, panel.shape).astype(np.float32))
    with (
        on_card(library, tiled_recipe, 4, calibration) as (card, network),
        open_detector(tiled_recipe, threads=1, max_batch=4, calibration=calibration) as host,
    ):
        same(card.inspect([panel]), host.inspect([panel]))
        ring = np.zeros((2, panel.size), np.uint8)
        card.pin(ring)
        ring[1] = panel.ravel()
        in_ring = ring[1].reshape(panel.shape)
        same(card.inspect([in_ring]), host.inspect([panel]))
        copied = [address for lane in network.lanes for address in lane.stream.copied_in]
        assert copied.count(in_ring.ctypes.data) == 1  # by the card itself, and once for all its tiles


def test_room_for_panels_is_used_again(library: ctypes.CDLL, tiled_recipe: Recipe) -> None:
    panel = np.full((CHANNELS, 100, 120), 50, np.uint8)
    with on_card(library, tiled_recipe, 4) as (card, network):
        card.inspect([panel, panel])
        taken = len(network.device.taken)
        card.inspect([panel, panel])
        card.inspect([panel])
        assert len(network.device.taken) == taken


def test_copies_are_stated_apart(library: ctypes.CDLL, tiled_recipe: Recipe) -> None:
    panel = np.full((CHANNELS, 100, 120), 50, np.uint8)
    with on_card(library, tiled_recipe, 4) as (card, network), open_detector(tiled_recipe, max_batch=4) as host:
        taken = len(network.device.taken)
        found = card.device_copies_ms([panel, panel])
        assert set(found) == {"device_in", "device_out"} and min(found.values()) > 0
        assert len(network.lanes[0].stream.copied_in) >= 2 and network.lanes[0].copied_out
        card.inspect([panel])
        assert card.laps.copies_ns["host_in"] > 0  # this panel lies in no memory that the card can read
        room = len(network.device.taken)
        card.device_copies_ms([panel])
        assert room >= taken and len(network.device.taken) == room  # what it took is used again
        assert host.device_copies_ms([panel]) == {}


def test_an_overlap_keeps_order_and_leaves_nothing_under_way() -> None:
    log: list[tuple[str, int]] = []

    def start(item: int) -> int:
        if item == 3:
            raise EngineError("start")
        log.append(("start", item))
        return item

    def finish(item: int) -> int:
        log.append(("finish", item))
        return -item

    assert list(overlapped(start, finish, [0, 1, 2], 2)) == [0, -1, -2]
    assert log == [("start", 0), ("start", 1), ("finish", 0), ("start", 2), ("finish", 1), ("finish", 2)]
    log.clear()
    with pytest.raises(EngineError):
        list(overlapped(start, finish, [1, 2, 3], 2))
    assert {("finish", 1), ("finish", 2)} <= set(log)


def test_tiles_are_of_any_size() -> None:
    assert ANY.panel is None  # what these tests rest on


def test_a_golden_defect_that_was_not_seen_counts_though_the_next_batch_saw_it(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = recipes.load(DEMO)
    with on_card(library, demo, 1) as (card, network):
        inner, runs = network.lanes[0].finish, iter([True])

        def sick(rows: int) -> Any:
            answer = dict(inner(rows))
            return {**answer, "score": answer["score"] * 0} if next(runs, False) else answer

        monkeypatch.setattr(network.lanes[0], "finish", sick)
        panels = [one.frames for one in demo.golden[:3]]  # three batches, two under way at once
        with pytest.raises(EngineError, match="golden defect"):
            card.inspect(panels)
        assert not any(lane.under_way for lane in network.lanes)
        with pytest.raises(EngineError, match="has not proven itself since"):
            card.inspect(panels)
        card.prove()
        assert len(card.inspect(panels)) == 3
