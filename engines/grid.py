"""A panel's own fine structure as a ruler: in all channels of one set it lies in one place, band by band.

A display's pixel matrix, or any texture that the channels share, has a phase at its strongest frequency. Where that
phase jumps inside one frame and not in the others, the frame was joined from two pictures, however alike they are;
where it is moved in one frame, the camera or the panel moved between two exposures.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Floats = NDArray[np.floating]
Waves = NDArray[np.complexfloating]

FEWEST_CHANNELS = 3  # of two, nobody knows which one moved
PARTS = 7  # of the width, overlapping by half; a tear crosses all of them, a defect does not
FEW = 2  # parts that may disagree
LITTLE_MORE = 1.3
LONGEST_PX, SHORTEST_PX = 24, 3  # a period; along, not more than the rows that are read of a band
NEAR = 0.2  # of a frequency: so far its neighbours lie
EDGE = 2  # bands at either end, which show the panel's edge
FLOORS = 0.02, 0.3  # radians; of a tear, of lying apart
NEVER = 4.0  # radians: more than any jump
CLEAR = 0.6  # of the usual amplitude: what is fainter is blurred or badly lit, and its phase is noise
FEWEST_ROWS = 4  # of a band, to tell a phase from
LARGEST_USUAL = 0.25  # radians: where good frames come so far, nothing is concluded
LEAST_SHARED = 0.7  # coherence of a channel with the others: below it the phase is mostly noise
LONGEST_TAIL = 6.0  # of the usual jump: where a good set comes further, others will come further still
TINY = np.float32(1e-9)

Values = Annotated[tuple[float, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Pitch:
    """The strongest frequency across and along, cycles per px."""

    across: float
    along: float


class GridLimits(BaseModel):
    """How far a frame's phase may jump and differ, radians; C channels, across and along.

    `reference`: waves of good panels [C, 2, n, parts] relative to the strongest channel, float16 pairs in base64; their
    size is each channel's weight. `strength`: usual amplitude; a frame that shows far less of it is not judged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    across: Annotated[float, Field(gt=0, lt=0.5)]
    along: Annotated[float, Field(gt=0, lt=0.5)]
    reference: str
    strength: Values
    tear_limit: Values
    apart_limit: Values


class Grid:
    """`GridLimits` ready for use."""

    def __init__(self, limits: GridLimits) -> None:
        self.pitch = Pitch(limits.across, limits.along)
        self._strength = np.array(limits.strength).reshape(-1, 2)
        self._tear = np.array(limits.tear_limit).reshape(-1, 2)
        self._apart = np.array(limits.apart_limit).reshape(-1, 2)
        pairs = np.frombuffer(b64decode(limits.reference), "<f2").astype(np.float32)
        self._reference = pairs.view(np.complex64).reshape(len(self._tear), 2, -1, PARTS)

    def judge(self, seen: Waves) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which channels are torn, and which lie apart from the others; both [C]."""
        clear = _strength(seen) >= CLEAR * self._strength
        tear, apart = _deviations(seen, self._reference)
        return self._beyond(0, tear, seen, self._tear, clear), self._beyond(1, apart, seen, self._apart, clear)

    def _beyond(
        self, which: int, found: Floats, seen: Waves, limit: Floats, clear: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """The channels whose deviation `found` [C, 2] is beyond a limit, the furthest first.

        The others are then compared without it.
        """
        named, left = np.zeros(len(seen), np.bool_), np.arange(len(seen))
        while (over := found * (clear[left] & (found > limit[left]))).any():
            furthest = over.max(axis=1).argmax()
            named[left[furthest]] = True
            left = np.delete(left, furthest)
            if len(left) < FEWEST_CHANNELS:
                break
            found = _deviations(seen[left], self._reference[left])[which]
        return named


def find(sets: Sequence[NDArray], depth: int) -> Pitch | None:
    """The frequencies that stand out most from their neighbours in raw sets [C, H, W]; `depth` rows are read of a band.

    None where nothing can be told from a phase: too few rows, or too few channels to compare.
    """
    if depth < FEWEST_ROWS or min(map(len, sets)) < FEWEST_CHANNELS:
        return None
    return Pitch(_standing_out(sets, -1, LONGEST_PX), _standing_out(sets, -2, depth))


def waves(read: Floats, first_rows: NDArray[np.integer], pitch: Pitch) -> Waves:
    """Amplitude and phase of every band [C, 2, n, parts] of the rows read of it [C, n, d, W]; across, then along.

    Amplitudes are in the measure of what was read.
    """
    channels, bands, depth, width = read.shape
    means = np.ascontiguousarray(read.mean(axis=2)).reshape(-1, width)
    real, imaginary = np.split(means @ _across(width, pitch.across), 2, axis=1)
    across = (real + 1j * imaginary).reshape(channels, bands, PARTS)
    rows = first_rows[:, None] + np.arange(depth)
    turning = np.exp(-2j * np.pi * pitch.along * rows) / depth
    turning -= turning.mean(axis=1, keepdims=True)  # blind to the level, as `_across` is
    levels = (read.reshape(-1, width) @ _windows(width)).reshape(channels, bands, depth, PARTS)
    along = np.einsum("cndp,nd->cnp", levels, turning)
    return np.stack([across, along], axis=1).astype(np.complex64)


def learn(seen: Sequence[Waves], pitch: Pitch, margin: float) -> GridLimits:
    """Limits from the waves of good sets: the largest deviation of any, and the margin; never below the floors."""
    every = np.array(seen)
    packed = _mean_against_strongest(every).view(np.float32).astype("<f2")
    reference = packed.astype(np.float32).view(np.complex64)
    shared = np.median([_shared(one, reference) for one in every], axis=0) >= LEAST_SHARED
    tear, apart = _limits(np.array([_deviations(one, reference) for one in every]), shared, margin)
    return GridLimits(
        across=pitch.across,
        along=pitch.along,
        reference=b64encode(packed.tobytes()).decode(),
        strength=rounded(np.median([_strength(one) for one in every], axis=0)),
        tear_limit=rounded(tear),
        apart_limit=rounded(apart),
    )


def _mean_against_strongest(every: Waves) -> Waves:
    """Mean of the sets' waves relative to the strongest channel, [C, 2, n, parts]; a weak one weighs a little more."""
    anchor = np.abs(every).mean(axis=(0, 2, 3, 4)).argmax()
    strongest = every[:, anchor : anchor + 1]
    mean = (every * np.conj(strongest) / (np.abs(strongest) + TINY)).mean(axis=0)
    usual = np.sqrt((np.abs(mean) ** 2).mean(axis=(2, 3), keepdims=True))
    weighed = (mean / (usual**1.5 + TINY)).astype(np.complex64)
    return weighed / (np.abs(weighed).max() + TINY)


def _limits(deviations: Floats, shared: NDArray[np.bool_], margin: float) -> Floats:
    """Of tear and apart, [2, C, 2], from deviations of good sets [N, 2, C, 2]; `NEVER` where they tell too little."""
    largest, floors = deviations.max(axis=0), np.array(FLOORS)[:, None, None]
    tail = np.maximum(LONGEST_TAIL * np.median(deviations, axis=0), floors)
    sure = shared & (largest <= np.minimum(tail, LARGEST_USUAL))
    return np.where(sure, np.maximum(largest * margin, floors), NEVER)


def _deviations(seen: Waves, reference: Waves) -> tuple[Floats, Floats]:
    """Largest jump of a channel's phase between the bands above and below any line, and its mean; both [C, 2].

    Relative to the other channels. A jump counts for less where few bands lie above or below (the square root of the
    shares' product), as its error grows there.
    """
    apart = _against_others(seen, reference)
    above = np.cumsum(apart, axis=2)
    whole = above[:, :, -1]
    above = above[:, :, :-1]
    count = apart.shape[2]
    lines = np.arange(1, count)
    weight = np.sqrt(lines * (count - lines)) / count
    jumps = _agreed(above * np.conj(whole[:, :, None] - above)) * weight
    return jumps.max(axis=2), _agreed(whole)


def _against_others(seen: Waves, reference: Waves) -> Waves:
    """A channel's waves, turned back by the reference and by the mean of the other channels, [C, 2, n', parts]."""
    own = (seen * np.conj(reference))[:, :, EDGE:-EDGE]
    others = own.sum(axis=0) - own
    return own * np.conj(others / (np.abs(others) + TINY))


def _shared(seen: Waves, reference: Waves) -> Floats:
    """Coherence of every channel with the others [C, 2]: 1 where all bands agree, near 0 in noise."""
    apart = _against_others(seen, reference)
    return np.abs(apart.sum(axis=(2, 3))) / (np.abs(apart).sum(axis=(2, 3)) + TINY)


def _strength(seen: Waves) -> Floats:
    """Usual amplitude [C, 2]; a panel's edge lies in few bands and parts."""
    return np.median(np.abs(seen[:, :, EDGE:-EDGE]), axis=(2, 3))


def _agreed(turns: Waves) -> Floats:
    """The angle of the parts' sum, but little more than what all but a few of them exceed; over the last axis."""
    angles = np.partition(np.angle(turns), (FEW, PARTS - 1 - FEW), axis=-1)
    most = np.maximum(np.maximum(angles[..., FEW], -angles[..., PARTS - 1 - FEW]), 0)
    total = np.abs(np.angle((turns / np.sqrt(np.abs(turns) + TINY)).sum(axis=-1)))
    return np.minimum(total, LITTLE_MORE * most)


def _standing_out(sets: Sequence[NDArray], axis: int, longest_px: int) -> float:
    """The frequency whose power is the largest multiple of its neighbours', cycles per px; periods up to a longest."""
    length = min(one.shape[axis] for one in sets)
    power = np.mean([_power(np.moveaxis(one, axis, -1)[..., :length]) for one in sets], axis=0)
    tried = np.arange(-(-length // longest_px), length // SHORTEST_PX + 1)
    reach = np.maximum((NEAR * tried).astype(int), 2)
    around = [np.median(power[max(k - far, 1) : k + far + 1]) for k, far in zip(tried, reach, strict=True)]
    return float(tried[np.argmax(power[tried] / (np.array(around) + TINY))]) / length


def _power(frames: NDArray) -> Floats:
    """Mean power spectrum of lines, every channel in its own measure, [length // 2 + 1]."""
    lines = frames[:, :: max(frames.shape[1] // 64, 1)].astype(np.float32)
    lines = (lines - lines.mean(axis=2, keepdims=True)) * np.hanning(lines.shape[2])
    power = (np.abs(np.fft.rfft(lines, axis=2)) ** 2).mean(axis=1)
    return (power / (power.sum(axis=1, keepdims=True) + TINY)).mean(axis=0)


@lru_cache(maxsize=8)
def _windows(width: int) -> Floats:
    """Parts of the width, each a raised cosine of sum 1, [W, parts]."""
    middle = np.arange(1, PARTS + 1) * width / (PARTS + 1)
    off = (np.arange(width)[:, None] + 0.5 - middle) / (width / (PARTS + 1))
    parts = np.where(np.abs(off) < 1, 0.5 + 0.5 * np.cos(np.pi * off), 0)
    return (parts / parts.sum(axis=0)).astype(np.float32)


@lru_cache(maxsize=8)
def _across(width: int, frequency: float) -> Floats:
    """Turns a row into the waves of its parts, blind to their levels; real parts, then imaginary, [W, 2 * parts]."""
    part = _windows(width)
    turning = part * np.exp(-2j * np.pi * frequency * np.arange(width))[:, None]
    turning -= part * turning.sum(axis=0)
    return np.hstack([turning.real, turning.imag]).astype(np.float32)


def rounded(values: Floats) -> tuple[float, ...]:
    """All values in a row, as they are kept in a recipe."""
    return tuple(round(float(value), 6) for value in np.ravel(values))
