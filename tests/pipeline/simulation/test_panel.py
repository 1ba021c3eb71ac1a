"""Simulated panels: what is drawn, where, and in which channels it shows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import UsageError
from pipeline.simulation import watermark
from pipeline.simulation.defects import KINDS, draw
from pipeline.simulation.panel import CHANNELS, Look, empty, extent_px, noise_sigma, render

SMALL = Look(height=160, width=192)
SHOWS_IN = {
    "scratch": {"dark_left_surface", "dark_right_surface", "coaxial_surface"},
    "dust": {"bright_surface", "coaxial_surface", "dark_left_surface", "dark_right_surface"},
    "dent": {"dark_left_surface", "dark_right_surface", "dark_left_pixel", "dark_right_pixel"},
    "bubble": {"bright_pixel", "coaxial_pixel"},
    "stain": {"bright_surface", "bright_pixel", "coaxial_surface", "coaxial_pixel"},
    "mura": {"bright_surface", "bright_pixel", "coaxial_surface", "coaxial_pixel"},
}


def difference(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What a defect adds to each channel [C, H, W], and where its mask is."""
    defect = draw(kind, seed)
    with_it = render(seed, SMALL, defect=defect, noisy=False)
    without = render(seed, SMALL, noisy=False)
    return with_it.frames.astype(int) - without.frames, with_it.mask


def test_the_same_seed_draws_the_same_pixels_and_another_seed_others():
    first, again, other = (render(seed, SMALL).frames for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_channels_come_in_the_order_asked_for_and_do_not_depend_on_each_other():
    everything = render(1, SMALL).frames
    asked = ("coaxial_pixel", "bright_surface")
    some = render(1, SMALL, asked).frames
    for frame, name in zip(some, asked, strict=True):
        np.testing.assert_array_equal(frame, everything[CHANNELS.index(name)])


@pytest.mark.parametrize("name", ["bright", "bright_middle", "uv_surface", ""])
def test_an_unknown_channel_is_refused_in_one_line(name):
    with pytest.raises(UsageError, match="no simulated channel"):
        render(1, SMALL, (name,))


def test_frames_of_16_bits_hold_257_times_the_grey_levels():
    shallow = render(2, SMALL, noisy=False).frames.astype(float)
    deep = render(2, SMALL.model_copy(update={"dtype": "uint16"}), noisy=False).frames
    assert deep.dtype == np.uint16
    np.testing.assert_allclose(deep / 257, shallow, atol=0.6)


def test_the_matrix_is_sharp_in_the_pixel_focus_and_blurred_in_the_surface_focus():
    sharp, blurred = render(5, SMALL, ("bright_pixel", "bright_surface"), noisy=False).frames[:, 40:120, 40:120]
    assert np.std(sharp.astype(float)) > 4 * np.std(blurred.astype(float))


def test_noise_is_as_stated():
    light = "coaxial_surface"
    quiet = render(6, SMALL, (light,), noisy=False).frames[0].astype(float)
    noisy = render(6, SMALL, (light,)).frames[0].astype(float)
    inside = np.s_[40:120, 40:120]
    stated = noise_sigma(quiet[inside].mean())
    assert 1.0 <= stated <= 1.6
    assert np.std((noisy - quiet)[inside]) == pytest.approx(np.hypot(stated, 0.4), rel=0.08)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_defect_shows_where_its_mask_is_and_only_in_its_channels(kind, seed):
    added, mask = difference(kind, seed)
    strength = {name: np.abs(added[i]).max() for i, name in enumerate(CHANNELS)}
    weakest_shown = min(strength[name] for name in SHOWS_IN[kind])
    assert weakest_shown >= 3
    for name in set(CHANNELS) - SHOWS_IN[kind]:
        assert strength[name] <= max(0.55 * max(strength.values()), 3), name
    sharpest = np.abs(added[CHANNELS.index(max(strength, key=strength.__getitem__))])
    assert sharpest[mask].sum() > 0.7 * sharpest.sum()


def test_a_dent_is_bright_on_one_side_and_dark_on_the_other_and_the_side_lights_disagree():
    added, _ = difference("dent", 1)
    left, right = (added[CHANNELS.index(f"dark_{side}_surface")] for side in ("left", "right"))
    assert left.max() >= 8 and left.min() <= -8
    assert (left * right).sum() < 0


def test_mura_is_one_to_five_percent_of_the_luminance():
    for seed in range(6):
        added, _ = difference("mura", seed)
        assert 0.01 <= np.abs(added[CHANNELS.index("bright_surface")]).max() / 150 <= 0.055


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 10_000))
def test_the_mask_is_as_large_as_the_defect_says_and_lies_on_the_panel(kind, seed):
    defect = draw(kind, seed)
    drawn = render(seed, SMALL, ("bright_surface",), defect)
    nominal = min(defect.size_px, 0.6 * SMALL.height)
    assert abs(drawn.size_px - nominal) <= 2 + 0.1 * nominal
    assert drawn.size_px == extent_px(drawn.mask)
    border = SMALL.bezel_px
    assert drawn.mask[border:-border, border:-border].sum() == drawn.mask.sum()
    assert not drawn.mask[: watermark.HEIGHT_PX, : watermark.WIDTH_PX].any()


def test_a_good_panel_has_an_empty_mask():
    drawn = render(9, SMALL, ("bright_surface",))
    assert drawn.kind is None and drawn.size_px == 0 and not drawn.mask.any()


def test_the_field_without_a_panel_is_dark():
    assert empty(SMALL).shape == (160, 192) and empty(SMALL).max() <= 10


@pytest.mark.parametrize(("height", "width"), [(64, 64), (301, 517), (1024, 1024)])
def test_frames_have_the_size_asked_for(height, width):
    look = Look(height=height, width=width)
    drawn = render(1, look, ("bright_pixel", "dark_left_surface"), draw("dent", 1))
    assert drawn.frames.shape == (2, height, width) and drawn.mask.shape == (height, width)
