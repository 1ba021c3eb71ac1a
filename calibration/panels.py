"""The panel set on disk: the one reader and the one writer.

    <set>/train/good/<panel>                        normal panels only
    <set>/test/good/<panel>  <set>/test/<defect>/<panel>
    <set>/ground_truth/<defect>/<panel>_mask.png    0/255
    <set>/set.toml                                  optional: channels, product, mm_per_px, zones

A panel is one picture (grey: one channel; colour: red, green, blue) or a folder with one grey picture a channel.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cv2.utils import logging as log
from numpy.typing import NDArray

from engines.errors import PanelError, UsageError
from engines.settings import read_toml
from engines.zones import Zones, zones_of

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
GREY = ("grey",)
COLOUR = ("red", "green", "blue")
GOOD = "good"

Frames = NDArray[Any]  # uint8 or uint16; checked where a picture is decoded


@dataclass(frozen=True)
class Panel:
    """Where one panel lies; its pixels are read only when asked for. `defect` is "good" for a normal one."""

    name: str
    defect: str
    path: Path
    channels: tuple[str, ...] | None = None  # None: as the picture has them


@dataclass(frozen=True)
class SetFacts:
    """What `set.toml` says; everything is optional."""

    product: str = ""
    mm_per_px: float | None = None
    channels: tuple[str, ...] | None = None
    zones: Zones | None = None
    specimen: re.Pattern[str] | None = None  # its group is the same in the names of all image sets of one specimen


class PanelSet:
    """A panel set on disk, read lazily. With `channels`, those alone are read, whatever others there are.

    Raises:
        PanelError: there is no such folder, or its `set.toml` cannot be used.
    """

    def __init__(self, path: Path, channels: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        self._chosen = tuple(channels) if channels else None
        if not self.path.is_dir():
            raise PanelError(f"{self.path}: no such panel set; give a folder that holds train/good or test/")
        self.facts = _facts(self.path / "set.toml")
        self.product = self.facts.product or self.path.resolve().name

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """Channel names in order: those chosen, those of `set.toml`, or those of the first panel."""
        if self._chosen:
            return self._chosen
        if self.facts.channels:
            return self.facts.channels
        first = next(self._found("train", GOOD), None) or next(self._everything(), None)
        if first is None:
            raise PanelError(f"{self.path}: holds no panels; expected pictures or folders in train/good")
        return channel_names(first)

    def specimens(self, names: Sequence[str]) -> tuple[str, ...]:
        """Of which specimen each of the image sets `names` is, itself where the pattern does not fit; () without one.

        Raises:
            PanelError: the pattern fits none of them.
        """
        pattern = self.facts.specimen
        if pattern is None:
            return ()
        found = [match[1] if (match := pattern.search(name)) else None for name in names]
        if names and not any(found):
            raise PanelError(f"{self.path}/set.toml: specimen fits no name, such as {names[0]}; correct it")
        return tuple(group or name for group, name in zip(found, names, strict=True))

    def defects(self, split: str) -> list[str]:
        """Names of the folders in `split`, good first."""
        folder = self.path / split
        names = {entry.name for entry in folder.iterdir() if entry.is_dir()} if folder.is_dir() else set()
        return sorted(names, key=lambda name: (name != GOOD, natural(name)))

    def panels(self, split: str, defect: str | None = None) -> Iterator[Panel]:
        """The panels of `split`, in natural order; all kinds, or those of one `defect` folder."""
        for kind in [defect] if defect else self.defects(split):
            for path in self._found(split, kind):
                yield Panel(path.stem if path.is_file() else path.name, kind, path, self.channels)

    def read(self, panel: Panel) -> Frames:
        """Pixels of `panel`, [C, H, W], uint8 or uint16, in the set's channel order; see `read_panel`."""
        return read_panel(panel.path, panel.channels, self._chosen is not None)

    def mask(self, panel: Panel, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Ground truth of `panel`, bool [H, W]; all False for a good one, None where there is none."""
        if panel.defect == GOOD:
            return np.zeros(shape, bool)
        path = self.path / "ground_truth" / panel.defect / f"{panel.name}_mask.png"
        return _read_mask(path, shape) if path.is_file() else None

    def _found(self, split: str, defect: str) -> Iterator[Path]:
        folder = self.path / split / defect
        if folder.is_dir():
            yield from sorted(filter(_is_panel, folder.iterdir()), key=lambda path: natural(path.name))

    def _everything(self) -> Iterator[Path]:
        for split in ("train", "test"):
            for defect in self.defects(split):
                yield from self._found(split, defect)


def read_panel(path: Path, channels: Sequence[str] | None = None, others: bool = False) -> Frames:
    """Pixels of the panel at `path`, [C, H, W], uint8 or uint16, in the order of `channels` where given.

    With `others`, the panel may have more channels than those.

    Raises:
        PanelError: a picture is missing, damaged or of another depth, the channels differ in size or depth, or
            they are not those asked for.
    """
    if path.is_dir():
        return _read_folder(path, channels, others)
    planes, names = _planes(_decode(path), path)
    if channels is not None and others and set(channels) <= set(names):
        return planes[[names.index(name) for name in channels]]
    if channels is not None and tuple(channels) != names:
        raise PanelError(f"{path}: has channels {', '.join(names)}; expected {', '.join(channels)}")
    return planes


def channel_names(path: Path) -> tuple[str, ...]:
    """Channel names of the panel at `path`, in natural order."""
    if path.is_dir():
        return tuple(_pictures(path))
    return _planes(_decode(path), path)[1]


def panels_at(path: Path, channels: Sequence[str]) -> list[Path]:
    """The panels that `path` means: itself, or those inside where it is a folder of panels.

    Raises:
        PanelError: there is nothing, or the folder holds none.
    """
    if not path.exists():
        raise PanelError(f"{path}: no such picture or folder")
    one_picture = tuple(channels) in (GREY, COLOUR)
    if path.is_file() or not (one_picture or any(entry.is_dir() for entry in path.iterdir())):
        return [path]
    inside = sorted(filter(_is_panel, path.iterdir()), key=lambda each: natural(each.name))
    if not inside:
        raise PanelError(f"{path}: holds no panel; give a picture, a panel folder or a folder of them")
    return inside


def write_panel(
    folder: Path,
    name: str,
    frames: Frames,
    channels: Sequence[str] | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> Path:
    """Write `frames` [C, H, W] as panel `name` of `folder` (`<set>/<split>/<defect>`) and return where it lies.

    One channel, or red, green and blue, become one picture; anything else a folder with a picture a channel.
    A `mask` [H, W] goes to the set's `ground_truth`.

    Raises:
        PanelError: the number of names and channels differ, or the disk refuses.
    """
    names = tuple(channels or (GREY if len(frames) == 1 else ()))
    if len(names) != len(frames):
        raise PanelError(f"{name}: {len(frames)} channels but {len(names)} names")
    if mask is not None:
        truth = folder.parents[1] / "ground_truth" / folder.name
        _encode(truth / f"{name}_mask.png", mask.astype(np.uint8) * 255)
    if names in (GREY, COLOUR):
        picture = frames[0] if names == GREY else np.moveaxis(frames[::-1], 0, 2)
        return _encode(folder / f"{name}.png", picture)
    for channel, frame in zip(names, frames, strict=True):
        _encode(folder / name / f"{channel}.png", frame)
    return folder / name


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts exp2 before exp10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _is_panel(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return path.is_dir() or path.suffix.lower() in SUFFIXES


def _pictures(folder: Path) -> dict[str, Path]:
    found = [path for path in folder.iterdir() if path.is_file() and _is_panel(path)]
    pictures = {path.stem: path for path in sorted(found, key=lambda path: natural(path.name))}
    if not pictures:
        raise PanelError(f"{folder}: holds no picture; expected one image file a channel")
    if len(pictures) < len(found):
        raise PanelError(f"{folder}: two pictures of one channel name; keep one file a channel")
    return pictures


def _read_folder(folder: Path, channels: Sequence[str] | None, others: bool) -> Frames:
    pictures = _pictures(folder)
    names = tuple(channels or pictures)
    missing = [name for name in names if name not in pictures]
    surplus = [] if others else [name for name in pictures if name not in names]
    if missing or surplus:
        what = f"channel {missing[0]} is missing" if missing else f"channel {surplus[0]} is not expected"
        raise PanelError(f"{folder}: {what}; a panel has {', '.join(names)}")
    frames = [_grey(pictures[name]) for name in names]
    for name, frame in zip(names, frames, strict=True):
        if frame.shape != frames[0].shape or frame.dtype != frames[0].dtype:
            first, this = _describe(frames[0]), _describe(frame)
            raise PanelError(f"{pictures[name]}: is {this}, but {names[0]} is {first}; channels must agree")
    return np.stack(frames)


def _grey(path: Path) -> Frames:
    planes, names = _planes(_decode(path), path)
    if names != GREY:
        raise PanelError(f"{path}: is a colour picture; a panel folder holds one grey picture a channel")
    return planes[0]


def _planes(picture: Frames, path: Path) -> tuple[Frames, tuple[str, ...]]:
    if picture.ndim == 2:
        return picture[None], GREY
    if picture.shape[2] == 3:
        return np.ascontiguousarray(np.moveaxis(picture[:, :, ::-1], 2, 0)), COLOUR
    raise PanelError(f"{path}: has {picture.shape[2]} layers; save it as grey or as colour without transparency")


def _decode(path: Path) -> Frames:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise PanelError(f"{path}: cannot be read: {error.strerror or error}") from None
    log.setLogLevel(log.LOG_LEVEL_SILENT)  # the one line we raise says it all
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if _ends(data.tobytes()) else None
    if picture is None:
        raise PanelError(f"{path}: is empty, truncated or no picture ({data.size} bytes); copy it again")
    if picture.dtype not in (np.uint8, np.uint16):
        raise PanelError(f"{path}: has {picture.dtype} pixels; save it with 8 or 16 bits a channel")
    return picture


def _ends(data: bytes) -> bool:
    """Whether there is anything, and a PNG has its end: its library would speak on stderr for itself."""
    return bool(data) and (b"IEND" in data or not data.startswith(b"\x89PNG"))


def _encode(path: Path, picture: NDArray) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imencode(path.suffix, picture)[1].tofile(path)
    except OSError as error:
        raise PanelError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path


def _read_mask(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = _decode(path)
    if mask.ndim == 3:
        mask = mask[:, :, :3].max(axis=2)
    if mask.shape != shape:
        raise PanelError(f"{path}: is {_describe(mask)}, but its panel is {shape[1]}x{shape[0]}")
    return mask > np.iinfo(mask.dtype).max // 2


def _describe(frame: NDArray) -> str:
    return f"{frame.shape[1]}x{frame.shape[0]} {frame.dtype}"


def _facts(path: Path) -> SetFacts:
    if not path.is_file():
        return SetFacts()
    said = read_toml(path, str(path), PanelError)
    unknown = sorted(set(said) - {"product", "mm_per_px", "channels", "zones", "specimen"})
    if unknown:
        raise PanelError(
            f"{path}: unknown setting {unknown[0]}; there is product, mm_per_px, channels, zones and specimen"
        )
    more = {"zones": _zones(said.get("zones"), path), "specimen": _specimen(said.get("specimen"), path)}
    return replace(_checked_facts(said, path), **more)


def _specimen(said: Any, path: Path) -> re.Pattern[str] | None:
    if said is None:
        return None
    try:
        pattern = re.compile(said)
    except (re.error, TypeError) as error:
        raise PanelError(f"{path}: specimen must be a regular expression: {error}") from None
    if not isinstance(said, str) or pattern.groups != 1:
        raise PanelError(f"{path}: specimen must have one group, the specimen's name, such as '^(panel[0-9]+)_'")
    return pattern


def _zones(said: Any, path: Path) -> Zones | None:
    if said is None:
        return None
    if not isinstance(said, dict):
        raise PanelError(f"{path}: zones must be a table with inspect or ignore")
    try:
        return zones_of(said, f"{path}: zones")
    except UsageError as error:
        raise PanelError(str(error)) from None


def _checked_facts(said: dict, path: Path) -> SetFacts:
    product, scale, channels = said.get("product", ""), said.get("mm_per_px"), said.get("channels")
    if not isinstance(product, str):
        raise PanelError(f"{path}: product must be a text")
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int | float) or scale <= 0):
        raise PanelError(f"{path}: mm_per_px must be a number above 0")
    if channels is None:
        return SetFacts(product, scale)
    if not isinstance(channels, list) or not channels or not all(isinstance(name, str) for name in channels):
        raise PanelError(f"{path}: channels must be a list of names")
    if len(set(channels)) < len(channels):
        raise PanelError(f"{path}: channels names one channel twice")
    return SetFacts(product, scale, tuple(channels))
