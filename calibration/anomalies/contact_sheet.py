"""A contact sheet: every kind of synthetic defect on one panel, as it looks in the set's channels."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration import overlay
from calibration.anomalies.drawing import KINDS, Drawn, draw
from calibration.anomalies.shapes import Rng

SIDE, BAR = 128, 16  # px of a picture and of the text above it
MOST_CHANNELS = 8

Picture = NDArray[np.uint8]


def sheet(frames: NDArray, rng: Rng, channels: Sequence[str] | None = None) -> Picture:
    """Every kind on the panel `frames` [C, H, W], as BGR [h, w, 3]: a row a kind, a column a channel, at most eight.

    Each picture is the defect's surroundings; a green frame says that the defect shows in that channel. The last
    column is the label over the whole panel.
    """
    names = list(channels or map(str, range(len(frames))))
    rows = [_row(draw(frames, rng, kind, channels), names) for kind in KINDS]
    return np.concatenate(rows)


def _row(drawn: Drawn, names: Sequence[str]) -> Picture:
    part = _around(drawn.mask)
    shown = [
        _titled(_framed(overlay.grey(frame)[part], bool(visible)), name)
        for name, frame, visible in zip(names, drawn.frames, drawn.visible, strict=True)
    ]
    label = _small(drawn.mask.astype(np.uint8) * 255)
    return np.concatenate([*shown[:MOST_CHANNELS], _titled(label, f"{drawn.kind} {drawn.contrast:.2f}")], axis=1)


def _around(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """A square about the label, with as much again around it, inside the panel."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    side = min(max(2 * width, 2 * height, 32), *mask.shape)
    row = int(np.clip(top + height // 2 - side // 2, 0, mask.shape[0] - side))
    column = int(np.clip(left + width // 2 - side // 2, 0, mask.shape[1] - side))
    return slice(row, row + side), slice(column, column + side)


def _framed(grey: Picture, visible: bool) -> Picture:
    picture = _small(grey)
    if visible:
        cv2.rectangle(picture, (0, 0), (SIDE - 1, SIDE - 1), (0, 160, 0), 2)
    return picture


def _small(grey: Picture) -> Picture:
    scaled = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_GRAY2BGR), np.uint8)


def _titled(picture: Picture, title: str) -> Picture:
    bar = np.full((BAR, SIDE, 3), 255, np.uint8)
    cv2.putText(bar, title, (2, BAR - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([bar, picture])
