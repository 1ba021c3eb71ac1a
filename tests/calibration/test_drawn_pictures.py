"""Drawn pictures follow from their seed, stay in range and differ from each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration import pictures
from calibration.pictures.fields import FIELDS
from calibration.pictures.scenes import SCENES

SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, side: int = 64) -> np.ndarray:
    return pictures.draw(np.random.default_rng(seed), side)


@given(SEEDS, st.sampled_from([32, 64, 96]))
def test_a_seed_draws_the_same_picture_again(seed: int, side: int) -> None:
    picture = drawn(seed, side)
    assert picture.shape == (3, side, side) and picture.dtype == np.float32
    assert picture.min() >= 0 and picture.max() <= 1  # so it is finite, too
    np.testing.assert_array_equal(picture, drawn(seed, side))


@pytest.mark.parametrize("each", [one for one, _ in FIELDS], ids=lambda one: one.__name__)
@given(seed=SEEDS)
def test_every_field_is_grey_and_in_range(each, seed: int) -> None:
    field = each(np.random.default_rng(seed), 48)
    assert field.shape == (48, 48) and field.dtype == np.float32
    assert field.min() >= -1e-6 and field.max() <= 1 + 1e-6


@pytest.mark.parametrize("each", [one for one, _ in (*FIELDS, *SCENES)], ids=lambda one: one.__name__)
def test_those_of_a_kind_differ(each) -> None:
    few = [each(np.random.default_rng(seed), 64) for seed in range(8)]
    assert np.median([np.abs(few[at] - few[other]).mean() for at in range(8) for other in range(at)]) > 0.02


def test_pictures_vary_in_brightness_contrast_colour_and_grain() -> None:
    many = np.stack([drawn(seed) for seed in range(120)])
    contrast = many.std((1, 2, 3))
    colour = many.std(1).mean((1, 2))
    grain = np.abs(np.diff(many, axis=3)).mean((1, 2, 3))
    for low, measure, high in ((0.25, many.mean((1, 2, 3)), 0.7), (0.06, contrast, 0.25), (0.012, grain, 0.07)):
        assert np.quantile(measure, 0.1) < low and np.quantile(measure, 0.9) > high
    assert 0.1 < (colour < 0.01).mean() < 0.6  # grey ones, and coloured ones


@given(SEEDS)
def test_a_piece_of_a_panel_is_made_of_its_channels(seed: int) -> None:
    panel = np.zeros((5, 40, 60), np.uint8)
    panel[2] = 255
    rng = np.random.default_rng(seed)
    piece = pictures.of_panel(rng, [panel], 64)
    assert piece.shape == (3, 64, 64) and 0 <= piece.min() <= piece.max() <= 1
    np.testing.assert_array_equal(piece, pictures.of_panel(np.random.default_rng(seed), [panel], 64))
