"""A set's signature against the mean of good panels: light, texture, tears and place, channel by channel."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.signature import CELLS, SMALLEST, Floats, Signature, middle, steps

VOID = -1.6  # log of the spread: a fifth of what a good panel has
REFINEMENTS, LARGEST_MOVE = 5, 0.25
SEEN = 0.3  # root mean square of the cells' relative change by a move of one whole width, or by one radian
FEWEST_TO_VOTE = 3  # channels: of fewer, one damaged frame moves the median


@dataclass(frozen=True, eq=False)
class Measured:
    """Deviations of a set from the reference, per channel; `pose` [C, 3]."""

    gain: Floats
    common: float
    shape: Floats
    texture: Floats  # [C, 4]
    step: Floats
    rough: Floats
    void: NDArray[np.bool_]
    pose: Floats


class Reference:
    """The mean cells of good panels, and what a small shift or turn does to them."""

    def __init__(self, thumbs: Floats, aspect: float) -> None:
        self._aspect = aspect
        self._log = np.log(thumbs + SMALLEST)
        self._level = middle(thumbs.reshape(len(thumbs), -1)) + SMALLEST
        self._relative = thumbs / self._level[:, None, None]
        self._columns = [_columns(one, aspect) for one in self._relative]
        self._solve = np.stack([np.linalg.pinv(each, rcond=1e-3)[:3] for each in self._columns]).astype(np.float32)

    def measure(self, seen: Signature, spread: Floats, texture: Floats) -> Measured:
        ratio = np.log(seen.thumbs + SMALLEST) - self._log
        gain, shape = _compared(ratio)
        return Measured(
            gain=gain,
            common=float(middle(gain)),
            shape=shape,
            texture=seen.texture - texture,
            step=steps(_own(ratio)),
            rough=seen.rough,
            void=np.log((seen.spread + SMALLEST / 10) / spread) < VOID,
            pose=self._pose(seen.thumbs, gain),
        )

    def against(self, thumb: Floats, channels: NDArray) -> tuple[Floats, Floats]:
        """Log of the gain of one frame's cells, and the usual deviation from it, against several references."""
        return _compared(np.log(thumb + SMALLEST) - self._log[channels])

    def _pose(self, thumbs: Floats, gain: Floats) -> Floats:
        """Shift in shares of the width and turn in radians of every channel, [C, 3], to first order."""
        left = thumbs / (self._level * np.exp(gain))[:, None, None] - self._relative
        return np.einsum("cpk,ck->cp", self._solve, left.reshape(len(left), -1))

    def refined(self, thumbs: Floats, pose: Floats) -> Floats:
        """`pose` [C, 3] after more steps, each from where the one before has led; takes milliseconds."""
        relative = thumbs / (middle(thumbs.reshape(len(thumbs), -1)) + SMALLEST)[:, None, None]
        return np.stack([self._followed(*each) for each in zip(range(len(pose)), relative, pose, strict=True)])

    def _followed(self, channel: int, relative: Floats, pose: Floats) -> Floats:
        for _ in range(REFINEMENTS):
            back, known = _moved_back(relative, pose, self._aspect)
            left = (back - self._relative[channel])[known]
            step = np.linalg.lstsq(self._columns[channel][known.ravel()], left, rcond=1e-3)[0][:3]
            pose = np.clip(pose + step, -LARGEST_MOVE, LARGEST_MOVE)
        return pose


def _own(ratio: Floats) -> Floats:
    """What a channel has for itself [C, n, n]: without what most channels share, which is the panel; of 3 and more."""
    if len(ratio) < FEWEST_TO_VOTE:
        return ratio
    half = len(ratio) // 2
    return ratio - np.partition(ratio, half, axis=0)[half]


def _compared(ratio: Floats) -> tuple[Floats, Floats]:
    """Median of the logs of ratios [C, n, n], and that of what deviates from it."""
    flat = ratio.reshape(len(ratio), -1)
    gain = middle(flat)
    return gain, middle(np.abs(flat - gain[:, None]))


def _columns(relative: Floats, aspect: float) -> NDArray[np.float64]:
    """How cells change with shift x, shift y and turn, beside a change of light, [n * n, 7].

    Lucas and Kanade's linear step (1981), from the reference's gradient; light: gain, offset and slope. A move that
    changes next to nothing, as along stripes, is left out: any defect would pass for it.
    """
    down, across = np.gradient(relative.astype(np.float64))
    y, x = np.mgrid[:CELLS, :CELLS] - (CELLS - 1) / 2
    moves = [-across * CELLS, -down * CELLS * aspect, -(down * x * aspect - across * y / aspect)]
    moved = [one * (float(np.sqrt((one**2).mean())) >= SEEN) for one in moves]
    light = [relative, np.ones_like(x), x / CELLS, y / CELLS]
    return np.stack([each.ravel() for each in (*moved, *light)], axis=1)


def _moved_back(cells: Floats, pose: Floats, aspect: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Cells where they would lie without the shift and turn of `pose`, and which of them were in view."""
    x, y, turn = (float(value) for value in pose)
    centre = (CELLS - 1) / 2
    matrix = np.array([[1.0, -turn / aspect, x * CELLS], [turn * aspect, 1.0, y * aspect * CELLS]])
    matrix[:, 2] += centre - matrix[:, :2].sum(axis=1) * centre
    seen = cv2.merge([cells, np.ones_like(cells)])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    back = np.asarray(cv2.warpAffine(seen, matrix, (CELLS, CELLS), flags=how), np.float32)
    return back[:, :, 0], back[:, :, 1] > 0.99
