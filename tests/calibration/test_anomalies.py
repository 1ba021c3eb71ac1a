"""Synthetic defects change what their mask says, in every channel, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration import anomalies


@given(st.sampled_from(sorted(anomalies.KINDS)), st.integers(0, 2**32), st.sampled_from([np.uint8, np.uint16]))
def test_the_mask_is_where_pixels_changed(kind: str, seed: int, dtype: type) -> None:
    level = np.iinfo(dtype).max // 3
    frames = np.full((3, 96, 80), level, dtype)
    drawn = anomalies.draw(frames, np.random.default_rng(seed), kind)
    assert (frames == level).all()
    assert drawn.frames.dtype == dtype and drawn.kind == kind
    change = np.abs(drawn.frames.astype(float) - level) / level
    assert (change[:, ~drawn.mask] <= anomalies.LEAST_CHANGE + 1e-6).all()
    assert drawn.mask.sum() < drawn.mask.size / 4


@pytest.mark.parametrize("kind", sorted(anomalies.KINDS))
def test_a_defect_shows_and_depends_only_on_the_seed(kind: str) -> None:
    frames = np.full((4, 128, 128), 120, np.uint8)
    signs = set()
    for seed in range(20):
        one = anomalies.draw(frames, np.random.default_rng(seed), kind)
        other = anomalies.draw(frames, np.random.default_rng(seed), kind)
        np.testing.assert_array_equal(one.frames, other.frames)
        assert (one.frames != 120).any()
        change = one.frames.astype(int).sum(axis=(1, 2)) - frames.astype(int).sum(axis=(1, 2))
        signs.add(len(set(np.sign(change).tolist())))
    assert signs >= {1, 2}  # alike in every channel, as pigment, or not, as relief
