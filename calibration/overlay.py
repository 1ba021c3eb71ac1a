"""Pictures of what was found: grey panel, heat map over it, outline of the marked pixels."""

import cv2
import numpy as np
from numpy.typing import NDArray

HEAT_SHARE = 0.45
RED = (40, 40, 230)  # blue, green, red
FULL = 1.5  # times the pixel limit is the hottest colour


def grey(frame: NDArray) -> NDArray[np.uint8]:
    """A raw frame [H, W] as 8 bit, stretched to its own 1 to 99 % range; for looking at only."""
    low, high = np.percentile(frame, (1, 99))
    stretched = (frame.astype(np.float32) - low) * (255 / max(high - low, 1))
    return np.clip(stretched, 0, 255).astype(np.uint8)


def level(map: NDArray[np.float32], pixel_limit: float) -> NDArray[np.uint8]:
    """How hot each cell of a map [h, w] is: 0 to 255 at `FULL` times the limit, and where it is not a number."""
    hottest = FULL * pixel_limit
    share = np.clip(np.nan_to_num(map, nan=hottest) / max(hottest, 1e-9), 0, 1)
    return (share * 255).astype(np.uint8)


def heat(frame: NDArray, map: NDArray[np.float32], pixel_limit: float) -> NDArray[np.uint8]:
    """Frame [H, W] under its map [h, w], in colour: [H, W, 3], blue, green, red."""
    size = (frame.shape[1], frame.shape[0])
    shown = cv2.resize(level(map, pixel_limit), size, interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap(shown, cv2.COLORMAP_INFERNO)
    under = cv2.cvtColor(grey(frame), cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.addWeighted(under, 1 - HEAT_SHARE, colours, HEAT_SHARE, 0), np.uint8)


def outlined(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], colour: tuple[int, int, int] = RED
) -> NDArray[np.uint8]:
    """`picture` [H, W, 3] with the outline of `mask` [H, W] in place; `colour` is blue, green, red."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(picture, outlines, -1, colour, 1)
    return picture
