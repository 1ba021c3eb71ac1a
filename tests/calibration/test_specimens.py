"""Image sets of one specimen stay together: a network that was taught one of them has seen the thing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from line.toy_line import CHANNELS, write_recipe

from calibration import integrity, scores
from calibration.folds import kept_back_of
from calibration.limits import set_limits
from calibration.reliance import reliance
from calibration.scores import Scores
from calibration.specimens import highest_of, numbered
from calibration.stack import Stack
from engines import recipe as recipes
from engines.errors import PanelError, UsageError
from engines.integrity_limits import see
from engines.recipe import Promise

WISH = Promise(rate=0.1, confidence=0.95)
SPECIMENS = st.lists(st.integers(0, 30), min_size=20, max_size=80).filter(lambda found: len(set(found)) >= 9)


@given(SPECIMENS, st.integers(2, 5))
def test_every_fold_keeps_whole_specimens_and_every_panel_once(found: list[int], folds: int) -> None:
    numbers = numbered([f"s{one}" for one in found])
    masks = kept_back_of(numbers, folds, None)
    assert (np.sum(masks, 0) == 1).all()
    for mask in masks:
        assert mask.any() and not set(numbers[mask]) & set(numbers[~mask])


@given(SPECIMENS)
def test_what_scales_are_learnt_from_shares_no_specimen_with_what_trained(found: list[int]) -> None:
    material = pytest.importorskip("calibration.material", reason="needs the extra [teach]")
    numbers = numbered([f"s{one}" for one in found])
    unseen = material.unseen_of(numbers)
    assert not set(numbers[unseen]) & set(numbers[~unseen])
    assert unseen.any() == (len(found) >= material.FEWEST_PARTED)


def test_without_specimens_every_panel_is_its_own() -> None:
    stack = Stack(np.zeros((12, 1, 2, 2), np.uint8), tuple("aabcdefghijk"), 1)
    assert stack.numbers().tolist() == list(range(12))
    assert [mask.nonzero()[0].tolist() for mask in kept_back_of(stack.numbers(), 3, None)][1] == [1, 4, 7, 10]


def test_a_part_of_the_panels_keeps_their_specimens() -> None:
    stack = Stack(np.zeros((4, 1, 2, 2), np.uint8), tuple("abcd"), 1, ("x", "y", "x", "z"))
    part = stack.part(np.array([False, True, True, True]))
    assert part.specimens == ("y", "x", "z") and part.numbers().tolist() == [0, 1, 2]


def test_too_few_specimens_are_said_before_anything_is_taught() -> None:
    four = numbered([f"s{number % 4}" for number in range(40)])
    with pytest.raises(UsageError, match="40 good panels are of 4 specimens of good panels; limits take 5"):
        kept_back_of(four, 2, None)
    fifteen = numbered([f"s{number % 15}" for number in range(79)])
    with pytest.raises(UsageError, match="keeps 2 of 15 specimens of good panels back, 8 are needed"):
        kept_back_of(fifteen, 3, 6)
    with pytest.raises(UsageError, match="16 folds: give 2 to 15"):
        kept_back_of(fifteen, 16, None)


def test_the_promise_is_of_specimens_and_holds_where_their_image_sets_are_alike() -> None:
    """Of 20 specimens taken five times each: counted as 100 panels the same promise is broken."""
    random, wish = np.random.default_rng(4), Promise(rate=0.1, confidence=0.9)
    specimens, broken = [f"s{number // 5}" for number in range(100)], {"specimens": 0, "panels": 0}
    for _ in range(300):
        found = random.lognormal(0, 0.3, 20).repeat(5) * random.lognormal(0, 0.01, 100)
        maps = np.zeros((100, 1), np.float32)
        for name, given_ in (("specimens", specimens), ("panels", [])):
            limits, _ = set_limits(found, maps, wish, 1, given_)
            later = random.lognormal(0, 0.3, 4000) * random.lognormal(0, 0.01, 4000)
            broken[name] += (later > limits.image).mean() > limits.promise.rate
    assert broken["specimens"] / 300 <= 0.12 < broken["panels"] / 300


def test_the_remark_counts_specimens() -> None:
    names = [f"s{number % 6}" for number in range(30)]
    limits, remark = set_limits(np.linspace(0.5, 1, 30), np.zeros((30, 1), np.float32), WISH, 1, names)
    assert remark and remark.startswith("6 specimens of good panels promise no less than")
    assert limits.promise.rate == pytest.approx(1 - 0.05 ** (1 / 6)) and limits.statistics.panels == 30
    with pytest.raises(PanelError, match="only 4 specimens of good panels held out"):
        set_limits(np.ones(30), np.zeros((30, 1), np.float32), WISH, 1, [name[:2] for name in "abcd" * 7 + "ab"])


def test_the_highest_score_stands_for_a_specimen() -> None:
    assert highest_of(np.array([1.0, 5.0, 2.0]), ("a", "b", "a")).tolist() == [2.0, 5.0]
    assert highest_of(np.array([1.0, 5.0]), ()).tolist() == [1.0, 5.0]


def test_a_recipe_keeps_of_which_specimen_its_scores_are(tmp_path: Path) -> None:
    write_recipe(tmp_path / "r", CHANNELS)
    found = Scores(("a", "b", "c"), np.arange(3.0), np.ones((3, 4, 4), np.float32), np.ones((3, 1)), ("x", "x", "y"))
    for given_, expected in ((found, ("x", "x", "y")), (found.without(["a"]), ("x", "y"))):
        scores.write(tmp_path / "r", given_)
        manifest = recipes.Manifest.model_validate_json((tmp_path / "r" / "manifest.json").read_text())
        kept = scores.read(recipes.write(tmp_path / "r", {name: value for name, value in manifest if name != "files"}))
        assert kept.specimens == expected


def test_one_image_set_of_a_specimen_does_not_vouch_for_another() -> None:
    """Two dark sets of one specimen: each alone would teach limits that take the other."""
    random = np.random.default_rng(6)
    texture = random.uniform(90, 160, (1, 96, 96))
    sets = [(texture + random.normal(0, 3, texture.shape)).astype(np.uint8) for _ in range(14)]
    for number in (3, 4):
        sets[number] = (sets[number] * 0.4).astype(np.uint8)
    good, own = see(iter(sets)), [f"p{number}" for number in range(14)]
    assert not integrity.refusals(good, own)
    together = ["dark" if number in (3, 4) else name for number, name in enumerate(own)]
    assert {number for number, _ in integrity.refusals(good, together)} == {3, 4}


def test_a_limit_of_the_fewest_specimens_cannot_be_asked_without_one_of_them() -> None:
    maps, weights = np.zeros((9, 2, 2), np.float32), np.zeros((9, 0))
    names, values = tuple("abcdefghi"), np.linspace(1, 2, 9)
    five, six = (
        Scores(names, values, maps, weights, specimens) for specimens in (tuple("vvwwxxyyz"), tuple("uvwwxxyyz"))
    )
    assert reliance(five, [1.5], None, (), WISH) is None
    found = reliance(six, [1.5], None, (), WISH)
    assert found and found.panel == "i" and found.alone
