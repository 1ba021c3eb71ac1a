"""The injector does what its label says, and the demo's recipe sees it."""

from pathlib import Path

import numpy as np
import pytest

import pipeline
from calibration.injector import CASES, Case, Material, case, inject, noise_of
from calibration.integrity import relearn
from calibration.panels import PanelSet, write_panel
from engines import recipe as recipes
from engines.errors import UsageError
from engines.integrity import Cause, Guard, History, learn
from pipeline.simulation import panel, watermark
from pipeline.simulation.panel import CHANNELS, Look

DEMO = Path(pipeline.__file__).parent / "demo" / "recipe"
LIGHTS = tuple(panel.split_channel(name)[0] for name in CHANNELS)
SEED = 5_000_000  # none of these panels taught the recipe
TIMES = 3
FAINT = ("next panel below, one frame", "3 % between two exposures")  # not always to be seen; measured by takt bench


def drawn(number: int) -> np.ndarray:
    return watermark.stamp_set(panel.render(SEED + number, Look()).frames, number)


@pytest.fixture(scope="module")
def material() -> Material:
    return Material(drawn(1), drawn(0), drawn(2), LIGHTS)


@pytest.fixture(scope="module")
def guard() -> Guard:
    limits = recipes.load(DEMO).manifest.integrity
    assert limits is not None
    return Guard(limits)


def label(one: Case) -> str:
    return f"{one.cause}: {one.strength}"


@pytest.mark.parametrize("one", CASES, ids=label)
def test_a_damaged_set_has_the_form_of_a_good_one_and_leaves_that_alone(one: Case, material: Material) -> None:
    before = material.frames.copy()
    damaged = inject(one, material, np.random.default_rng(0))
    assert (damaged.shape, damaged.dtype) == (before.shape, before.dtype)
    assert (damaged != before).any()
    np.testing.assert_array_equal(material.frames, before)


@pytest.mark.parametrize("one", CASES, ids=label)
def test_the_same_seed_damages_alike(one: Case, material: Material) -> None:
    first, second = (inject(one, material, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("one", [one for one in CASES if one.strength not in FAINT], ids=label)
def test_the_demos_recipe_sees_it(one: Case, material: Material, guard: Guard) -> None:
    for seed in range(TIMES):
        history = History()
        assert guard.examine(material.before, history) is None
        assert guard.examine(inject(one, material, np.random.default_rng(seed)), history) is not None


@pytest.fixture(scope="module")
def few() -> Guard:
    return Guard(learn(drawn(number) for number in range(100, 124)))


@pytest.mark.parametrize("number", [203, 218, 242, 252, 273])
def test_two_dozen_good_sets_tell_how_rough_one_in_thousands_is(few: Guard, number: int) -> None:
    """Each of these was called torn when the roughest of the two dozen alone set the limit."""
    assert few.examine(drawn(number)) is None


@pytest.mark.parametrize(
    "one", [one for one in CASES if one.cause is Cause.TORN and one.strength not in FAINT], ids=label
)
def test_and_see_what_is_torn(one: Case, material: Material, few: Guard) -> None:
    for seed in range(TIMES):
        history = History()
        assert few.examine(material.before, history) is None
        assert few.examine(inject(one, material, np.random.default_rng(seed)), history) is not None


def test_every_cause_has_a_case() -> None:
    assert {one.cause for one in CASES} == set(Cause)


def test_dimming_keeps_the_noise(material: Material) -> None:
    damaged = inject(case(Cause.EXPOSURE, "0.5 times, all"), material, np.random.default_rng(0))
    for before, after in zip(material.frames, damaged, strict=True):
        assert float(after.mean()) == pytest.approx(0.5 * float(before.mean()), rel=0.02)
    dark = CHANNELS.index("dark_left_surface")
    assert noise_of(damaged[dark]) > 0.7 * noise_of(material.frames[dark])


def test_a_recipes_limits_can_be_learned_anew(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "train" / "good"
    for number in range(3):
        write_panel(folder, f"{number}", drawn(number), CHANNELS)
    old = recipes.load(DEMO)
    made, found = relearn(old, PanelSet(tmp_path / "set"), tmp_path / "recipe")
    assert made.manifest.integrity is not None
    assert made.manifest.integrity.panels == 3
    assert found.limits == made.manifest.integrity
    assert made.hash != old.hash
    assert made.manifest.files == old.manifest.files
    assert made.manifest.limits == old.manifest.limits
    with pytest.raises(UsageError, match="never overwritten"):
        relearn(old, PanelSet(tmp_path / "set"), tmp_path / "recipe")
