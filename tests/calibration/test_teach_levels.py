"""takt teach with a method that leaves its levels to teaching: chosen before the folds, told in manifest and report."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

from calibration import train  # noqa: E402
from calibration.panels import PanelSet, write_panel  # noqa: E402
from engines.backbones import TEACHERS  # noqa: E402
from engines.detector import open_detector  # noqa: E402

CHANNELS = ("dark_surface", "bright_surface")
SHORT = {"height": 64, "width": 64, "schedule": {"image_passes": 48}, "levels": "auto", "choice_passes": 16}


class PowerCutError(Exception):
    """The power went."""


def write_set(folder: Path, first: int = 0, every: int = 1) -> Path:
    """Sixteen panels of two lights; from `first` every so many-th of them is written."""
    for number in range(first, 16, every):
        random = np.random.default_rng((number, every))
        columns = 1 + 0.3 * np.sin(np.arange(64) * 2 * np.pi / 8)
        frames = np.array([70, 150])[:, None, None] * columns + random.normal(0, 1, (2, 64, 64))
        write_panel(folder / "train" / "good", f"p{number:02}", frames.astype(np.uint8), CHANNELS)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the right networks, with random numbers."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(7)
    for kind, strides in (("resnet18", [4, 8, 16]), ("mobilenet_v2", [8, 16, 32])):
        trunk = TEACHERS[kind].trunk(strides)
        for layer in trunk.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        torch.save(trunk.state_dict(), folder / f"{kind}.pth")
    return folder


def teach_until(request: train.Request, phase: str | None) -> tuple[list[str], train.Taught | None]:
    """What was told, and what came of it unless the power went at `phase`."""
    told: list[str] = []

    def tell(now: str, done: int, total: int) -> None:
        told.append(now)
        if phase and now.startswith(phase):
            raise PowerCutError

    try:
        return told, train.teach(request, tell)
    except PowerCutError:
        return told, None


@pytest.mark.slow
def test_levels_are_chosen_once_and_told_in_manifest_and_report(weights: Path, tmp_path: Path) -> None:
    panels, out = PanelSet(write_set(tmp_path / "toys")), tmp_path / "recipe"
    request = train.Request(panels, out, "mixed_teacher", SHORT, weights, folds=2)
    told, nothing = teach_until(request, "fold 2")
    assert nothing is None and any(phase.startswith("levels, early4") for phase in told)
    told, taught = teach_until(request, None)
    assert taught and not any(phase.startswith("levels") for phase in told)
    manifest = taught.recipe.manifest
    levels = manifest.settings["levels"]
    assert levels and manifest.settings["second"] == "mobilenet_v2"
    assert manifest.training.facts["levels"] == " ".join(levels)
    assert all(level in str(manifest.training.facts["level_choice"]) for level in ("early4", "late32", *levels))
    assert "<h2>Levels compared</h2>" in (out / "report.html").read_text()
    with open_detector(taught.recipe) as detector:
        for golden in taught.recipe.golden:
            (found,) = detector.inspect([golden.frames])
            assert found.score == pytest.approx(golden.score, abs=1e-3)
            assert (found.score > detector.limits.image) is golden.defective


@pytest.mark.slow
def test_panels_held_out_for_the_limits_have_no_part_in_the_choice(weights: Path, tmp_path: Path) -> None:
    choices = []
    for held_out_differ in (False, True):
        place = tmp_path / str(held_out_differ)
        panels = write_set(place / "toys")
        if held_out_differ:
            write_set(panels, 1, 2)
        request = train.Request(PanelSet(panels), place / "out", "mixed_teacher", SHORT, weights, hold_out_every=2)
        teach_until(request, "network")
        choices.append((place / ".out.partial" / "work" / "levels.json").read_text())
    assert choices[0] == choices[1]
