"""Pass is only ever the positive result of a complete, finite, plausible inspection."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toy_recipe import limits

from engines.decide import Defect, Problem, decide, with_channels

MAPS = arrays(np.float32, (4, 6), elements=st.floats(width=32))


@given(MAPS, st.floats(), arrays(bool, (4, 6)))
def test_pass_means_all_three_conditions(map: np.ndarray, score: float, covered: np.ndarray) -> None:
    found = decide(map, score, limits(image=1.0, low=-1.0), (16, 24), covered)
    complete = covered.all() and np.isfinite(map).all() and math.isfinite(score)
    assert found.passed == bool(complete and -1.0 <= score <= 1.0)
    assert not (found.passed and found.problem)


@pytest.mark.parametrize(
    ("cell", "score", "covered", "problem"),
    [
        (0.1, 0.1, True, None),
        (0.1, 0.9, True, None),
        (0.1, math.nan, True, Problem.NOT_FINITE),
        (0.1, -math.inf, True, Problem.NOT_FINITE),
        (math.nan, 0.1, True, Problem.NOT_FINITE),
        (0.1, -0.1, True, Problem.IMPLAUSIBLE),
        (0.1, 0.1, False, Problem.NOT_COVERED),
        (math.nan, math.nan, False, Problem.NOT_COVERED),
    ],
)
def test_problems_have_names(cell: float, score: float, covered: bool, problem: Problem | None) -> None:
    map = np.full((3, 3), 0.1, np.float32)
    map[1, 1] = cell
    seen = np.full((3, 3), True)
    seen[0, 2] = covered
    assert decide(map, score, limits(), (9, 9), seen).problem == problem


@given(MAPS.filter(lambda map: bool(np.isfinite(map).all())), st.sampled_from([(16, 24), (3, 5), (64, 100)]))
def test_a_reject_shows_where(map: np.ndarray, size: tuple[int, int]) -> None:
    found = decide(map, 9.0, limits(), size)
    assert found.mask.shape == size and found.mask.any()
    assert found.defects
    for defect in found.defects:
        inside = found.mask[defect.y : defect.y + defect.height, defect.x : defect.x + defect.width]
        assert 0 < defect.area_px <= inside.sum()


@given(arrays(np.float32, (5, 11), elements=st.floats(0, 1, width=32)))
def test_the_packed_mask_is_the_map_above_the_pixel_limit(map: np.ndarray) -> None:
    found = decide(map, 0.0, limits(pixel=0.5), (5, 11))
    np.testing.assert_array_equal(found.low_mask.unpack(), map > 0.5)


def test_separate_regions_are_separate_defects_the_strongest_first() -> None:
    map = np.zeros((8, 8), np.float32)
    map[1, 1], map[6, 5:7] = 0.8, 0.9
    found = decide(map, 0.9, limits(), (8, 8))
    assert [(defect.x, defect.y, defect.area_px) for defect in found.defects] == [(5, 6, 2), (1, 1, 1)]
    assert found.defects[0].peak == pytest.approx(0.9)


def test_a_defect_names_the_channels_that_show_it() -> None:
    frames = np.full((3, 40, 40), 100, np.uint8)
    frames[1, 18:22, 18:22] = 200
    named = with_channels(Defect(17, 17, 6, 6, 36, 1.0), frames, ("bright", "dark", "coaxial"))
    assert named.channels == ("dark",)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(20, 20, 10, 10), (5, 80, 70, 60), (0, 0, 160, 200)]))
def test_a_sample_of_large_surroundings_names_the_same_channels(seed: int, box: tuple[int, int, int, int]) -> None:
    rng, (y, x, height, width) = np.random.default_rng(seed), box
    frames = rng.normal(100, 5, (4, 160, 200))
    frames[:, ::2] += 3  # the pitch of a display
    frames[2, y + 2 : y + 8, x + 2 : x + 8] += 90
    named = with_channels(Defect(x, y, width, height, 36, 1.0), frames.astype(np.uint8), ("a", "b", "c", "d"))
    assert named.channels == ("c",)


@given(arrays(np.float32, (9, 11), elements=st.sampled_from([0.1, 0.7, 0.9])))
def test_regions_are_those_of_the_whole_panel(map: np.ndarray) -> None:
    found = decide(map, 0.9, limits(), (9, 11))
    mask = map > limits().pixel
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    whole = {tuple(each.item() for each in row) for row in stats[1:]}
    if mask.any():
        assert {(one.x, one.y, one.width, one.height, one.area_px) for one in found.defects} == whole
        assert len(found.defects) == count - 1


def test_a_ruined_panel_lists_its_strongest_defects_and_shows_all() -> None:
    map = np.zeros((40, 40), np.float32)
    map[::2, ::2] = np.linspace(0.6, 0.9, 400).reshape(20, 20)
    found = decide(map, 0.9, limits(), (40, 40))
    assert len(found.defects) == 64 and found.mask.sum() == 400
    assert found.defects[0].peak == pytest.approx(0.9)


@pytest.mark.parametrize("shape", [(512, 512), (513, 513), (1024, 700), (2500, 2500)])
def test_a_large_mask_is_packed_coarser_and_loses_no_mark(shape: tuple[int, int]) -> None:
    map = np.zeros(shape, np.float32)
    map[-1, -1] = map[shape[0] // 2, 3] = 1
    low = decide(map, 0.1, limits(), shape).low_mask
    assert len(low.bits) <= 32_768
    step = -(-shape[0] // low.height)
    marks = np.argwhere(low.unpack())
    assert marks.tolist() == [[shape[0] // 2 // step, 3 // step], [low.height - 1, low.width - 1]]
    assert (step == 1) == (shape[0] * -(-shape[1] // 8) <= 32_768)


def test_a_map_that_covers_more_than_the_panel_is_not_squeezed_into_it() -> None:
    map = np.zeros((10, 10), np.float32)
    map[7, 7] = 1
    found = decide(map, 9.0, limits(pixel=0.9), (37, 33), extent=(40, 40))
    (defect,) = found.defects
    assert found.mask.shape == (37, 33)
    assert 28 <= defect.x < 32 and 28 <= defect.y < 32
