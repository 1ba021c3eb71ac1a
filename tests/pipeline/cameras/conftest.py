"""One rig a camera kind: how the conformance suite opens it and makes it see a panel."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.simulation import panelset
from pipeline.simulation.panel import Look
from pipeline.simulation.wire import pulse

SIZE = {"height": 80, "width": 112}
CHANNELS = ("bright_pixel", "dark_left_surface", "coaxial_surface")


@dataclass(frozen=True)
class Rig:
    """A camera kind under test; `settings` as they stand in a line file."""

    kind: str
    settings: dict
    trigger: Callable[[int], int]  # panel -> wires that listened
    wires: tuple[Path, ...] = ()


@pytest.fixture
def wire() -> Iterator[Path]:
    """A place for a trigger wire; short, because a socket's path holds 107 characters."""
    with tempfile.TemporaryDirectory(prefix="wire") as folder:
        yield Path(folder) / "w"


@pytest.fixture(scope="session")
def shown(tmp_path_factory) -> Path:
    """A simulated panel set: two panels in train, in test one good and four with defects."""
    out = tmp_path_factory.mktemp("replayed") / "set"
    wanted = list(panelset.items(2, 1, 4, ("dent", "stain")))
    panelset.write_set(out, wanted, Look(height=80, width=112), seed=1, channels=CHANNELS)
    return out


def simulated_rig(wire: Path, shown: Path) -> Rig:
    settings = {
        "wire": str(wire),
        "look": SIZE,
        "plan": {"pool_good": 2, "pool_defective": 1, "kinds": ["dent"]},
        "exposure_ms": 1.0,
    }
    return Rig("simulated", settings, lambda panel: pulse([wire], panel, time.monotonic_ns()), (wire,))


def folder_rig(wire: Path, shown: Path) -> Rig:
    settings = {"wire": str(wire), "set": str(shown), "exposure_ms": 1.0}
    return Rig("folder", settings, lambda panel: pulse([wire], panel, time.monotonic_ns()), (wire,))


RIGS = {"simulated": simulated_rig, "folder": folder_rig}
