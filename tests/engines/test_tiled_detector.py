"""Panels in tiles: any size, each cell answered for once, borders as on the whole panel, dark fields, golden pieces."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from toy_recipe import SIZE, limits

from engines import recipe as recipes
from engines.decide import Problem
from engines.detector import Detector, GeometryError, open_detector
from engines.errors import EngineError, RecipeError
from engines.gather import SPECK, Gather
from engines.parity import judge, prove
from engines.recipe import Golden, Recipe, Tiles
from engines.sentinel import map_share
from engines.zones import TopMean, TopShare, Zones, whole

Make = Callable[..., Recipe]
RULE = (TopMean(cells=1, weight=0.5), TopShare(share=0.02, weight=0.5))
ANY = Tiles(height=SIZE, width=SIZE, halo=8, grid=4)
CHANNELS = 2


def tiled(make: Make, geometry: Tiles = ANY, **changes: Any) -> Recipe:
    return make(CHANNELS, geometry=geometry, score=RULE, **changes)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (CHANNELS, height, width), np.uint8)


def cells_of(frames: np.ndarray) -> np.ndarray:
    """What the toy network answers to a panel as a whole, its last pixels repeated up to full cells."""
    pad = [(0, 0), *((0, -side % 4) for side in frames.shape[1:])]
    mean = np.pad(frames, pad, "edge").astype(np.float64).mean(0) / 255
    return mean.reshape(mean.shape[0] // 4, 4, mean.shape[1] // 4, 4).mean((1, 3))


@pytest.fixture
def detector(make_recipe: Make) -> Any:
    with open_detector(tiled(make_recipe), threads=1, max_batch=3) as opened:
        yield opened


@pytest.mark.parametrize("size", [(1, 1), (20, 24), (32, 32), (33, 32), (50, 131), (200, 97)])
def test_a_panel_of_any_size_has_the_map_of_the_whole_panel(detector: Detector, size: tuple[int, int]) -> None:
    frames = noise(*size)
    (found,) = detector.inspect([frames])
    np.testing.assert_allclose(found.map, cells_of(frames), atol=1e-5)
    assert found.mask.shape == size
    assert found.score == pytest.approx(whole(found.map, RULE))


def test_tiles_of_several_panels_share_batches_and_come_back_to_their_panels(detector: Detector) -> None:
    panels = [noise(*size, seed) for seed, size in enumerate([(50, 60), (20, 20), (90, 40)])]
    before = detector.network_calls
    together = detector.inspect(panels)
    rows = sum(len(Gather(CHANNELS, ANY, "uint8").pieces(each)) for each in panels)
    assert detector.network_calls - before == -(-rows // 3)
    for frames, found in zip(panels, together, strict=True):
        np.testing.assert_allclose(found.map, cells_of(frames), atol=1e-5)


def test_a_defect_lies_where_it_is_on_a_panel_that_fills_no_last_cell(detector: Detector) -> None:
    frames = np.full((CHANNELS, 101, 203), 50, np.uint8)
    frames[:, 88:96, 180:196] = 250
    (found,) = detector.inspect([frames])
    (defect,) = found.defects
    assert (defect.x, defect.y) == pytest.approx((180, 88), abs=2)
    assert (defect.width, defect.height) == pytest.approx((16, 8), abs=3)


@given(some.integers(1, 150), some.integers(1, 150), some.sampled_from([0, 4, 8, 12]), some.randoms())
def test_every_cell_is_covered_once_and_a_lost_tile_is_no_pass(height: int, width: int, halo: int, random: Any) -> None:
    geometry = Tiles(height=SIZE, width=SIZE, halo=halo, grid=4)
    pieces = Gather(1, geometry, "uint8").pieces(np.ones((1, height, width), np.uint8))
    maps = [np.full((SIZE // 4, SIZE // 4), number, np.float32) for number in range(len(pieces))]
    joined = pieces.joined(maps)
    assert joined.covered is not None and joined.covered.all()
    assert joined.map.shape == (-(-height // 4), -(-width // 4)) and np.isfinite(joined.map).all()
    some_of = pieces.joined(maps[: random.randint(1, len(maps))])
    assert some_of.covered is not None
    np.testing.assert_array_equal(some_of.covered, np.isfinite(some_of.map))


def test_a_tile_that_nobody_answered_for_is_named(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = detector._finish

    def lossy(started: Any) -> Any:
        return inner(started)[:-1]

    monkeypatch.setattr(detector, "_finish", lossy)
    (found,) = detector.inspect([np.full((CHANNELS, 60, 60), 30, np.uint8)])
    assert not found.passed and found.problem is Problem.NOT_COVERED


def test_a_tile_without_a_number_is_no_pass(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = detector._finish
    monkeypatch.setattr(detector, "_finish", lambda started: [(map, float("nan")) for map, _ in inner(started)])
    (found,) = detector.inspect([np.full((CHANNELS, 60, 60), 30, np.uint8)])
    assert not found.passed and found.problem is Problem.NOT_FINITE


def test_zones_count_on_the_stitched_map(make_recipe: Make) -> None:
    frames = np.full((CHANNELS, 100, 200), 50, np.uint8)
    frames[:, :, 150:] = 250
    left = Zones(inspect=(((0, 0), (0.7, 0), (0.7, 1), (0, 1)),))
    sized = ANY.model_copy(update={"panel": (100, 200)})
    inside = tiled(make_recipe, sized, limits=limits().model_copy(update={"zones": left}))
    with open_detector(tiled(make_recipe)) as everywhere, open_detector(inside) as within:
        assert not everywhere.inspect([frames])[0].passed
        assert within.inspect([frames])[0].passed


def test_zones_without_the_panels_size_are_refused_where_the_recipe_is_made(make_recipe: Make) -> None:
    left = Zones(inspect=(((0, 0), (0.7, 0), (0.7, 1), (0, 1)),))
    with pytest.raises(RecipeError, match="zones of a recipe in tiles need the panels' size: teach again"):
        tiled(make_recipe, limits=limits().model_copy(update={"zones": left}))


def test_only_panels_of_the_taught_size_and_golden_pieces_are_inspected(make_recipe: Make) -> None:
    geometry = ANY.model_copy(update={"panel": (60, 80), "piece": (16, 24)})
    with open_detector(tiled(make_recipe, geometry)) as detector:
        assert len(detector.inspect([noise(60, 80)])) == len(detector.inspect_golden([noise(16, 24)])) == 1
        for other in (noise(60, 81), noise(16, 24)):
            with pytest.raises(GeometryError, match=r"taught were panels of 60 x 80 px"):
                detector.inspect([other])
        with pytest.raises(GeometryError, match=r"taught were panels of 16 x 24 px"):
            detector.inspect_golden([noise(60, 80)])


def test_a_piece_may_be_calmer_than_panels_but_not_silent(make_recipe: Make) -> None:
    geometry = ANY.model_copy(update={"panel": (60, 80), "piece": (16, 24)})
    with open_detector(tiled(make_recipe, geometry, limits=limits(low=0.1))) as detector:
        (panel,) = detector.inspect([np.full((CHANNELS, 60, 80), 20, np.uint8)])
        answers = detector.inspect_golden([np.full((CHANNELS, 16, 24), level, np.uint8) for level in (20, 10)])
    calm, silent = (finding for finding, _ in answers)
    assert [one.passed for one in (panel, calm, silent)] == [False, True, False]
    assert panel.problem is silent.problem is Problem.IMPLAUSIBLE


def test_a_dark_field_is_no_lost_channel_and_a_lost_one_stays_lost() -> None:
    frames = noise(64, 64)
    frames[0, :, :40] = 0
    tiles = list(Gather(CHANNELS, ANY, "uint8").rows(frames))
    assert all(tile[channel].max() > 0 for tile in tiles for channel in range(CHANNELS))
    dark = next(tile[0] for tile in tiles if tile[0].max() < 1 / 255)
    assert dark.max() == SPECK and np.count_nonzero(dark) == 1
    assert np.float16(SPECK) > 0
    frames[0] = 0
    assert all(not tile[0].any() for tile in Gather(CHANNELS, ANY, "uint8").rows(frames))


def mirrored(piece: np.ndarray) -> np.ndarray:
    """A golden piece over the whole of a tile, cell by cell as a mirror shows it."""
    rows, columns = (np.arange(SIZE) % (2 * side) for side in piece.shape[1:])
    rows, columns = (
        np.minimum(at, 2 * side - 1 - at) for at, side in zip((rows, columns), piece.shape[1:], strict=True)
    )
    return piece[:, rows[:, None], columns]


def with_golden(recipe: Recipe, side: tuple[int, int] = (16, 24), cells: int = SIZE // 4) -> Recipe:
    """With golden pieces and the answers that the engine gives; maps of `cells` cells a side."""
    frames = [np.full((CHANNELS, *side), level, np.uint8) for level in (60, 70)]
    frames[0][:, 4:8, 4:8], frames[1][:, 4:8, 4:8] = 80, 255
    maps = [cells_of(mirrored(each)).astype(np.float32)[:cells, :cells] for each in frames]
    named = zip(("good_0", "defect_0"), (False, True), frames, maps, strict=True)
    pieces = tuple(Golden(n, bad, each, whole(cells_of(each), RULE), map) for n, bad, each, map in named)
    recipes.write_golden(recipe.path, pieces, half=True)
    facts = {name: getattr(recipe.manifest, name) for name in type(recipe.manifest).model_fields if name != "files"}
    return recipes.write(recipe.path, facts)


Answer = Callable[[np.ndarray], None]


def planted(detector: Detector, monkeypatch: pytest.MonkeyPatch, harm: Answer) -> None:
    """From now on the network's maps [n, h, w] are as `harm` leaves them."""
    run = detector._network.run

    def sick(tensors: Any) -> Any:
        answer = {name: each.copy() for name, each in run(tensors).items()}
        harm(answer["map"])
        return answer

    monkeypatch.setattr(detector._network, "run", sick)


def silent(maps: np.ndarray) -> None:
    maps[:] = 0


def beside_the_piece(maps: np.ndarray) -> None:
    """Nothing is seen where a golden piece does not lie, but what is lowest."""
    maps[:, 4:] = maps.min(axis=(1, 2), keepdims=True)


def at_the_last_column(maps: np.ndarray) -> None:
    maps[:, :, -1] *= 2


HARMS = pytest.mark.parametrize("harm", [silent, beside_the_piece, at_the_last_column], ids=lambda one: one.__name__)


@HARMS
def test_a_golden_piece_travels_in_every_batch_and_shows_every_part_of_a_tile(
    make_recipe: Make, monkeypatch: pytest.MonkeyPatch, harm: Answer
) -> None:
    with open_detector(with_golden(tiled(make_recipe)), max_batch=3) as detector:
        detector.prove()
        frames = noise(60, 60)
        np.testing.assert_allclose(detector.inspect([frames])[0].map, cells_of(frames), atol=1e-5)
        planted(detector, monkeypatch, harm)
        with pytest.raises(EngineError, match="golden defect"):
            detector.inspect([frames])


@HARMS
def test_an_engine_that_is_wrong_in_any_part_of_a_tile_is_not_granted(
    make_recipe: Make, monkeypatch: pytest.MonkeyPatch, harm: Answer
) -> None:
    recipe = with_golden(tiled(make_recipe))
    with open_detector(recipe, max_batch=1, proving=False) as detector:
        assert judge(prove(detector, recipe.golden), recipe.manifest.limits).granted
        planted(detector, monkeypatch, harm)
        found = judge(prove(detector, recipe.golden), recipe.manifest.limits)
    assert not found.granted and (harm is silent or found.reason.startswith("the map of"))


def test_golden_panels_with_maps_of_pieces_are_asked_for_anew(make_recipe: Make) -> None:
    recipe = with_golden(tiled(make_recipe), cells=4)
    said = r"golden panel \w+_0 has a map of \(4, 4\), not \(8, 8\): teach again"
    with pytest.raises(EngineError, match=said), open_detector(recipe):
        pass
    with open_detector(recipe, proving=False) as detector, pytest.raises(EngineError, match=said):
        prove(detector, recipe.golden)


def test_a_golden_panel_of_several_tiles_is_refused_where_it_is_read(make_recipe: Make) -> None:
    with pytest.raises(RecipeError, match="golden panel good_0 is 16 x 40 px, a tile 32 x 32: teach again"):
        _ = with_golden(tiled(make_recipe), (16, 40)).golden


@given(some.integers(1, 40), some.integers(1, 40))
def test_a_map_is_off_by_as_much_as_in_its_worst_part(rows: int, columns: int) -> None:
    reference = np.random.default_rng(rows).random((40, 40)).astype(np.float32)
    assert map_share(reference, reference, (rows, columns)) == 0
    wrong = reference.copy()
    wrong[:rows, :columns] = reference.min()
    parts = map_share(wrong, reference, (rows, columns))
    assert parts >= map_share(wrong, reference, (40, 40)) * 0.999
    assert parts > 0.2 or rows * columns < 40
    wrong[0, 0] = np.nan
    assert not map_share(wrong, reference, (rows, columns)) <= 0.2


def test_tiles_need_a_rule_and_make_a_recipe_of_format_3(make_recipe: Make) -> None:
    assert tiled(make_recipe).manifest.format == 3
    assert make_recipe().manifest.format == 2
    with pytest.raises(RecipeError, match="teach again"):
        make_recipe(CHANNELS, geometry=ANY)
