"""What the anomaly map marks on a panel, from the map as it was kept and the recipe's limits."""

from collections.abc import Iterable
from math import sqrt

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration import overlay
from engines.decide import decide
from engines.manifest import Manifest, Tiles
from engines.scoring import Scoring

OUTLINED_PX = 1024  # the longer side at which outlines are drawn: finer ones cost time and show no more
Size = tuple[int, int]
Polygon = list[tuple[int, int]]


def mask(map: NDArray[np.float32], manifest: Manifest, size: Size) -> NDArray[np.bool_]:
    """Marked pixels, bool [H, W], of a panel of `size` that was rejected; map [h, w]."""
    inspected = Scoring(manifest, None).inspected(map, size)
    limits = manifest.limits
    rejected = np.nextafter(limits.image, np.inf)
    return decide(map, float(rejected), limits, size, None, inspected, _extent(map, manifest, size)).mask


def _extent(map: NDArray[np.float32], manifest: Manifest, size: Size) -> Size | None:
    """What a map in tiles covers: its last cells may reach beyond the panel."""
    cell = manifest.limits.cell_px
    if not isinstance(manifest.geometry, Tiles) or cell is None:
        return None
    side = round(sqrt(cell))
    return max(map.shape[0] * side, size[0]), max(map.shape[1] * side, size[1])


def outlines(map: NDArray[np.float32], manifest: Manifest, size: Size) -> list[Polygon]:
    """Closed polygons around what is marked, (x, y) in pixels of the panel."""
    scale = min(OUTLINED_PX / max(size), 1.0)
    small = (max(round(size[0] * scale), 1), max(round(size[1] * scale), 1))
    marked = mask(map, manifest, small)
    found, _ = cv2.findContours(marked.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [_enlarged(polygon[:, 0, :], size, small) for polygon in found]


def _enlarged(points: NDArray, size: Size, small: Size) -> Polygon:
    across, down = size[1] / small[1], size[0] / small[0]
    return [(round((x + 0.5) * across), round((y + 0.5) * down)) for x, y in points.tolist()]


def heat(map: NDArray[np.float32], limit: float) -> bytes:
    """A PNG [h, w] in colour: transparent at 0, the hottest as `overlay.level` has it."""
    level = overlay.level(map, limit)
    colours = cv2.cvtColor(np.asarray(cv2.applyColorMap(level, cv2.COLORMAP_INFERNO)), cv2.COLOR_BGR2BGRA)
    colours[:, :, 3] = level
    return cv2.imencode(".png", colours)[1].tobytes()


def boxed(picture: NDArray[np.uint8], boxes: Iterable[tuple[int, int, int, int]], scale: float) -> NDArray[np.uint8]:
    """Grey picture [h, w] in colour with boxes (x, y, width, height), in pixels of the panel, each 2 px out."""
    drawn = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    for x, y, width, height in boxes:
        low = (int(x * scale) - 2, int(y * scale) - 2)
        high = (int((x + width) * scale) + 2, int((y + height) * scale) + 2)
        cv2.rectangle(drawn, low, high, (0, 0, 0), 3)  # seen on bright ground too
        cv2.rectangle(drawn, low, high, (80, 200, 255), 1)
    return np.asarray(drawn, np.uint8)
