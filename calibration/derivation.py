"""Panels of a set for deriving an engine's graph, and for judging what it changed."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from calibration.panels import GOOD, PanelSet, read_panel
from engines.derivation import Labelled
from engines.recipe import Manifest

ENOUGH = 64


def calibrating(panels: PanelSet, manifest: Manifest, most: int = ENOUGH) -> Iterator[NDArray]:
    """Up to `most` panels of train/good, spread over the set: raw frames [C, H, W] of the recipe's channels.

    Raises:
        PanelError: a panel lacks a channel, or cannot be read.
    """
    found = list(panels.panels("train", GOOD))
    chosen = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int)) if found else []
    return (read_panel(found[index].path, _names(manifest), others=True) for index in chosen)


def judging(panels: PanelSet, manifest: Manifest) -> Iterator[Labelled]:
    """The panels of test/, good ones and defective ones.

    Raises:
        PanelError: a panel lacks a channel, or cannot be read.
    """
    for panel in panels.panels("test"):
        frames = read_panel(panel.path, _names(manifest), others=True)
        yield Labelled(f"{panel.defect}/{panel.name}", panel.defect != GOOD, frames)


def _names(manifest: Manifest) -> list[str]:
    return [channel.name for channel in manifest.channels]
