"""Is this raw set what the station took of good panels? Asked before inference, of every set.

A defect is no such fault: everything below is a median over most of a frame or over most channels, and every limit
has a floor below which nothing is called a fault.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from engines.errors import PanelError
from engines.grid import Grid
from engines.integrity_limits import IntegrityLimits, learn
from engines.reference import FEWEST_TO_VOTE, Measured, Reference
from engines.signature import Floats, Signature, middle, signature

__all__ = ["Cause", "Damage", "Guard", "History", "IntegrityLimits", "check", "learn"]

BETTER = 0.5  # another channel's reference must fit this much better
STEP_SHARE = 0.5  # of a change of brightness: a tear's step has at least this
ORDER_SHARE = 0.5  # of a lamp's limit: channels of one shape may differ by little light
DOUBTFUL = 0.5  # of the limit: a channel that may lie in another's place
REMEMBERED, LASTING = 8, 3  # sets; and how many in a row off place in one way are the camera's doing
FEIGNED_APART, FEIGNED_TURN = 0.2, 0.05  # of a shift: by how much a large one is mistaken


class Cause(StrEnum):
    """What is wrong with a set."""

    CHANNEL_ORDER = "CHANNEL_ORDER"
    LAMP = "LAMP"
    TORN = "TORN"
    REPEAT = "REPEAT"
    EXPOSURE = "EXPOSURE"
    FOCUS = "FOCUS"
    CAMERA_MOVED = "CAMERA_MOVED"
    NO_PANEL = "NO_PANEL"
    DISPLACED = "DISPLACED"


@dataclass(frozen=True)
class Damage:
    """A cause, and the channels (numbers) that show it; all of them where it is the set's."""

    cause: Cause
    channels: tuple[int, ...]


@dataclass
class History:
    """The newest sets of one station, bounded."""

    sets: deque[tuple[NDArray, Floats]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    places: deque[Floats | None] = field(default_factory=lambda: deque(maxlen=LASTING))


@dataclass(frozen=True, eq=False)
class _Place:
    """Median over the channels of shift and turn, [3]; whether it is off, and the channels that disagree with it."""

    middle: Floats
    off: bool
    turned: bool
    apart: tuple[int, ...]


class Guard:
    """`IntegrityLimits` ready for use."""

    def __init__(self, limits: IntegrityLimits) -> None:
        self.limits = limits
        self._reference = Reference(limits.thumbs(), limits.aspect)
        self._spread = np.array(limits.spread, np.float32)
        self._texture = np.array(limits.texture, np.float32).reshape(len(self._spread), -1)
        self._gain, self._shape = np.array(limits.gain_limit), np.array(limits.shape_limit)
        self._texture_limit = np.array(limits.texture_limit).reshape(self._texture.shape)
        self._step, self._rough = np.array(limits.step_limit), np.array(limits.rough_limit)
        self._bright = np.array(limits.bright_limit)
        self._pose = np.array(limits.pose, np.float32).reshape(-1, 3)
        self._pose_limit = np.array(limits.pose_limit)
        self._apart = np.array(limits.apart_limit).reshape(-1, 3)
        self._grid = Grid(limits.grid) if limits.grid else None
        self._every = tuple(range(len(self._spread)))

    def examine(self, frames: NDArray, history: History | None = None) -> Damage | None:
        """What is wrong with the raw set [C, H, W], if anything; `history` is looked into and then has the set.

        Raises:
            PanelError: another number of channels than was taught, or frames that are too small.
        """
        if len(frames) != len(self._spread):
            raise PanelError(f"a set of {len(frames)} channels; {len(self._spread)} were taught")
        return self.judge(signature(frames, self._grid.pitch if self._grid else None), history)

    def judge(self, seen: Signature, history: History | None = None) -> Damage | None:
        """As `examine`, of the signature of a set."""
        history = history or History()
        measured = self._reference.measure(seen, self._spread, self._texture)
        place = self._place(seen, measured)
        torn, moved = self._joined(seen, measured, place)
        place = replace(place, apart=place.apart or _numbers(moved))
        damage = self._damage(seen, measured, torn, place, history)
        history.sets.append((seen.rows, seen.noise))
        history.places.append(place.middle if damage and damage.cause in _PLACES else None)
        return damage

    def _damage(
        self, seen: Signature, measured: Measured, torn: NDArray[np.bool_], place: _Place, history: History
    ) -> Damage | None:
        if measured.void.all():
            return Damage(Cause.NO_PANEL, self._every)
        if again := _came_before(seen, history, self.limits.alike_limit):
            return again
        if order := self._order(seen, measured):
            return Damage(Cause.CHANNEL_ORDER, order)
        few = 0 < torn.sum() <= max(1, len(self._every) // 2)
        if few and (not place.off or len(self._every) < FEWEST_TO_VOTE):
            return Damage(Cause.TORN, _numbers(torn))
        if light := self._light(seen, measured):
            return light
        if place.off or place.apart:
            return Damage(self._place_cause(place, history), place.apart or self._every)
        if torn.any():
            return Damage(Cause.TORN, _numbers(torn))
        blurred = np.any(measured.texture < -self._texture_limit, axis=1)
        return Damage(Cause.FOCUS, _numbers(blurred)) if blurred.any() else None

    def _joined(
        self, seen: Signature, measured: Measured, place: _Place
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which frames are torn, and which show the panel a little beside the others; both [C].

        Clipped frames are left out: where they are clipped there is nothing to differ. The grid is asked where nothing
        plainer is known: of a panel that lies elsewhere, say, an edge has come into view, or gone.
        """
        clear = ~measured.void & (seen.bright <= self._bright)
        stepping = self._stepping(measured) & clear
        known_better = place.off or place.apart or measured.void.any() or stepping.any()
        if self._grid is None or seen.waves is None or known_better:
            return stepping, np.zeros_like(clear)
        torn, moved = self._grid.judge(seen.waves)
        return torn & clear, moved & clear

    def _stepping(self, measured: Measured) -> NDArray[np.bool_]:
        """Frames whose brightness or fine structure changes from one band to the next, all across.

        A tear that changes the brightness of most of a frame is a step of about as much; else a lamp did it.
        """
        torn = (measured.step > self._step) | (measured.rough > self._rough)
        change = np.abs(measured.gain - measured.common)
        explained = (change <= self._gain) | (measured.step > STEP_SHARE * change)
        return torn & explained

    def _order(self, seen: Signature, measured: Measured) -> tuple[int, ...]:
        """The channels that fit each other's references and not their own; the mean brightness knows no order."""
        mean = float(measured.gain[~measured.void].mean())
        own = self._misfit(measured.gain - mean, measured.shape, measured.texture, np.s_[:])
        doubtful = np.flatnonzero((own > DOUBTFUL) & ~measured.void)
        if len(doubtful) < 2 or own[doubtful].max() <= 1:
            return ()
        instead = {}
        for channel in doubtful.tolist():
            fits = self._fits(seen, channel, mean, doubtful)
            best = int(np.argmin(fits))
            if doubtful[best] != channel and fits[best] <= BETTER * own[channel]:
                instead[channel] = int(doubtful[best])
        whole = set(instead) == set(instead.values()) and set(doubtful[own[doubtful] > 1].tolist()) <= set(instead)
        return tuple(instead) if whole else ()

    def _fits(self, seen: Signature, channel: int, mean: float, others: NDArray) -> NDArray:
        """How badly a channel's frame fits the references of `others`."""
        gain, shape = self._reference.against(seen.thumbs[channel], others)
        texture = seen.texture[channel] - self._texture[others]
        return self._misfit(gain - mean, shape, texture, others)

    def _misfit(self, gain: NDArray, shape: NDArray, texture: NDArray, channels: NDArray | slice) -> NDArray:
        """The largest deviation in its limit; 1 is on the limit, which is tighter for light than that of a lamp."""
        of_texture = np.abs(texture / self._texture_limit[channels]).max(axis=-1)
        return np.maximum(
            np.maximum(np.abs(gain) / (ORDER_SHARE * self._gain[channels]), shape / self._shape[channels]), of_texture
        )

    def _light(self, seen: Signature, measured: Measured) -> Damage | None:
        if measured.void.any():
            return Damage(Cause.LAMP, _numbers(measured.void))
        apart = measured.gain - measured.common
        bright = (apart > self._gain) | (seen.bright > self._bright)
        if bright.any():
            return Damage(Cause.EXPOSURE, _numbers(bright))
        if abs(measured.common) > self.limits.common_limit:
            return Damage(Cause.EXPOSURE, self._every)
        dark = apart < -self._gain
        return Damage(Cause.LAMP, _numbers(dark)) if dark.any() else None

    def _place(self, seen: Signature, measured: Measured) -> _Place:
        """Where the panel lies; looked at more closely where it is not as taught."""
        place = self._placed(measured.pose, measured.void)
        if not (place.off or place.apart):
            return place
        return self._placed(self._reference.refined(seen.thumbs, measured.pose), measured.void)

    def _placed(self, pose: Floats, void: NDArray[np.bool_]) -> _Place:
        """Where the panel lies; channels and turn may differ by a part of the shift, which is known to first order."""
        if void.all():
            return _Place(np.zeros(3, np.float32), False, False, ())
        found = pose - self._pose
        middle = np.median(found[~void], axis=0)
        shift = float(np.abs(middle[:2]).max())
        apart = (np.abs(found - middle) > self._apart + FEIGNED_APART * shift).any(axis=1) & ~void
        turned = bool(abs(middle[2]) > self._pose_limit[2] + FEIGNED_TURN * shift)
        off = turned or bool((np.abs(middle[:2]) > self._pose_limit[:2]).any())
        return _Place(middle, off, turned, _numbers(apart))

    def _place_cause(self, place: _Place, history: History) -> Cause:
        """A turn, a move during the set, or one place several times in a row is the camera's; a shift the panel's."""
        before = [one for one in history.places if one is not None]
        stays = len(before) == LASTING and all((np.abs(one - place.middle) < self._pose_limit).all() for one in before)
        return Cause.CAMERA_MOVED if place.turned or stays or place.apart else Cause.DISPLACED


_PLACES = (Cause.DISPLACED, Cause.CAMERA_MOVED)


def check(frames: NDArray, limits: IntegrityLimits, history: History | None = None) -> Cause | None:
    """What is wrong with one raw set [C, H, W]; for many sets keep a `Guard`."""
    damage = Guard(limits).examine(frames, history)
    return damage.cause if damage else None


def _came_before(seen: Signature, history: History, alike: float) -> Damage | None:
    """Rows of an earlier set bit by bit, or its noise in most channels; some rows of a frame make a torn one."""
    lively = seen.rows.min(axis=2) < seen.rows.max(axis=2)
    for rows, noise in history.sets:
        if rows.shape != seen.rows.shape:
            continue
        same = (rows == seen.rows).all(axis=2) & lively
        whole = same[:, 1:-1].all(axis=1)
        if whole.any():
            return Damage(Cause.REPEAT, _numbers(whole))
        if float(middle(np.einsum("ck,ck->c", noise, seen.noise))) > alike:
            return Damage(Cause.REPEAT, tuple(range(len(rows))))
        if same.any():
            return Damage(Cause.TORN, _numbers(same.any(axis=1)))
    return None


def _numbers(chosen: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(chosen).tolist())
