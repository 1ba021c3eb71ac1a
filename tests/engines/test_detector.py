"""Raw frames in, findings out: one network call, the panel's own pixels, and never a pass by accident."""

from collections.abc import Callable

import numpy as np
import pytest
from toy_recipe import facts

from engines import recipe as recipes
from engines.build import EngineKey, engine_key, source_of
from engines.decide import Problem, decide
from engines.detector import GeometryError, open_detector
from engines.errors import EngineError, RecipeError, UsageError
from engines.recipe import Recipe
from engines.runtimes import onnxruntime
from engines.station import StationCalibration

Make = Callable[..., Recipe]


def panel(level: int, spot: int | None = None, size: tuple[int, int] = (32, 32), channels: int = 2) -> np.ndarray:
    frames = np.full((channels, *size), level, np.uint8)
    if spot is not None:
        frames[:, size[0] // 2 :, size[1] // 2 :] = spot
    return frames


def test_good_passes_and_defective_does_not(make_recipe: Make) -> None:
    with open_detector(make_recipe(), max_batch=4) as detector:
        good, bad = detector.inspect([panel(50), panel(50, spot=250)])
    assert good.passed and good.problem is None and good.defects == ()
    assert not bad.passed and bad.problem is None
    assert bad.score == pytest.approx(250 / 255)
    (defect,) = bad.defects
    assert abs(defect.x - 16) <= 2 and abs(defect.width - 16) <= 2
    assert defect.channels == ("c0", "c1")


def test_a_batch_gives_what_single_panels_give(make_recipe: Make) -> None:
    random = np.random.default_rng(1)
    panels = [random.integers(0, 256, (2, 32, 32), np.uint8) for _ in range(5)]
    with open_detector(make_recipe(), max_batch=8) as detector:
        together = detector.inspect(panels)
        alone = [detector.inspect([each])[0] for each in panels]
        assert detector.network_calls == 1 + len(panels)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.map, other.map)
        assert one.score == other.score


def test_more_panels_than_a_batch_take_several_calls(make_recipe: Make) -> None:
    with open_detector(make_recipe(), max_batch=2) as detector:
        assert len(detector.inspect([panel(9)] * 5)) == 5
        assert detector.network_calls == 3
        assert detector.inspect([]) == []


def test_findings_outlive_the_next_call(make_recipe: Make) -> None:
    with open_detector(make_recipe()) as detector:
        (first,) = detector.inspect([panel(50)])
        before = first.map.copy()
        detector.inspect([panel(200)])
    np.testing.assert_array_equal(first.map, before)


@pytest.mark.parametrize("size", [(64, 96), (20, 24), (48, 20)])
def test_masks_have_the_panels_own_size(make_recipe: Make, size: tuple[int, int]) -> None:
    with open_detector(make_recipe()) as detector:
        (found,) = detector.inspect([panel(50, spot=255, size=size)])
    assert found.mask.shape == size
    assert found.mask[-1, -1] and not found.mask[0, 0]


@pytest.mark.parametrize("wrong", [panel(1, channels=3), panel(1).astype(np.uint16), panel(1)[0], panel(1)[:, :0]])
def test_a_panel_that_does_not_fit_names_the_lines_fault(make_recipe: Make, wrong: np.ndarray) -> None:
    with open_detector(make_recipe()) as detector:
        with pytest.raises(GeometryError) as raised:
            detector.check(wrong)
        assert raised.value.fault == "GEOMETRY"
        with pytest.raises(GeometryError):
            detector.inspect([panel(1), wrong])
        assert detector.network_calls == 0


def test_a_flat_field_is_applied_and_named(make_recipe: Make) -> None:
    recipe = make_recipe()
    half = StationCalibration(np.full((2, 32, 32), 0.5, np.float32))
    with open_detector(recipe) as plain, open_detector(recipe, calibration=half) as corrected:
        assert plain.calibration_hash != corrected.calibration_hash
        assert corrected.inspect([panel(100)])[0].score == pytest.approx(50 / 255)
        with pytest.raises(GeometryError, match="another size"):
            corrected.check(panel(100, size=(40, 40)))


def test_another_process_can_know_the_engine(make_recipe: Make) -> None:
    recipe = make_recipe()
    with open_detector(recipe) as detector:
        assert detector.engine_hash == engine_key(recipe).hash
        assert detector.recipe_hash == recipe.hash


def test_every_part_of_an_engine_key_counts() -> None:
    parts = {name: name for name in ("network", "runtime", "version", "precision", "device", "profile")}
    hashes = {EngineKey(**parts).hash} | {EngineKey(**parts | {name: "x"}).hash for name in parts}
    assert len(hashes) == 7


def test_unknown_runtimes_and_precisions_are_refused(make_recipe: Make) -> None:
    recipe = make_recipe()
    with pytest.raises(UsageError, match="no 'abacus'"), open_detector(recipe, runtime="abacus"):
        pass
    with pytest.raises(UsageError, match="not 'fp8'"), open_detector(recipe, precision="fp8"):
        pass


def test_a_network_of_another_shape_is_refused(make_recipe: Make) -> None:
    mixed = recipes.write(make_recipe(2).path, facts(3))
    with pytest.raises(EngineError, match="teach again"), open_detector(mixed):
        pass


def test_a_runtime_that_writes_nothing_never_passes_a_panel(make_recipe: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outputs are filled with NaN before each run: the last panel's answer cannot stand for this one's."""

    recipe = make_recipe()
    with onnxruntime.open_network(source_of(recipe, "onnxruntime", "fp32"), "fp32", 1, 2) as network:
        answer = network.run({"panels": np.zeros((1, 2, 32, 32), np.float32)})
        assert np.isfinite(answer["score"]).all()
        monkeypatch.setattr(network, "_infer", lambda tensors, outputs: None)
        answer = network.run({"panels": np.zeros((1, 2, 32, 32), np.float32)})
        assert np.isnan(answer["score"]).all() and np.isnan(answer["map"]).all()
    found = decide(answer["map"][0], float(answer["score"][0]), recipe.manifest.limits, (32, 32))
    assert not found.passed and found.problem is Problem.NOT_FINITE


def test_a_network_that_was_changed_since_it_was_verified_is_never_loaded(make_recipe: Make) -> None:
    recipe = make_recipe()
    recipe.network.write_bytes(recipe.network.read_bytes() + b" ")
    with pytest.raises(RecipeError, match="changed after teaching"), open_detector(recipe):
        pass


def test_a_precision_that_needs_a_derived_graph_says_how_to_make_it(make_recipe: Make) -> None:
    recipe = make_recipe()
    with pytest.raises(UsageError, match=r"takt build .* --precision int8"), open_detector(recipe, precision="int8"):
        pass
    with pytest.raises(UsageError, match="takt build"):
        engine_key(recipe, precision="int8")


def test_the_key_names_the_derived_graph(make_recipe: Make) -> None:
    recipe = make_recipe()
    one, other = (engine_key(recipe, precision="int8", derived=digest) for digest in ("a", "b"))
    assert one.network == "a" and one.hash != other.hash
    assert engine_key(recipe).network == recipe.manifest.files["network.onnx"]
