"""The choice of levels: greedy, shallow first, only for a gain beyond its error, and never on a test panel."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

from sklearn.metrics import roc_auc_score  # noqa: E402

from calibration import levels  # noqa: E402
from calibration.levels import Scores, auroc, choose, gained  # noqa: E402
from calibration.material import Material  # noqa: E402
from calibration.stack import Stack  # noqa: E402
from engines import methods  # noqa: E402
from engines.backbones import TEACHERS  # noqa: E402
from engines.methods import mixed_teacher  # noqa: E402

NAMES = ("a", "b", "c", "d")
few = st.integers(3, 12)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, panels: int = 8, rounds: int = 3, steps: int | None = None) -> Scores:
    values = np.random.default_rng(seed).normal(size=(panels, 1 + rounds))
    return np.round(values * steps) if steps else values


def parted(shift: float, seed: int = 0, panels: int = 12) -> Scores:
    """Scores that part defects from good panels the better the larger `shift`."""
    return drawn(seed, panels) + shift * np.array([0, 1, 1, 1])


class Scorer:
    """Levels together score as the sum of each."""

    def __init__(self, alone: dict[str, Scores]) -> None:
        self.alone = alone

    def __call__(self, chosen: Sequence[str]) -> Scores:
        return sum((self.alone[level] for level in chosen[1:]), self.alone[chosen[0]])


@given(seeds, few, st.integers(1, 4), st.sampled_from([None, 2]))
def test_the_figure_is_the_image_auroc(seed: int, panels: int, rounds: int, steps: int | None) -> None:
    scores = drawn(seed, panels, rounds, steps)
    labels = np.repeat([False, True], [panels, panels * rounds])
    expected = roc_auc_score(labels, np.concatenate([scores[:, 0], scores[:, 1:].ravel()]))
    assert auroc(scores) == pytest.approx(float(expected))


@given(seeds, seeds, few)
def test_the_error_is_that_of_leaving_out_one_panel_at_a_time(one: int, other: int, panels: int) -> None:
    scores, others = drawn(one, panels), drawn(other, panels)
    without = [auroc(np.delete(scores, row, 0)) - auroc(np.delete(others, row, 0)) for row in range(panels)]
    gain, error = gained(scores, others)
    assert gain == pytest.approx(auroc(scores) - auroc(others))
    assert error == pytest.approx(np.sqrt((panels - 1) * np.var(without)))


@given(seeds, few)
def test_nothing_is_gained_by_the_same(seed: int, panels: int) -> None:
    assert gained(drawn(seed, panels), 3 * drawn(seed, panels)) == (0, 0)
    assert gained(drawn(seed, 2), drawn(seed, 2))[1] == float("inf")


@given(st.lists(seeds, min_size=4, max_size=4), st.lists(st.floats(-1, 2), min_size=4, max_size=4))
def test_every_level_taken_gains_more_than_one_error_and_no_further_one_would(
    numbers: list[int], shifts: list[float]
) -> None:
    scorer = Scorer({name: parted(shift, seed) for name, seed, shift in zip(NAMES, numbers, shifts, strict=True)})
    found = choose(NAMES, scorer)
    taken = [one for one in found.tried if one.taken]
    assert taken[-1].levels == found.levels and len(set(found.levels)) == len(found.levels)
    assert taken[0].auroc == max(auroc(scorer.alone[name]) for name in NAMES)
    for before, after in pairwise(taken):
        assert after.levels[:-1] == before.levels and after.gain > after.error
        assert after.auroc == pytest.approx(before.auroc + after.gain)
    rest = [(*found.levels, name) for name in NAMES if name not in found.levels]
    tried = {one.levels: one for one in found.tried}
    assert all(pair in tried for pair in rest)
    best = max((tried[pair] for pair in rest), key=lambda one: one.auroc, default=None)
    assert best is None or best.gain <= best.error


@given(st.permutations(NAMES))
def test_of_equal_levels_the_shallower_is_taken_and_no_second_one(order: list[str]) -> None:
    found = choose(order, Scorer(dict.fromkeys(NAMES, parted(1.0))))
    assert found.levels == (order[0],)


def test_levels_that_see_different_defects_are_taken_together() -> None:
    blind = np.random.default_rng(1).normal(size=(20, 5)) * 0.1
    one, other = blind.copy(), blind.copy()
    one[:, 1:3] += 5
    other[:, 3:] += 5
    alone = {"useless": blind, "one": one, "other": other, "twin": other}
    found = choose(list(alone), Scorer(alone))
    assert found.levels == ("one", "other")  # the twin adds as much and lies deeper
    assert "useless" in found.said() and "+other" in found.said()
    assert "one + other" in levels.section(found) and "taken" in levels.section(found)


class PowerCutError(Exception):
    """The power went."""


def taught_from(count: int = 12) -> Material:
    frames = np.random.default_rng(0).integers(60, 120, (count, 3, 64, 64), dtype=np.uint8)
    return Material(Stack(frames, tuple(f"p{n}" for n in range(count)), 16), ("dark_left", "dark_right", "bright"), 5)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    for kind, strides in (("resnet18", [4, 8, 16]), ("mobilenet_v2", [8, 16, 32])):
        trunk = TEACHERS[kind].trunk(strides)
        for layer in trunk.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        torch.save(trunk.state_dict(), tmp_path / f"{kind}.pth")
    return tmp_path


def test_every_level_is_taught_once_whatever_interrupts_it_and_the_choice_is_kept(weights: Path) -> None:
    values = {"height": 64, "width": 64, "levels": "auto", "choice_passes": 8, "schedule": {"batch": 4}}
    settings = methods.settled(mixed_teacher, methods.settings_of(mixed_teacher, values), weights)
    there = methods.candidates(mixed_teacher, settings)
    told: list[str] = []
    titles = [f"levels, {level} ({number} of 6)" for number, level in enumerate(there, 1)]

    def found(folder: Path, cut: str = "") -> levels.Choice:
        def tell(phase: str, done: int, total: int) -> None:
            told.append(phase)
            if phase == cut:
                raise PowerCutError

        return levels.chosen(mixed_teacher, settings, there, taught_from(), folder, weights, tell)

    with pytest.raises(PowerCutError):
        found(weights, cut=titles[2])
    assert set(told) == set(titles[:3])
    told.clear()
    choice = found(weights)
    assert {one.levels[0] for one in choice.tried if len(one.levels) == 1} == set(there)
    assert set(choice.levels) <= set(there)
    assert all(0 <= one.auroc <= 1 for one in choice.tried)
    assert set(told) == set(titles[2:])
    told.clear()
    assert found(weights) == choice and not told
    assert not list(weights.glob("levels_*"))


def test_the_panels_asked_are_not_those_taught_from_and_never_too_many(weights: Path) -> None:
    settings = methods.settings_of(mixed_teacher, {"height": 64, "width": 64})
    for count in (12, 40, 400):
        material = taught_from(count)
        trial = levels._trial(mixed_teacher, settings, material, weights, weights)
        asked = {frames.tobytes() for frames in trial.asked[:, 0]}
        assert not asked & {frames.tobytes() for frames in trial.material.good.frames}
        assert len(asked) + len(trial.material.good.names) == count
        assert len(asked) == min(count // 4, levels.MOST_ASKED)
        assert all((row[1:] != row[:1]).any(axis=(1, 2, 3)).all() for row in trial.asked)
