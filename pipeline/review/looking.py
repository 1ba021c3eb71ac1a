"""Pictures as a browser takes them."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from pipeline.errors import NotFoundError
from pipeline.review import marking
from pipeline.review.panel import Pictures, one
from pipeline.review.recipes import Known, Recipes
from pipeline.store.tables import Panel, Picture

JPEG, PNG = "image/jpeg", "image/png"
QUALITY = 90
MOST_BOXES = 10
HELD, HELD_S = 256, 30.0  # panels in memory, and for how long
Kind = Literal["png", "jpeg"]
Sent = tuple[bytes, str]  # and its media type


@dataclass(frozen=True)
class Kept:
    """A panel of which pictures were kept. None of this changes; whether they still lie there, the disk says."""

    panel: Panel
    picture: Picture
    recipe: Known


def found(session: Session, known: Recipes, token: str) -> Kept:
    """Raises NotFoundError: there is no such panel, or nothing was kept of it."""
    panel, picture = one(session, token), session.get(Picture, token)
    if picture is None:
        raise NotFoundError(
            f"panel {token[:32]}: no pictures were kept: {panel.evidence_dropped or 'it was not to be'}"
        )
    return Kept(panel, picture, known.of(session, panel.recipe))


class Recent:
    """What was found of the panels that people look at now: a page asks for a dozen pictures of each."""

    def __init__(self, find: Callable[[str], Kept], clock: Callable[[], float] = time.monotonic) -> None:
        self._find, self._clock = find, clock
        self._kept: OrderedDict[str, tuple[float, Kept]] = OrderedDict()
        self._one = threading.Lock()

    def __call__(self, token: str) -> Kept:
        """Raises NotFoundError as `found` does, which is not kept: pictures may come after their panel."""
        with self._one:
            at, kept = self._kept.get(token, (-HELD_S, None))
        if kept is None or self._clock() - at >= HELD_S:
            kept = self._find(token)
            with self._one:
                self._kept[token] = (self._clock(), kept)
                while len(self._kept) > HELD:
                    self._kept.popitem(last=False)
        return kept


def thumb(own: Pictures, kept: Kept, name: str) -> Sent:
    """The small picture with its defects boxed; without a name that of the channel which shows the first one best."""
    panel, picture = kept.panel, kept.picture
    files = own.files(picture)
    name = name or _best(own, panel, list(files))
    small = files.get(name, (None, None))[1]
    if small is None:
        raise NotFoundError(f"panel {picture.token[:32]}: has no thumbnail {name[:64]!r}")
    pixels = _decoded(small, cv2.IMREAD_GRAYSCALE)
    scale = pixels.shape[1] / (picture.width or pixels.shape[1])
    boxes = [tuple(int(box.get(key, 0)) for key in ("x", "y", "width", "height")) for box in panel.defects[:MOST_BOXES]]
    drawn = marking.boxed(pixels, boxes, scale) if boxes else pixels  # pyright: ignore[reportArgumentType]
    return cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes(), JPEG


def _best(own: Pictures, panel: Panel, names: list[str]) -> str:
    wanted = [channel for defect in panel.defects for channel in defect.get("channels", [])][:1]
    shown = [name for name in names if own.parts(name)[1] in wanted]
    return next(iter([*shown, *names]), "")


def picture(own: Pictures, kept: Picture, name: str, kind: Kind) -> Sent:
    """One channel at full resolution: as it was kept, or in 8 bits for looking at."""
    full = own.files(kept).get(name, (None, None))[0]
    if full is None:
        raise NotFoundError(f"panel {kept.token[:32]}: has no picture {name[:64]!r}, or policy has deleted it")
    if kind == "png":
        return _read(full), PNG
    pixels = _decoded(full, cv2.IMREAD_UNCHANGED)
    bits = max(int(pixels.max()).bit_length(), 8)
    eight = (pixels >> (bits - 8)).astype(np.uint8)
    return cv2.imencode(".jpg", eight, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes(), JPEG


def anomalies(own: Pictures, kept: Picture) -> NDArray[np.float32]:
    """The map [h, w] as it was kept, in half precision.

    Raises:
        NotFoundError: there is none.
    """
    path = own.map_of(kept)
    if path is None:
        raise NotFoundError(f"panel {kept.token[:32]}: has no anomaly map, or policy has deleted it")
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["map"].astype(np.float32)
    except (OSError, ValueError, KeyError):
        raise NotFoundError(f"{path}: is no anomaly map any more") from None


def heat(own: Pictures, kept: Kept) -> Sent:
    map = anomalies(own, kept.picture)
    limit = kept.recipe.content.get("limits", {}).get("pixel") or float(np.nanmax(map))
    return marking.heat(map, float(limit)), PNG


def outlines(own: Pictures, kept: Kept) -> list[marking.Polygon]:
    """Around what the map marks; boxes of the defects where the recipe is not known here."""
    manifest, picture, defects = kept.recipe.manifest, kept.picture, kept.panel.defects
    if manifest is not None and picture.height and picture.width and own.map_of(picture):
        size = (picture.height, picture.width)
        return marking.outlines(anomalies(own, picture), manifest, size) if defects else []
    return [_box(defect) for defect in defects]


def _box(defect: dict) -> marking.Polygon:
    x, y, width, height = (int(defect.get(name, 0)) for name in ("x", "y", "width", "height"))
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFoundError(f"{path}: cannot be read: {error.strerror}") from None


def _decoded(path: Path, how: int) -> NDArray:
    pixels = cv2.imdecode(np.frombuffer(_read(path), np.uint8), how)
    if pixels is None:
        raise NotFoundError(f"{path}: is no picture any more")
    return np.asarray(pixels)
