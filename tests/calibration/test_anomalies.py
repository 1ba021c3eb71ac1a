"""Synthetic defects change what their mask says, in every channel as its light has it, and nothing else."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import anomalies
from calibration.anomalies import kinds, lights, textures
from calibration.anomalies.drawing import VISIBLE_NOISES
from calibration.anomalies.kinds import OPACITIES
from calibration.anomalies.lights import Aspect

KINDS = sorted(anomalies.KINDS)
RELIT = sorted(kinds.KINDS)
SIDES = ("bright_surface", "dark_left_surface", "dark_right_surface", "dark_top_surface", "coaxial_surface")
FOCI = ("bright_surface", "bright_pixel", "dark_left_surface", "dark_left_pixel")


def grey(level: float, count: int = 3, size: tuple[int, int] = (96, 80), dtype: type = np.uint8) -> np.ndarray:
    return np.full((count, *size), level * np.iinfo(dtype).max, dtype)


def textured(seed: int, count: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """Blotches of many sizes, so that a piece from elsewhere differs."""
    rng, top = np.random.default_rng(seed), np.iinfo(dtype).max
    coarse = rng.uniform(0.2, 0.8, (count, 12, 10))
    return np.stack([cv2.resize(one, (80, 96), interpolation=cv2.INTER_NEAREST) * top for one in coarse]).astype(dtype)


def change(drawn: anomalies.Drawn, frames: np.ndarray) -> np.ndarray:
    return drawn.frames.astype(float) - frames


@settings(max_examples=200)
@given(st.sampled_from(KINDS), st.integers(0, 2**32), st.sampled_from([np.uint8, np.uint16]), st.booleans())
def test_labelled_pixels_changed_and_the_input_did_not(kind: str, seed: int, dtype: type, flat: bool) -> None:
    frames = grey(0.33, dtype=dtype) if flat and kind in RELIT else textured(seed, dtype=dtype)
    kept = frames.copy()
    drawn = anomalies.draw(frames, np.random.default_rng(seed), kind)
    np.testing.assert_array_equal(frames, kept)
    assert drawn.frames.dtype == dtype and drawn.frames.shape == frames.shape and drawn.kind == kind
    changed = change(drawn, frames) != 0
    assert (changed.any(axis=0) | ~drawn.mask).all()
    assert drawn.mask.sum() < drawn.mask.size / 4
    if kind in RELIT:
        allowed = anomalies.LEAST_CHANGE * frames + 1  # the last count is rounding's
        assert (np.abs(change(drawn, frames)) <= allowed)[:, ~drawn.mask].all()


@settings(max_examples=150)
@given(st.sampled_from(KINDS), st.integers(0, 2**32), st.sampled_from([SIDES, FOCI, None]))
def test_it_shows_where_pixels_changed_beyond_the_noise(kind: str, seed: int, names: tuple | None) -> None:
    count = len(names or "abc")
    frames = grey(0.5, count, (128, 128)) if kind in RELIT else textured(seed, count)
    drawn = anomalies.draw(frames, np.random.default_rng(seed), kind, names)
    assert drawn.visible.shape == (count,) and drawn.visible.dtype == bool
    most = np.abs(change(drawn, frames))[:, drawn.mask].max(axis=1, initial=0)
    least = VISIBLE_NOISES * 0.5  # a noiseless frame counts as half a grey level of noise
    assert (most[drawn.visible] >= least).all()
    if kind in RELIT:
        assert (most[~drawn.visible] < 9 * least + 1).all()  # all of a mean of 3 x 3 in one pixel


@pytest.mark.parametrize("kind", KINDS)
def test_it_depends_only_on_the_generator_and_leaves_a_mark(kind: str) -> None:
    frames = textured(3, 5)
    for seed in range(20):
        one, other = (anomalies.draw(frames, np.random.default_rng(seed), kind, SIDES) for _ in range(2))
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(one.visible, other.visible)
        assert one.mask.any()


def test_every_kind_is_reached() -> None:
    rng, frames = np.random.default_rng(0), textured(0)
    assert {anomalies.draw(frames, rng).kind for _ in range(200)} == set(KINDS)


@pytest.mark.parametrize("kind", RELIT)
def test_contrasts_keep_their_range_and_are_even_over_orders_of_magnitude(kind: str) -> None:
    rng, frames = np.random.default_rng(1), grey(0.5, 5, dtype=np.uint16)
    drawn = [anomalies.draw(frames, rng, kind, SIDES) for _ in range(150)]
    low, high = kinds.KINDS[kind].contrasts
    for one in drawn:
        assert low <= one.contrast <= high
        assert np.abs(change(one, frames)).max() / frames[0, 0, 0] == pytest.approx(one.contrast, abs=1e-3)
    thirds = np.histogram([math.log(one.contrast) for one in drawn], 3, (math.log(low), math.log(high)))[0]
    assert thirds.min() > 150 / 3 * 0.6


@pytest.mark.parametrize("kind", sorted(OPACITIES))
def test_pieces_are_blended_in_by_their_opacity(kind: str) -> None:
    rng = np.random.default_rng(1)
    found = [anomalies.draw(textured(seed), rng, kind).contrast for seed in range(60)]
    low, high = OPACITIES[kind]
    assert low <= min(found) < low * 1.3 and high / 1.3 < max(found) <= high


@pytest.mark.parametrize("kind", [kind for kind in RELIT if not kinds.KINDS[kind].relief])
def test_one_shape_in_every_channel(kind: str) -> None:
    frames = grey(0.5, len(SIDES), (128, 128), np.uint16)
    for seed in range(20):
        drawn = anomalies.draw(frames, np.random.default_rng(seed), kind, SIDES)
        changes = np.abs(change(drawn, frames))
        leading = int(changes.max(axis=(1, 2)).argmax())
        for channel in np.flatnonzero(drawn.visible):
            alike = np.corrcoef(changes[channel].ravel(), changes[leading].ravel())[0, 1]
            assert alike > 0.98, (seed, channel)


def test_a_dent_is_bright_and_dark_by_where_the_light_comes_from() -> None:
    frames = grey(0.5, len(SIDES), (128, 128), np.uint16)
    differs = 0
    for seed in range(20):
        drawn = anomalies.draw(frames, np.random.default_rng(seed), "dent", SIDES)
        left, right, top = change(drawn, frames)[1:4].reshape(3, -1)
        assert np.corrcoef(left, right)[0, 1] < -0.8
        assert left.max() > 0 > left.min()
        differs += abs(np.corrcoef(left, top)[0, 1]) < 0.5
    assert differs > 10


def test_a_scratch_lights_up_in_some_lights_is_dark_in_others_and_misses_some() -> None:
    frames = grey(0.5, len(SIDES), (128, 128))
    shown = []
    for seed in range(40):
        drawn = anomalies.draw(frames, np.random.default_rng(seed), "scratch", SIDES)
        assert (change(drawn, frames)[1:4] >= 0).all() and (change(drawn, frames)[4] <= 0).all()
        shown.append(drawn.visible)
    share = np.mean(shown, axis=0)
    assert (share[1:] > 0.3).all() and (share[:4] < 0.95).all()


def test_side_light_along_a_scratch_does_not_show_it() -> None:
    frames, level_seen = grey(0.5, 3, (128, 128), np.uint16), 0
    for seed in range(60):
        drawn = anomalies.draw(frames, np.random.default_rng(seed), "scratch", ("dark_left", "dark_top", "coaxial"))
        rows, columns = np.nonzero(drawn.mask)
        if np.ptp(columns) > 5 * np.ptp(rows):  # lies level: seen from the left it has no slope
            from_left, from_top = change(drawn, frames)[:2].max(axis=(1, 2))
            assert from_left < 0.5 * from_top
            level_seen += 1
    assert level_seen >= 4


def test_a_defect_is_sharp_in_one_focus_plane_and_blurred_in_the_other() -> None:
    frames, planes = grey(0.5, len(FOCI), (128, 128), np.uint16), set()
    for seed in range(30):
        drawn = anomalies.draw(frames, np.random.default_rng(seed), "pore", FOCI)
        surface, pixel = (np.abs(change(drawn, frames))[plane::2] for plane in (0, 1))
        planes.add(surface.max() > pixel.max())
        sharp, soft = (surface, pixel) if surface.max() > pixel.max() else (pixel, surface)
        assert (soft > 0).sum() > (sharp > 0).sum()
    assert planes == {True, False}


def test_where_names_say_nothing_channels_are_alike_or_each_its_own_light() -> None:
    frames, signs = grey(0.5, 4, (128, 128)), set()
    for seed in range(40):
        drawn = anomalies.draw(frames, np.random.default_rng(seed), "scratch")
        signs.add(len(set(np.sign(change(drawn, frames).sum(axis=(1, 2))).tolist())))
    assert signs >= {1, 2}


def test_exposures_and_colours_are_one_light() -> None:
    frames = grey(0.5, 3, (128, 128), np.uint16)
    for names in (("exp1", "exp2", "exp10"), ("red", "green", "blue")):
        for seed in range(20):
            drawn = anomalies.draw(frames, np.random.default_rng(seed), "dent", names)
            strength = np.abs(change(drawn, frames)).max(axis=(1, 2))
            assert strength.min() > 0.75 * strength.max()


def test_what_changes_nothing_has_no_label() -> None:
    black = np.zeros((2, 64, 64), np.uint8)
    drawn = anomalies.draw(black, np.random.default_rng(0), "pore")
    assert not drawn.mask.any() and not drawn.visible.any() and not drawn.frames.any()
    with pytest.raises(KeyError):
        anomalies.draw(black, np.random.default_rng(0), "rust")


@pytest.mark.parametrize(
    ("name", "light", "aspect", "azimuth"),
    [
        ("dark_left_surface", "dark_left", Aspect.DARK, math.pi),
        ("dark_right", "dark_right", Aspect.DARK, 0.0),
        ("Side-Top", "side_top", Aspect.DARK, -math.pi / 2),
        ("coaxial_pixel", "coaxial", Aspect.COAXIAL, None),
        ("bright", "bright", Aspect.BRIGHT, None),
        ("dark_surface", "dark", Aspect.DARK, None),
        ("exp3", "", None, None),
        ("red", "", None, None),
        ("lamp7_near", "lamp7", None, None),
        ("7", "7", None, None),
    ],
)
def test_names_tell_light_and_side(name: str, light: str, aspect: Aspect | None, azimuth: float | None) -> None:
    (view,) = lights.views((name,))
    assert (view.light, view.aspect, view.azimuth) == (light, aspect, azimuth)


def test_names_tell_focus_planes() -> None:
    names = ("bright_surface", "bright_pixel", "dark_left_surface", "dark_left_pixel")
    assert [view.plane for view in lights.views(names)] == [0, 1, 0, 1]
    assert {view.plane for view in lights.views(("dark_left", "dark_right", "coaxial"))} == {0}


def test_a_light_is_supposed_the_same_in_all_its_channels() -> None:
    known = lights.views(("a_1", "a_2", "b_1", "b_2", "coaxial_1"))
    kinds_seen = set()
    for seed in range(30):
        given = lights.supposed(known, np.random.default_rng(seed))
        assert (given[0].aspect, given[0].azimuth) == (given[1].aspect, given[1].azimuth)
        assert given[4] == known[4] and all(view.aspect is not None for view in given)
        kinds_seen.add(given[0].azimuth == given[2].azimuth and given[0].aspect is given[2].aspect)
    assert kinds_seen == {True, False}


@given(st.integers(0, 2**32), st.integers(6, 200), st.integers(6, 200))
def test_perlin_noise_is_centred_and_smooth_enough_to_mask_with(seed: int, height: int, width: int) -> None:
    noise = textures.perlin(np.random.default_rng(seed), height, width)
    assert noise.shape == (height, width) and np.isfinite(noise).all() and np.abs(noise).max() <= 1.5


@given(st.integers(0, 2**32), st.sampled_from([255, 65535]))
def test_augmented_textures_stay_in_range(seed: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    cut = rng.uniform(0, top, (3, 9, 14)).astype(np.float32)
    made = textures.augmented(cut, top, rng)
    assert made.shape == cut.shape and made.min() >= 0 and made.max() <= top * (1 + 1e-6)


def test_the_sheet_shows_every_kind() -> None:
    picture = anomalies.sheet(textured(0, 5), np.random.default_rng(0), SIDES)
    assert picture.dtype == np.uint8 and picture.shape == (len(KINDS) * 144, (len(SIDES) + 1) * 128, 3)
