"""A panel's own fine structure tells a frame of two pictures, and a frame taken beside the others."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines import grid
from engines.integrity import Cause, Guard, IntegrityLimits, learn
from engines.signature import signature

ALWAYS_THE_SAME = settings(derandomize=True)  # one in thousands may be a false alarm, and a search would find it
CHANNELS, PX, PITCH = 4, 224, 8.0
LEVELS, CONTRASTS = (150, 50, 60, 110), (0.3, 0.2, 0.15, 0.3)


def panel(seed: int, shift: tuple[float, float] = (0, 0), channels: int = CHANNELS) -> np.ndarray:
    """An even field with a matrix of pixels that lies a little elsewhere on every panel; noise of one grey level."""
    rng = np.random.default_rng(seed)
    dx, dy = rng.uniform(-2, 2, 2) + shift
    y, x = np.mgrid[:PX, :PX].astype(float)
    matrix = (1 + np.cos((x - dx) * 2 * np.pi / PITCH)) * (1 + np.cos((y - dy) * 2 * np.pi / PITCH)) / 4
    frames = [
        level * (0.7 + contrast * matrix) + rng.normal(0, 1, matrix.shape)
        for level, contrast in zip(LEVELS[:channels], CONTRASTS, strict=False)
    ]
    return np.clip(np.rint(np.stack(frames)), 0, 255).astype(np.uint8)


@cache
def guard() -> Guard:
    return Guard(learn(panel(seed) for seed in range(60)))


def test_the_pitch_is_found() -> None:
    limits = guard().limits.grid
    assert limits is not None
    assert (limits.across, limits.along) == (1 / PITCH, 1 / PITCH)


def silent(frames: np.ndarray) -> bool:
    """Whether the grid itself, whatever else is looked at, finds nothing."""
    taught = guard().limits.grid
    seen = signature(frames, grid.Pitch(1 / PITCH, 1 / PITCH)).waves
    assert taught is not None and seen is not None
    return not np.any(grid.Grid(taught).judge(seen))


@ALWAYS_THE_SAME
@given(st.integers(1000, 9000))
def test_good_panels_raise_nothing(seed: int) -> None:
    assert guard().examine(panel(seed)) is None


@ALWAYS_THE_SAME
@given(
    st.integers(1000, 9000),
    st.integers(0, CHANNELS - 1),
    st.integers(60, 160),
    st.sampled_from([(0.5, 0.0), (-0.5, 0.1), (0.0, 0.5), (0.2, -0.6), (3.0, 3.0)]),
)
def test_a_frame_that_goes_on_with_a_panel_half_a_pixel_off_is_torn(
    seed: int, channel: int, line: int, off: tuple[float, float]
) -> None:
    frames = panel(seed)
    frames[channel, line:] = panel(seed, off)[channel, line:] + np.uint8(seed % 2)  # never the same bytes
    damage = guard().examine(frames)
    assert damage is not None
    assert (damage.cause, damage.channels) == (Cause.TORN, (channel,))


@ALWAYS_THE_SAME
@given(st.integers(1000, 9000), st.integers(0, CHANNELS - 1), st.floats(0.8, 3))
def test_a_frame_beside_the_others_says_that_the_camera_moved(seed: int, channel: int, px: float) -> None:
    frames = panel(seed)
    frames[channel] = panel(seed, (px, 0))[channel]
    damage = guard().examine(frames)
    assert damage is not None
    assert (damage.cause, damage.channels) == (Cause.CAMERA_MOVED, (channel,))


@ALWAYS_THE_SAME
@given(st.integers(1000, 9000), st.integers(30, 80), st.integers(30, 80), st.integers(4, 20), st.integers(-60, 90))
def test_a_defect_is_no_tear(seed: int, x: int, y: int, size: int, change: int) -> None:
    frames = panel(seed)
    part = frames[:, y : y + size, x : x + size]
    frames[:, y : y + size, x : x + size] = np.clip(part.astype(int) + change, 0, 255).astype(np.uint8)
    assert silent(frames)


def test_a_frame_without_contrast_is_not_judged_by_its_grid() -> None:
    frames = panel(2000)
    frames[1] = np.clip(np.random.default_rng(0).normal(LEVELS[1] * 0.75, 1, frames[1].shape), 0, 255)
    assert silent(frames)


@pytest.mark.parametrize("channels", [1, 2])
def test_few_channels_have_no_grid(channels: int) -> None:
    assert learn(panel(seed, channels=channels) for seed in range(10)).grid is None


def test_noise_that_no_channel_shares_concludes_nothing() -> None:
    def noise(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(90, 110, (CHANNELS, PX, PX), np.uint8)

    limits = learn(noise(seed) for seed in range(30)).grid
    assert limits is not None
    assert set(limits.tear_limit) | set(limits.apart_limit) == {grid.NEVER}


def test_small_frames_have_no_grid() -> None:
    assert learn(panel(seed)[:, :96] for seed in range(10)).grid is None


def test_limits_that_were_taught_without_it_are_still_read() -> None:
    old = guard().limits.model_dump(exclude={"grid"})
    assert Guard(IntegrityLimits.model_validate(old)).examine(panel(2000)) is None


def test_16_bits_have_the_grid_of_8() -> None:
    pitch = grid.Pitch(1 / PITCH, 1 / PITCH)
    eight, sixteen = (signature(each, pitch).waves for each in (panel(2000), panel(2000).astype(np.uint16) * 257))
    assert eight is not None and sixteen is not None
    np.testing.assert_allclose(eight, sixteen, atol=1e-5)
