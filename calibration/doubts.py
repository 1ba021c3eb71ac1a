"""What is wrong with a panel set although every picture can be read: constant pictures, duplicates, lost masks."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from numpy.typing import NDArray

from calibration.naming import some
from calibration.panels import GOOD, SUFFIXES, Panel, PanelSet
from engines.errors import PanelError

NAMED = 5  # of a kind; the rest are counted
MASK = "_mask"


def refuse_constant(frames: NDArray, panel: Panel, channels: Sequence[str]) -> None:
    """Refuse a good panel [C, H, W] of which a channel shows nothing.

    Raises:
        PanelError: every pixel of a channel has the same value.
    """
    for frame, name in zip(frames, channels, strict=True):
        if frame.min() == frame.max():
            raise PanelError(
                f"{panel.path}: every pixel of {name} is {frame.flat[0]}: look for a dark or overexposed picture, and"
                " record the panel again or take it out"
            )


def doubts(panels: PanelSet, split: str) -> list[str]:
    """One line for each thing to look at before `split` ("train" or "test") is used. Reads no pixel, but every file.

    Pictures with the same bytes, where at least one is of `split`; masks without a panel; for "test", defective panels
    without a mask in a set that has masks.
    """
    lines = [*_duplicates(panels, split), *_masks_alone(panels)]
    return lines + list(_unmasked(panels)) if split == "test" else lines


def _duplicates(panels: PanelSet, split: str) -> Iterator[str]:
    splits = ("train",) if split == "train" else ("train", "test")
    of_split = set(_pictures(panels, split))
    alike = _same_bytes([picture for each in splits for picture in _pictures(panels, each)])
    found = [group for group in alike if not of_split.isdisjoint(group)]
    for first, *others in found[:NAMED]:
        names = some([_named(other, panels) for other in others], NAMED)
        yield f"{_named(first, panels)} is the same picture as {names}: keep one, or record the other again"
    if len(found) > NAMED:
        yield f"{len(found) - NAMED} more pictures come twice"


def _pictures(panels: PanelSet, split: str) -> Iterator[Path]:
    for panel in panels.panels(split):
        if panel.path.is_dir():
            inside = (panel.path / name for name in sorted(entry.name for entry in panel.path.iterdir()))
            yield from (path for path in inside if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
        else:
            yield panel.path


def _same_bytes(paths: Iterable[Path]) -> list[list[Path]]:
    """Groups of two and more files of equal content; files whose sizes differ are not read."""
    sizes, contents = defaultdict(list), defaultdict(list)
    for path in paths:
        sizes[path.stat().st_size].append(path)
    for path in (path for group in sizes.values() if len(group) > 1 for path in group):
        contents[_digest(path)].append(path)
    return [group for group in contents.values() if len(group) > 1]


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError as error:
        raise PanelError(f"{path}: cannot be read: {error.strerror or error}") from None


def _masks_alone(panels: PanelSet) -> Iterator[str]:
    truth = panels.path / "ground_truth"
    for folder in sorted(entry for entry in truth.iterdir() if entry.is_dir()) if truth.is_dir() else ():
        names = {panel.name for split in ("train", "test") for panel in panels.panels(split, folder.name)}
        lost = sorted(
            path.name for path in folder.iterdir() if not path.name.startswith(".") and _of(path) not in names
        )
        if lost:
            place, names = f"test/{folder.name} or train/{folder.name}", some(lost, NAMED)
            yield f"{truth.name}/{folder.name}: no panel in {place} for {names}; a mask is <panel>{MASK}.png"


def _of(mask: Path) -> str | None:
    """The name of the panel that a mask is of; None where the file is no mask."""
    return mask.stem.removesuffix(MASK) if mask.suffix == ".png" and mask.stem.endswith(MASK) else None


def _unmasked(panels: PanelSet) -> Iterator[str]:
    truth = panels.path / "ground_truth"
    if not truth.is_dir():
        return
    for defect in panels.defects("test"):
        found = [panel.name for panel in panels.panels("test", defect)] if defect != GOOD else []
        without = [name for name in found if not (truth / defect / f"{name}{MASK}.png").is_file()]
        if without:
            names = some(without, NAMED)
            yield f"test/{defect}: {names} have no mask in ground_truth/{defect}: pixel figures leave them out"


def _named(path: Path, panels: PanelSet) -> str:
    return str(path.relative_to(panels.path))
