"""The mark survives noise and never says anything false."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import UsageError
from pipeline.simulation import watermark
from pipeline.simulation.watermark import Mark, read, stamp

panels = st.integers(0, 2**32 - 1)
channels = st.integers(0, 255)


def frame(dtype: str, level: int = 120) -> np.ndarray:
    return np.full((80, 100), level * (257 if dtype == "uint16" else 1), dtype)


def with_noise(clean: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    scale = 257 if clean.dtype == np.uint16 else 1
    noise = np.random.default_rng(seed).normal(0, sigma * scale, clean.shape)
    return np.clip(clean + noise + 0.5, 0, np.iinfo(clean.dtype).max).astype(clean.dtype)


@settings(max_examples=200)
@given(
    panel=panels,
    channel=channels,
    sigma=st.floats(0, 3),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(["uint8", "uint16"]),
)
def test_the_mark_is_read_through_noise(panel, channel, sigma, seed, dtype):
    marked = frame(dtype)
    stamp(marked, panel, channel)
    assert read(with_noise(marked, sigma, seed)) == Mark(panel, channel)


@settings(max_examples=200)
@given(panel=panels, channel=channels, sigma=st.floats(3, 60), seed=st.integers(0, 99))
def test_in_heavy_noise_it_is_read_rightly_or_not_at_all(panel, channel, sigma, seed):
    marked = frame("uint8")
    stamp(marked, panel, channel)
    assert read(with_noise(marked, sigma, seed)) in (None, Mark(panel, channel))


@given(panel=panels, channel=channels, gain=st.floats(0.6, 1.4), offset=st.integers(-20, 20))
def test_it_is_read_at_another_brightness(panel, channel, gain, offset):
    marked = frame("uint8")
    stamp(marked, panel, channel)
    assert read(np.clip(marked * gain + offset, 0, 255).astype(np.uint8)) == Mark(panel, channel)


@given(first=panels, second=panels, channel=channels)
def test_whatever_it_says_it_is_as_bright_and_of_low_contrast(first, second, channel):
    one, two = frame("uint8"), frame("uint8")
    stamp(one, first, channel)
    stamp(two, second, channel)
    assert one.sum() == two.sum()
    corner = one[: watermark.HEIGHT_PX, : watermark.WIDTH_PX].astype(int)
    assert set(np.unique(corner)) == {92, 100}
    # averaged over any pair of cells nothing of the message is left
    pairs = corner.reshape(8, 3, 8, 6).mean(axis=(1, 3))
    np.testing.assert_array_equal(pairs, watermark.LEVEL)


def test_only_the_corner_is_touched():
    marked = frame("uint8")
    stamp(marked, 7, 3)
    marked[: watermark.HEIGHT_PX, : watermark.WIDTH_PX] = 120
    np.testing.assert_array_equal(marked, frame("uint8"))


@given(level=st.integers(0, 255), seed=st.integers(0, 999), noisy=st.booleans())
def test_a_frame_without_a_mark_says_nothing(level, seed, noisy):
    plain = frame("uint8", level)
    assert read(with_noise(plain, 20, seed) if noisy else plain) is None


@given(row=st.integers(0, 7), bit=st.integers(0, 7))
def test_one_wrong_bit_is_noticed(row, bit):
    marked = frame("uint8")
    stamp(marked, 123456, 5)
    rows, columns = slice(row * 3, row * 3 + 3), slice(bit * 6, bit * 6 + 6)
    marked[rows, columns] = marked[rows, columns][:, ::-1]
    assert read(marked) is None


def test_a_frame_that_is_too_small_is_refused_and_says_nothing():
    with pytest.raises(UsageError, match="no room for the mark"):
        stamp(np.zeros((20, 100), np.uint8), 1, 1)
    assert read(np.zeros((20, 100), np.uint8)) is None
