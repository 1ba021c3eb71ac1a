"""Damaged sets get their cause's name before inference; good and defective panels get none."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_recipe import SIZE

from engines import recipe as recipes
from engines.detector import GeometryError, open_detector
from engines.errors import PanelError
from engines.integrity import LASTING, REMEMBERED, Cause, Guard, History, IntegrityLimits, check, learn
from engines.recipe import Recipe
from engines.signature import signature

CHANNELS, PX = 4, 96
LEVELS = (150, 60, 60, 110)
TILTS = (0.0, -0.4, 0.4, 0.1)


def panel(seed: int, shift: tuple[float, float] = (0, 0), dtype: str = "uint8") -> np.ndarray:
    """A bright field with a fine grid in a dark frame, under four lights; noise of one grey level."""
    rng = np.random.default_rng(seed)
    dx, dy = rng.uniform(-0.7, 0.7, 2) + shift
    y, x = np.mgrid[:PX, :PX].astype(float)
    inside = np.ones((PX, PX))
    for at, by in ((x, dx), (y, dy)):
        inside *= np.clip((at - by - 8) / 2, 0, 1) * np.clip((PX - 9 - at + by) / 2, 0, 1)
    frames = []
    for level, tilt, fine in zip(LEVELS, TILTS, (0.1, 0.2, 0.3, 0.05), strict=True):
        grid = 1 + fine * np.sin((x - dx) * 0.7) * np.sin((y - dy) * 0.7)
        lit = level * rng.uniform(0.99, 1.01) * (1 + tilt * (x / PX - 0.5)) * (0.2 + 0.8 * inside * grid)
        frames.append(lit + rng.normal(0, 1, lit.shape))
    scale = np.iinfo(dtype).max / 255
    return np.clip(np.rint(np.stack(frames) * scale), 0, 255 * scale).astype(dtype)


@cache
def guard() -> Guard:
    return Guard(learn(panel(seed) for seed in range(60)))


def cause(frames: np.ndarray, history: History | None = None) -> Cause | None:
    damage = guard().examine(frames, history)
    return damage.cause if damage else None


@settings(derandomize=True)  # one in thousands may be a false alarm, and a search would find it
@given(st.integers(1000, 100_000))
def test_good_panels_raise_nothing(seed: int) -> None:
    assert cause(panel(seed)) is None


@settings(derandomize=True)
@given(st.integers(1000, 9000), st.integers(20, 60), st.integers(20, 60), st.integers(4, 18), st.integers(-60, 100))
def test_a_defect_is_none_of_these_faults(seed: int, x: int, y: int, size: int, change: int) -> None:
    frames = panel(seed)
    part = frames[:, y : y + size, x : x + size]
    frames[:, y : y + size, x : x + size] = np.clip(part.astype(int) + change, 0, 255).astype(np.uint8)
    assert cause(frames) is None


@given(st.integers(1000, 9000), st.permutations(range(CHANNELS)))
def test_any_other_order_of_channels_is_named(seed: int, order: list[int]) -> None:
    found = guard().examine(panel(seed)[order])
    moved = tuple(place for place, channel in enumerate(order) if place != channel)
    assert (found is None) if not moved else (found is not None and found.cause is Cause.CHANNEL_ORDER)
    if found:
        assert found.channels == moved


@given(st.integers(1000, 9000), st.integers(0, CHANNELS - 1), st.floats(0, 0.75))
def test_a_dim_light_is_named_with_its_channel(seed: int, channel: int, gain: float) -> None:
    frames = panel(seed)
    frames[channel] = (frames[channel] * gain).astype(np.uint8)
    damage = guard().examine(frames)
    assert damage is not None
    assert (damage.cause, damage.channels) == (Cause.LAMP, (channel,))


@given(st.integers(1000, 9000), st.integers(12, 84))
def test_two_exposures_in_one_frame_are_torn(seed: int, line: int) -> None:
    frames = panel(seed)
    frames[0, line:] = frames[3, line:]
    damage = guard().examine(frames)
    assert damage is not None
    assert damage.cause is Cause.TORN
    assert 0 in damage.channels


@pytest.mark.parametrize("gain", [0.5, 1.6])
def test_the_whole_set_too_dark_or_too_bright_is_exposure(gain: float) -> None:
    assert cause(np.clip(panel(2000) * gain, 0, 255).astype(np.uint8)) is Cause.EXPOSURE


def test_blur_is_focus() -> None:
    import cv2

    rng = np.random.default_rng(0)
    frames = np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in panel(2000)])
    assert cause(np.clip(frames + rng.normal(0, 1, frames.shape), 0, 255).astype(np.uint8)) is Cause.FOCUS


def test_a_large_defect_on_stripes_without_an_edge_does_not_move_the_panel() -> None:
    def stripes(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        levels = np.array([40, 50, 140, 150])[:, None, None] * rng.uniform(0.98, 1.02)
        return levels * (1 + 0.3 * np.sin(np.arange(64) * 2 * np.pi / 8)) + rng.normal(0, 1, (4, 64, 64))

    taught = Guard(learn(stripes(seed).astype(np.uint8) for seed in range(30)))
    for seed in range(100, 130):
        frames = stripes(seed)
        frames[:, 20:32, 24:36] *= 0.3
        assert taught.examine(frames.astype(np.uint8)) is None


def test_an_empty_field_is_no_panel() -> None:
    assert cause(np.random.default_rng(0).integers(8, 12, (CHANNELS, PX, PX), np.uint8)) is Cause.NO_PANEL


def test_a_shift_is_the_panels_until_it_stays_the_same() -> None:
    history = History()
    named = [cause(panel(seed, shift=(5, -3)), history) for seed in range(2000, 2001 + LASTING)]
    assert named == [Cause.DISPLACED] * LASTING + [Cause.CAMERA_MOVED]


def test_a_repeat_is_known_bit_by_bit_as_long_as_it_is_remembered() -> None:
    history = History()
    assert [cause(panel(seed), history) for seed in range(2000, 2000 + REMEMBERED)] == [None] * REMEMBERED
    assert cause(panel(2000), history) is Cause.REPEAT
    assert cause(panel(2000), History()) is None


def test_one_frame_of_an_earlier_panel_is_a_repeat_of_that_channel() -> None:
    history = History()
    assert cause(panel(2000), history) is None
    frames = panel(2001)
    frames[2] = panel(2000)[2]
    damage = guard().examine(frames, history)
    assert damage is not None
    assert (damage.cause, damage.channels) == (Cause.REPEAT, (2,))


def test_the_same_scene_with_fresh_noise_is_no_repeat() -> None:
    history, rng = History(), np.random.default_rng(1)
    frames = panel(2000).astype(float)
    for _ in range(3):
        again = np.clip(np.rint(frames + rng.normal(0, 1.5, frames.shape)), 0, 255).astype(np.uint8)
        assert cause(again, history) is None


def test_frames_without_light_are_no_repeat_of_each_other() -> None:
    history = History()
    for seed in (2000, 2001):
        frames = panel(seed)
        frames[1] = 0
        assert cause(frames, history) is Cause.LAMP


def test_16_bits_are_judged_as_8() -> None:
    """Always the same panels: one in thousands may be a false alarm, and a search would find it."""
    assert [seed for seed in range(1000, 1200) if cause(panel(seed, dtype="uint16"))] == []


@given(st.integers(1000, 9000))
def test_16_bits_have_the_signature_of_8(seed: int) -> None:
    np.testing.assert_allclose(
        signature(panel(seed)).thumbs, signature(panel(seed, dtype="uint16")).thumbs, atol=1 / 255
    )


def test_a_larger_picture_of_a_scene_has_the_same_cells() -> None:
    larger = panel(2000).repeat(7, axis=1).repeat(7, axis=2)  # 24 rows a band, of which eight are read
    exact = panel(2000).astype(float).reshape(CHANNELS, 2, PX // 2, PX).mean(axis=(2, 3)) / 255
    halves = signature(larger).thumbs.reshape(CHANNELS, 2, -1).mean(axis=2)
    np.testing.assert_allclose(halves, exact, atol=0.02)


def test_limits_survive_the_manifest() -> None:
    limits = guard().limits
    assert IntegrityLimits.model_validate_json(limits.model_dump_json()) == limits
    assert check(panel(2000), limits) is None


def test_sets_that_cannot_be_judged_are_refused_in_one_line() -> None:
    with pytest.raises(PanelError, match="at least 64 px"):
        signature(np.zeros((2, 32, 32), np.uint8))
    with pytest.raises(PanelError, match="4 were taught"):
        guard().examine(panel(1)[:3])
    with pytest.raises(PanelError, match="0 sets"):
        learn([])


def test_a_recipe_without_limits_loads_and_says_so(make_recipe: Callable[..., Recipe]) -> None:
    with open_detector(make_recipe(channels=2)) as detector:
        assert not detector.checks_integrity
        assert detector.integrity(np.zeros((2, SIZE, SIZE), np.uint8)) is None


def test_a_recipe_with_limits_checks_raw_sets(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe(channels=CHANNELS, integrity=guard().limits)
    assert recipes.load(recipe.path).manifest.integrity == guard().limits
    with open_detector(recipe) as detector:
        assert detector.checks_integrity
        assert detector.integrity(panel(2000), History()) is None
        damage = detector.integrity(panel(2000)[[1, 0, 2, 3]])
        assert damage is not None
        assert detector.channels(damage.channels) == ("c0", "c1")
        with pytest.raises(GeometryError, match="64 px"):
            detector.check(np.zeros((CHANNELS, SIZE, SIZE), np.uint8))
