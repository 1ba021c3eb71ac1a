"""What good sets look like in raw pixels, and how far from it a set may be: learned from good sets alone."""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from engines.errors import PanelError
from engines.grid import GridLimits, Pitch, Values, find, rounded
from engines.grid import learn as learn_grid
from engines.reference import Reference
from engines.signature import CELLS, SMALLEST, Floats, Signature, band_rows, signature

SETS_FOR_PITCH = 8
ALIKE = 0.95  # least correlation of noise that a repeat has
GAIN_FLOOR, SHAPE_FLOOR, TEXTURE_FLOOR = 0.16, 0.05, 0.2  # logs of ratios
STEP_FLOOR, ROUGH_FLOOR, BRIGHT_FLOOR = 0.01, 0.1, 0.05
ROUGH_TAIL = 8.2  # deviations above its mean, of an exponential: -ln 0.0001 - 1
POSE_FLOOR = np.array([0.012, 0.012, 0.006])  # shares of the width; radians


class IntegrityLimits(BaseModel):
    """What good sets look like, and how far from it a set may be. C channels; four textures a channel.

    `reference`: mean of every cell of good panels, [C, n, n], shares of full scale as 16-bit numbers in base64.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    panels: Annotated[int, Field(ge=1)]
    reference: str
    aspect: Annotated[float, Field(gt=0)]
    spread: Values
    texture: Values
    common_limit: float  # of the brightness of the whole set, log of a ratio
    gain_limit: Values  # of a channel against the whole set
    shape_limit: Values
    texture_limit: Values
    step_limit: Values
    rough_limit: Values
    bright_limit: Values
    pose: Values  # of good panels against the reference, a channel: x, y as shares of the width, turn in radians
    pose_limit: Values  # of the channels' median
    apart_limit: Values  # of a channel against that median
    alike_limit: float
    grid: GridLimits | None = None  # sets of fewer than three channels have none, nor has what was taught before it

    def thumbs(self) -> Floats:
        """The reference, float32 [C, n, n]."""
        values = np.frombuffer(b64decode(self.reference), "<u2").reshape(-1, CELLS, CELLS)
        return values.astype(np.float32) / np.float32(65535)


@dataclass(frozen=True, eq=False)
class Seen:
    """What is kept of good sets to learn from, and the pitch of their grid, if they have one."""

    signatures: Sequence[Signature]
    pitch: Pitch | None


def see(sets: Iterable[NDArray]) -> Seen:
    """Raw sets [C, H, W]; each is let go of when its signature is taken.

    Raises:
        TooSmallError: a frame is too small.
    """
    sets = iter(sets)
    first = list(islice(sets, SETS_FOR_PITCH))
    pitch = find(first, min(band_rows(one.shape[1])[1] for one in first)) if first else None
    return Seen([signature(frames, pitch) for frames in chain(first, sets)], pitch)


def learn(sets: Iterable[NDArray]) -> IntegrityLimits:
    """Limits from raw sets [C, H, W] of good panels.

    Raises:
        PanelError: there is none, or they differ in channels.
        TooSmallError: a frame is too small.
    """
    return limits_of(see(sets))


def limits_of(good: Seen) -> IntegrityLimits:
    """A limit is the largest deviation of any good set and a margin, larger the fewer there are (our rule).

    It is never below its floor. How far the largest of many alike stands above the next is spread exponentially
    (Renyi's representation of order statistics, 1953), so that mean and deviation tell how far one in ten thousand
    stands: no limit of roughness is below that, for few sets do not show it.

    Raises:
        PanelError: there is no set, or they differ in channels.
    """
    seen, pitch = good.signatures, good.pitch
    if len({len(one.thumbs) for one in seen}) != 1:
        raise PanelError(f"integrity limits need good sets of one number of channels; there are {len(seen)} sets")
    thumbs = np.median([one.thumbs for one in seen], axis=0)
    packed = np.rint(thumbs * 65535).astype("<u2")
    aspect = float(np.median([one.aspect for one in seen]))
    spread = np.median([one.spread for one in seen], axis=0) + SMALLEST / 10
    texture = np.median([one.texture for one in seen], axis=0)
    reference = Reference(packed.astype(np.float32) / np.float32(65535), aspect)
    found = [reference.measure(one, spread, texture) for one in seen]
    margin = 1.25 + 2.5 / np.sqrt(len(seen))
    grid_margin = 1.1 + 4 / np.sqrt(len(seen))  # phases have short tails, and few sets do not show them
    rough = np.array([one.rough for one in seen])
    pose = np.array([one.pose for one in found])
    usual = np.median(pose, axis=0)
    middle = np.median(pose - usual, axis=1)
    return IntegrityLimits(
        panels=len(seen),
        reference=b64encode(packed.tobytes()).decode(),
        aspect=aspect,
        spread=rounded(spread),
        texture=rounded(texture),
        common_limit=_limit(np.array([one.common for one in found]), margin, GAIN_FLOOR)[0],
        gain_limit=_limit(np.array([one.gain - one.common for one in found]), margin, GAIN_FLOOR),
        shape_limit=_limit(np.array([m.shape for m in found]), margin, SHAPE_FLOOR),
        texture_limit=_limit(np.array([m.texture for m in found]), margin, TEXTURE_FLOOR),
        step_limit=_limit(np.array([m.step for m in found]), margin, STEP_FLOOR),
        rough_limit=_limit(rough, margin, np.maximum(ROUGH_FLOOR, rough.mean(axis=0) + ROUGH_TAIL * rough.std(axis=0))),
        bright_limit=rounded(np.max([one.bright for one in seen], axis=0) * margin + BRIGHT_FLOOR),
        pose=rounded(usual),
        pose_limit=_limit(middle, margin, POSE_FLOOR),
        apart_limit=_limit(pose - usual - middle[:, None], margin, POSE_FLOOR),
        alike_limit=_alike(seen),
        grid=learn_grid([one.waves for one in seen if one.waves is not None], pitch, grid_margin) if pitch else None,
    )


def _limit(deviations: NDArray, margin: float, floor: float | NDArray) -> tuple[float, ...]:
    return rounded(np.maximum(np.abs(deviations).max(axis=0) * margin, floor))


def _alike(seen: Sequence[Signature]) -> float:
    """Half way from the best correlation of two neighbours to that of a repeat, and not below the floor."""
    best = 0.0
    for one, other in pairwise(seen):
        if one.rows.shape == other.rows.shape:
            best = max(best, float(np.median(np.einsum("ck,ck->c", one.noise, other.noise))))
    return max(ALIKE, (1 + best) / 2)
