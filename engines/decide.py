"""Map and limits -> pass or reject, mask and defects. Pure.

Pass is the positive result of a complete inspection and is stated in one place, `decide`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.recipe import Limits

CHANNEL_SHARE = 0.5
NORMAL_MAD = 1.4826  # deviation over median absolute deviation, of a normal distribution
LEAST_SPREAD = 0.5  # grey levels: half a step of the digits
SAMPLE, GOLDEN_RATIO = 1_024, 0.6180339887498949  # of the surroundings, as many are enough for a median
MOST_MASK_BYTES = 32_768  # as messages take them
MOST_DEFECTS = 64  # listed; the mask shows all


class Problem(StrEnum):
    """Why a score cannot be trusted; the panel is a reject."""

    NOT_FINITE = "NOT_FINITE"
    IMPLAUSIBLE = "IMPLAUSIBLE"
    NOT_COVERED = "NOT_COVERED"


@dataclass(frozen=True)
class Defect:
    """One connected region above the pixel limit, in pixels of the panel's own frames."""

    x: int
    y: int
    width: int
    height: int
    area_px: int
    peak: float
    channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class LowMask:
    """The defect mask at the map's resolution, a large one coarser: bits packed, each row from a new byte on."""

    height: int
    width: int
    bits: bytes

    def unpack(self) -> NDArray[np.bool_]:
        """The mask, bool [height, width]."""
        rows = np.frombuffer(self.bits, np.uint8).reshape(self.height, -1)
        return np.unpackbits(rows, axis=1, count=self.width).astype(bool)


@dataclass(frozen=True, eq=False)
class Finding:
    """What inspection says of one panel.

    `map` is [h, w] float32 at the network's resolution; `mask` is bool [H, W] at the panel's own.
    """

    passed: bool
    score: float
    limit: float
    problem: Problem | None
    defects: tuple[Defect, ...]
    mask: NDArray[np.bool_]
    low_mask: LowMask
    map: NDArray[np.float32]


def decide(
    map: NDArray[np.float32],
    score: float,
    limits: Limits,
    size: tuple[int, int],
    covered: NDArray[np.bool_] | None = None,
    inspected: NDArray[np.bool_] | None = None,
    extent: tuple[int, int] | None = None,
) -> Finding:
    """The finding for one panel of `size` (height, width) with low-resolution `map` [h, w] and `score`.

    The map covers `extent` (height, width) in pixels, from the panel's upper left corner on; None: just the panel.

    `covered` [h, w] tells which cells the network has seen; None says that its input was the whole panel.
    `inspected` [h, w] tells which cells count for the mask; None: all. Every cell must be finite all the same.
    """
    complete = covered is None or bool(covered.all())
    finite = bool(np.isfinite(score) and np.isfinite(map).all())
    passed = complete and finite and bool(limits.low <= score <= limits.image)
    problem = _problem(complete, finite, score < limits.low)
    seen = map if inspected is None or not finite else np.where(inspected, map, map[inspected].min())
    marked = _marked(seen, limits, passed) if finite else np.zeros(map.shape, bool)
    marked = marked if inspected is None else marked & inspected
    mask, defects = _regions(seen, marked, limits, size, inspected, extent or size)
    return Finding(passed, score, limits.image, problem, defects, mask, _pack(marked), map)


def _problem(complete: bool, finite: bool, below: bool) -> Problem | None:
    if not complete:
        return Problem.NOT_COVERED
    if not finite:
        return Problem.NOT_FINITE
    return Problem.IMPLAUSIBLE if below else None


def _marked(map: NDArray[np.float32], limits: Limits, passed: bool) -> NDArray[np.bool_]:
    """Cells above the pixel limit; a reject without any shows at least its highest one."""
    marked = map > limits.pixel
    return marked if passed or marked.any() else map >= map.max()


def _regions(
    map: NDArray[np.float32],
    marked: NDArray[np.bool_],
    limits: Limits,
    size: tuple[int, int],
    inspected: NDArray[np.bool_] | None,
    extent: tuple[int, int],
) -> tuple[NDArray[np.bool_], tuple[Defect, ...]]:
    if not marked.any():
        return np.zeros(size, bool), ()
    level, panel = min(limits.pixel, float(map[marked].min())), np.s_[: size[0], : size[1]]
    fine = np.asarray(cv2.resize(map, extent[::-1], interpolation=cv2.INTER_LINEAR), np.float32)[panel]
    if inspected is not None:
        fine[~_grown(inspected, extent)[panel]] = -np.inf
    mask = fine > level
    if not mask.any():  # the only marked cell lies between the pixels of a very small panel
        mask = fine >= fine.max()
    found = _connected(fine, mask)
    large = [one for one in found if one.area_px >= limits.min_area_px] or found
    return mask, tuple(sorted(large, key=lambda one: one.peak, reverse=True)[:MOST_DEFECTS])


def _grown(inspected: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The inspected cells at the panel's size; all of a panel so small that they lie between its pixels."""
    grown = cv2.resize(inspected.astype(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(grown, bool) if np.any(grown) else np.ones(size, bool)


def _connected(fine: NDArray[np.float32], mask: NDArray[np.bool_]) -> list[Defect]:
    """Regions of `mask`, looked for only where it shows something: most of a panel is nothing."""
    down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(down[0]), int(across[0])
    shown = np.s_[top : int(down[-1]) + 1, left : int(across[-1]) + 1]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask[shown].astype(np.uint8), connectivity=8)
    return [_defect(fine[shown], labels, stats[index], index, top, left) for index in range(1, count)]


def _defect(fine: NDArray[np.float32], labels: NDArray, stats: NDArray, index: int, top: int, left: int) -> Defect:
    x, y, width, height, area = (int(value) for value in stats)
    inside = np.s_[y : y + height, x : x + width]
    peak = float(fine[inside][labels[inside] == index].max())
    return Defect(left + x, top + y, width, height, area, peak)


def _pack(marked: NDArray[np.bool_]) -> LowMask:
    """At the map's resolution, or at half of it, a quarter and so on until it fits a message; no mark is lost."""
    while marked.shape[0] * -(-marked.shape[1] // 8) > MOST_MASK_BYTES:
        even = np.pad(marked, [(0, side % 2) for side in marked.shape])
        marked = even[::2, ::2] | even[1::2, ::2] | even[::2, 1::2] | even[1::2, 1::2]
    return LowMask(marked.shape[0], marked.shape[1], np.packbits(marked, axis=1).tobytes())


def with_channels(defect: Defect, frames: NDArray, names: Sequence[str]) -> Defect:
    """`defect` with the channels in which it stands out from its surroundings, strongest first; frames raw, [C, H, W].

    Contrast of a channel: the largest difference within the box from the median around it, in the deviation around it,
    all of 3x3 means, so that a single noisy pixel is no contrast (our choice, not a method's). A channel is named when
    it has at least half of the largest contrast.
    """
    contrasts = _contrasts(frames, defect)
    order = np.argsort(-contrasts, kind="stable")
    least = CHANNEL_SHARE * contrasts.max()
    return replace(defect, channels=tuple(names[at] for at in order if contrasts[at] >= least))


def _contrasts(frames: NDArray, defect: Defect) -> NDArray[np.float32]:
    """Of every channel [C]; medians are of a sample of the surroundings where these are large."""
    pad = max(6, defect.width // 2, defect.height // 2)
    top, left = max(0, defect.y - pad), max(0, defect.x - pad)
    windows = frames[:, top : defect.y + defect.height + pad, left : defect.x + defect.width + pad]
    means = np.stack([cv2.blur(window.astype(np.float32), (3, 3)) for window in windows])
    y, x = defect.y - top, defect.x - left
    box = np.s_[y : y + defect.height, x : x + defect.width]
    outside = np.ones(means.shape[1:], bool)
    outside[box] = False
    places = outside.ravel().nonzero()[0] if outside.any() else np.arange(outside.size)
    around = means.reshape(len(means), -1)[:, _sampled(places)]  # [C, n]
    median = np.median(around, axis=1, keepdims=True)
    spread = NORMAL_MAD * np.median(np.abs(around - median), axis=1) + LEAST_SPREAD
    return np.abs(means[(..., *box)] - median[..., None]).max(axis=(1, 2)) / spread


def _sampled(places: NDArray[np.intp]) -> NDArray[np.intp]:
    """At most `SAMPLE` of them, spread by a ratio that no pattern of a panel has."""
    if len(places) <= SAMPLE:
        return places
    return places[(np.arange(SAMPLE) * GOLDEN_RATIO % 1 * len(places)).astype(np.intp)]
