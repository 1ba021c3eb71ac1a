"""What limits of the raw check cost is told when they are learnt: each good set is asked by limits from the others."""

from pathlib import Path

import numpy as np
import pytest

from calibration.injector import Material, case, inject
from calibration.integrity import Learned, learned
from calibration.panels import PanelSet, write_panel
from engines.integrity import Cause
from pipeline.simulation import panel, watermark
from pipeline.simulation.panel import CHANNELS, Look

LIGHTS = tuple(panel.split_channel(name)[0] for name in CHANNELS)
GOOD = 24


def drawn(number: int) -> np.ndarray:
    return watermark.stamp_set(panel.render(6_000_000 + number, Look()).frames, number)


def taught(folder: Path, sets: list[np.ndarray]) -> Learned:
    for number, frames in enumerate(sets):
        write_panel(folder / "train" / "good", f"{number:02}", frames, CHANNELS)
    found = learned(PanelSet(folder), CHANNELS, lambda phase, done, total: None)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def sets() -> list[np.ndarray]:
    return [drawn(number) for number in range(GOOD)]


def test_of_undamaged_sets_none_is_refused_and_what_is_to_come_is_bounded(
    tmp_path: Path, sets: list[np.ndarray]
) -> None:
    found = taught(tmp_path, sets)
    assert (found.refused, found.said()) == ((), None)
    assert found.figures() == {"k": 0, "n": GOOD, "upper95": pytest.approx(1 - 0.05 ** (1 / GOOD))}


def test_a_torn_set_among_the_good_is_named_with_what_to_do(tmp_path: Path, sets: list[np.ndarray]) -> None:
    torn = inject(
        case(Cause.TORN, "next exposure below"), Material(sets[5], sets[4], sets[6], LIGHTS), np.random.default_rng(0)
    )
    found = taught(tmp_path, [*sets[:5], torn, *sets[6:]])
    assert ("05", Cause.TORN) in found.refused
    said = found.said()
    assert said is not None
    assert said.startswith("train/good: ") and "05 (TORN)" in said and "take out" in said


def test_one_set_alone_tells_nothing_of_others(tmp_path: Path, sets: list[np.ndarray]) -> None:
    assert taught(tmp_path, sets[:1]).figures() == {"k": 0, "n": 0, "upper95": 1.0}
