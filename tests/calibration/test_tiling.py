"""takt teach --tiles: which tiles, which crops, and a recipe whose limits come from whole panels in tiles."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

from calibration import crops, tiling, train  # noqa: E402
from calibration.evaluate import evaluate  # noqa: E402
from calibration.integrity import relearn  # noqa: E402
from calibration.panels import PanelSet, write_panel  # noqa: E402
from calibration.relimit import Wish, relimit  # noqa: E402
from calibration.stack import Stack  # noqa: E402
from engines import methods, tiles, zones  # noqa: E402
from engines.detector import open_detector  # noqa: E402
from engines.errors import PanelError, UsageError  # noqa: E402
from engines.recipe import Promise, Tiles  # noqa: E402
from engines.zones import TopMean, TopShare, Zones  # noqa: E402

CHANNELS = ("dark_surface", "bright_surface")
SIZE = (100, 200)
SHORT = {
    "height": 64,
    "width": 64,
    "teacher": "takt",
    "student_width": 8,
    "strides": [4],
    "smooth": 0.3,
    "schedule": {"image_passes": 400},
}


def frames(seed: int, defect: bool = False) -> np.ndarray:
    random = np.random.default_rng(seed)
    columns = 1 + 0.3 * np.sin(np.arange(SIZE[1]) * 2 * np.pi / 8)
    picture = np.array([50, 150])[:, None, None] * columns + random.normal(0, 2, (2, *SIZE))
    picture[0, :, :120] = 0  # a dark field that shows nothing there
    if defect:
        picture[:, 30:48, 140:158] *= 0.3
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sets") / "toys"
    mask = np.zeros(SIZE, bool)
    mask[30:48, 140:158] = True
    for number in range(16):
        write_panel(place / "train" / "good", f"p{number}", frames(number), CHANNELS)
    for number in range(3):
        write_panel(place / "test" / "good", f"p{number}", frames(100 + number), CHANNELS)
        write_panel(place / "test" / "hole", f"p{number}", frames(200 + number, True), CHANNELS, mask)
    return place


def request(folder: Path, out: Path, **changes: Any) -> train.Request:
    settings = SHORT | changes.pop("settings", {})
    promise = Promise(rate=0.3, confidence=0.9)
    asked = {"method": "mkd", "tiles": "128x160", "promise": promise} | changes
    return train.Request(PanelSet(folder), out, settings=settings, **asked)


@pytest.fixture(scope="module")
def taught(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> train.Taught:
    return train.teach(request(folder, tmp_path_factory.mktemp("recipes") / "toy", hold_out_every=2))


def test_a_recipe_in_tiles_says_what_they_are_and_cost(taught: train.Taught) -> None:
    manifest = taught.recipe.manifest
    geometry = manifest.geometry
    assert isinstance(geometry, Tiles) and manifest.format == 3
    assert (geometry.height, geometry.width, geometry.halo, geometry.panel) == (128, 160, 32, SIZE)
    assert (manifest.settings["height"], manifest.settings["width"]) == (128, 160)
    assert manifest.settings["position_correction"] is False
    assert manifest.training.facts["tiles_a_panel"] == 2
    assert manifest.training.facts["extra_pixels"] == pytest.approx(1.048)
    assert manifest.training.panels == 8 and manifest.limits.statistics.panels == 8
    assert taught.tiling and "2 a panel" in taught.tiling


@given(panels=st.integers(1, 300), places=st.integers(1, 40), wanted=st.integers(1, 2000))
def test_an_output_sees_panels_and_places_alike_and_no_tile_twice(panels: int, places: int, wanted: int) -> None:
    pairs = list(tiling.spread(panels, places, wanted))
    assert len(set(pairs)) == len(pairs) == min(wanted, panels * places)
    for index, among in ((0, panels), (1, places)):
        often = np.bincount([pair[index] for pair in pairs], minlength=among)
        assert len(often) == among and often.max() - often.min() <= 1


def test_it_tells_good_from_defective_on_whole_panels(taught: train.Taught, folder: Path) -> None:
    with open_detector(taught.recipe, threads=1) as detector:
        figures = evaluate(detector, PanelSet(folder))
        (found,) = detector.inspect([frames(200, True)])
    assert figures["image_auroc"] == 1 and figures["miss"]["k"] == 0
    assert found.mask.shape == SIZE and found.mask[39, 149]
    assert found.map.shape == (25, 50)


def test_its_golden_panels_are_pieces_that_answer_as_they_did(taught: train.Taught) -> None:
    recipe, low = taught.recipe, taught.recipe.manifest.limits.low
    assert [one.defective for one in recipe.golden] == [False] * 8 + [True] * 8
    with open_detector(recipe, threads=1) as detector:
        assert detector.proves_itself
        detector.prove()
        for one in recipe.golden:
            [(found, map)] = detector.inspect_golden([one.frames])
            assert found.passed != one.defective
            assert found.score == pytest.approx(one.score, rel=1e-4)
            assert map.shape == one.map.shape == (32, 40), "of the whole tile"
    assert low > 0


def test_the_weights_rest_on_good_panels_that_score_around_one(taught: train.Taught) -> None:
    statistics = taught.recipe.manifest.limits.statistics
    assert 0.7 < statistics.median < 1.4


def test_limits_zones_and_integrity_can_be_set_anew(taught: train.Taught, folder: Path, tmp_path: Path) -> None:
    left = Zones(inspect=(((0, 0), (0.5, 0), (0.5, 1), (0, 1)),))
    zoned = relimit(taught.recipe, Wish(zones=left), tmp_path / "zoned").recipe
    with open_detector(zoned, threads=1) as detector:
        detector.prove()
        assert not detector.inspect([frames(200, True)])[0].mask[:, 110:].any()
    again, _ = relearn(zoned, PanelSet(folder), tmp_path / "again")
    assert again.manifest.geometry == taught.recipe.manifest.geometry
    assert again.manifest.format == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_folds_set_limits_as_well(folder: Path, tmp_path: Path) -> None:
    manifest = train.teach(request(folder, tmp_path / "r", folds=2)).recipe.manifest
    assert manifest.training.panels == 16 and manifest.limits.statistics.panels == 16


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tiles": "large"}, "give auto, a number of pixels, or HEIGHTxWIDTH"),
        ({"tiles": "100"}, "give multiples of 32"),
        ({"tiles": "64"}, "give more than 64 px"),
        ({"tiles": "512"}, "extra pixels on panels of 100 x 200 px"),
        ({"settings": {"position_correction": True}}, "crops of a panel lie anywhere"),
        ({"settings": {"direction": "flattened"}}, "no score that follows from the map"),
        ({"settings": {"teacher": "efficientnet_b0"}}, "sees each tile as a whole"),
    ],
)
def test_what_cannot_be_tiled_is_one_line(folder: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as raised:
        train.teach(request(folder, tmp_path / "r", **changes))
    assert "\n" not in str(raised.value)


def test_panels_of_two_sizes_have_no_tiles(tmp_path: Path) -> None:
    for number in range(12):
        wide = frames(number)
        write_panel(tmp_path / "s" / "train" / "good", f"p{number}", wide[:, :, : 200 - 4 * (number == 5)], CHANNELS)
    with pytest.raises(PanelError, match=r"p5: is 196x100, the panels before are 200x100"):
        train.teach(request(tmp_path / "s", tmp_path / "r"))


def test_a_halo_that_no_tile_affords_is_said_with_what_helps() -> None:
    with pytest.raises(
        UsageError, match=r"costs 72% extra pixels .* 60% are the most: give --tiles PX .*decoder_passes"
    ):
        tiling.planned("auto", (8192, 8192), 385, 64, np.zeros((8, 1, 1), np.uint8))


@pytest.mark.parametrize("channels", [1, 8, 40])
def test_golden_pieces_stay_within_a_few_megabytes(channels: int) -> None:
    found = tiling.planned("auto", (2048, 2048), 385, 64, np.zeros((channels, 1, 1), np.uint8))
    assert found.piece is not None
    assert 16 * channels * found.piece[0] * found.piece[1] <= 4_000_000
    assert min(found.piece) >= 64


@pytest.mark.parametrize(("size", "tile"), [((64, 64), 64), ((70, 300), 96), ((64, 1000), 128)])
def test_golden_pieces_are_never_larger_than_a_tile_nor_smaller_than_what_draws_a_defect(
    size: tuple[int, int], tile: int
) -> None:
    geometry = Tiles(height=tile, width=tile, halo=0, grid=32, panel=size)
    piece = tiling._piece(geometry, size, np.zeros((1, 1, 1), np.uint8))
    assert all(64 <= side <= tile for side in piece)


def places(count: int, seed: int = 0, number: int = 0) -> list[tuple[int, int]]:
    settings = methods.settings_of(methods.load("mkd"), SHORT | {"schedule": {"image_passes": count}})
    return crops.places(np.zeros((2, *SIZE), np.uint8), settings, 1, crops.rng(seed, number))


def test_crops_begin_on_the_grid_each_place_once_and_reach_every_border() -> None:
    found = places(1000)
    assert len(set(found)) == len(found) == 3 * 6
    assert all(top % 32 == left % 32 == 0 for top, left in found)
    assert {top for top, _ in found} == {0, 32, 64} and max(left for _, left in found) + 64 >= SIZE[1]


def test_crops_depend_on_seed_and_panel_alone() -> None:
    assert places(4) == places(4) and places(4) == places(1000)[:4]
    assert places(4) != places(4, seed=1) != places(4, seed=1, number=1)


def test_a_crop_of_a_dark_field_is_no_lost_channel() -> None:
    crop = crops.crop(frames(0), (0, 0), (64, 64))
    assert crop[0].max() == 1 and np.count_nonzero(crop[0]) == 1
    lost = frames(0)
    lost[0] = 0
    assert not crops.crop(lost, (0, 0), (64, 64))[0].any()


def test_crops_of_labelled_panels_show_their_defect(tmp_path: Path) -> None:
    mask = np.zeros(SIZE, bool)
    mask[30:48, 140:158] = True
    write_panel(tmp_path / "train" / "hole", "p0", frames(0, True), CHANNELS, mask)
    settings = methods.settings_of(methods.load("mkd"), SHORT)
    found = crops.labelled(PanelSet(tmp_path), settings, 0)
    assert found is not None
    assert found[0].shape[1:] == (2, 64, 64) and all(one.any() for one in found[1])


def test_a_rule_for_whole_panels_keeps_its_shares_and_brings_them_to_one() -> None:
    maps = np.random.default_rng(0).random((12, 25, 50), np.float32)
    tile = Tiles(height=128, width=160, halo=32, grid=32)
    rule = (TopMean(cells=1, weight=3.0), TopMean(cells=13, weight=0.5), TopMean(cells=5, weight=0.0))
    found = tiling.rule_of(rule, maps, tile)
    assert found[0] == TopMean(cells=1, weight=found[0].weight)
    assert isinstance(found[1], TopShare) and found[1].share == pytest.approx(13 / (32 * 40))
    assert found[2].weight == 0
    assert np.mean([zones.whole(map, found) for map in maps]) == pytest.approx(1)


class Kept:
    """A model that asks for panels that trained nothing, and says which tiles it was fitted on."""

    keeps_unseen = True

    def __init__(self) -> None:
        self.training_facts: dict[str, Any] = {}
        self.fitted: list[set[int]] = []

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any], strict: bool) -> None: ...

    def eval(self) -> "Kept":
        return self

    def fit_output(self, *shown: Any) -> None:
        self.fitted = [{round(float(one.max()) * 255) for one in batches()} for batches in shown]


def numbered(count: int, kept_back: int) -> tuple[tiling.Tiling, np.ndarray]:
    """Panels each as bright as its number, with two crops of each, and those that are taught."""
    panels = np.zeros((count, 1, 64, 64), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    stack = Stack(panels, tuple(map(str, range(count))), 16)
    geometry = Tiles(height=64, width=64, halo=0, grid=32, panel=(64, 64))
    crops = Stack(panels.repeat(2, 0), tuple(map(str, range(2 * count))), 16)
    return tiling.Tiling(geometry, stack, crops, np.arange(count).repeat(2), ""), np.arange(count) >= kept_back


def test_outputs_in_tiles_are_fitted_on_panels_that_trained_nothing_where_the_method_asks_for_them() -> None:
    tiled, taught = numbered(40, 10)
    model = Kept()
    kept = tiled.unseen(model, taught)
    assert kept.sum() == 4 and not (kept & ~taught).any()
    method = SimpleNamespace(build=lambda channels, settings: model)
    assert tiled.at_tiles(method, None, model, taught) is model  # type: ignore[arg-type]
    every, unseen = model.fitted
    assert unseen == set(np.flatnonzero(kept)) and every <= set(np.flatnonzero(taught)) and len(every) > 4
    assert model.training_facts["panels_kept_for_output"] == 4
    np.testing.assert_array_equal(tiled.honest(model, taught), kept)
    assert not tiled.crops_of(taught & ~kept)[np.repeat(kept, 2)].any()


def test_crops_of_panels_that_are_kept_for_the_output_train_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(25):
        write_panel(tmp_path / "s" / "train" / "good", f"p{number:02}", frames(number), CHANNELS)
    shown: list[str] = []
    monkeypatch.setattr(train, "fit", lambda model, material, *more: shown.extend(material.good.names))
    small = {"height": 64, "width": 64, "teacher": "takt", "student_width": 4, "patch_px": 32, "smooth": 0.3}
    asked = train.Request(PanelSet(tmp_path / "s"), tmp_path / "r", "fused", small, tiles="128x224")
    lesson = train._prepared(tmp_path / "work", asked, lambda phase, done, total: None)
    train._taught(lesson, np.arange(25) == 0, "network")
    assert {name.split()[0] for name in shown} == {f"p{n:02}" for n in range(1, 25)} - {"p06", "p12", "p18", "p24"}


def test_where_panels_are_scarce_or_nobody_asks_all_of_them_train() -> None:
    tiled, taught = numbered(40, 17)
    assert not tiled.unseen(Kept(), taught).any()
    np.testing.assert_array_equal(tiled.honest(Kept(), taught), taught)
    assert not numbered(40, 0)[0].unseen(SimpleNamespace(), np.ones(40, bool)).any()


def test_the_taught_size_costs_what_was_said(taught: train.Taught) -> None:
    geometry = taught.recipe.manifest.geometry
    assert isinstance(geometry, Tiles)
    assert tiles.extra_by_halo(geometry, SIZE) <= tiles.MOST_EXTRA
