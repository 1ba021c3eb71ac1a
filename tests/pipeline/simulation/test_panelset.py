"""The simulated panel set: read back with the product's own reader."""

import sys

import numpy as np
import pytest

from calibration.panels import PanelSet
from engines.errors import UsageError
from pipeline.simulation import panelset, watermark
from pipeline.simulation.panel import CHANNELS, Look

LOOK = Look(height=96, width=128)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / "shown"
    panelset.write_set(out, list(panelset.items(2, 1, 3, ("dent", "stain"))), LOOK, seed=4)
    return PanelSet(out)


def test_the_set_holds_what_was_asked_for(written):
    assert written.channels == CHANNELS
    assert [panel.name for panel in written.panels("train")] == ["0000", "0001"]
    assert [(p.defect, p.name) for p in written.panels("test")] == [
        ("good", "0000"),
        ("dent", "0000"),
        ("dent", "0001"),
        ("stain", "0000"),
    ]


def test_panels_have_masks_and_their_own_marks(written):
    marks = []
    for panel in [*written.panels("train"), *written.panels("test")]:
        frames = written.read(panel)
        assert frames.shape == (8, 96, 128) and frames.dtype == np.uint8
        mask = written.mask(panel, (96, 128))
        assert mask is not None and mask.any() == (panel.defect != "good")
        said = [watermark.read(frame) for frame in frames]
        assert [mark and mark.channel for mark in said] == list(range(8))
        marks.append({mark.panel for mark in said if mark})
    assert sorted(marks, key=min) == [{n} for n in range(6)]


def test_a_seed_writes_the_same_pixels_again(written, tmp_path):
    panelset.write_set(tmp_path / "again", list(panelset.items(1, 0, 0, ("dent",))), LOOK, seed=4)
    again = PanelSet(tmp_path / "again")
    first = next(again.panels("train"))
    np.testing.assert_array_equal(again.read(first), written.read(next(written.panels("train"))))


def test_a_folder_in_use_is_not_touched(written):
    with pytest.raises(UsageError, match="not empty"):
        panelset.write_set(written.path, [], LOOK, seed=0)


def test_the_command_writes_a_set_and_refuses_in_one_line(tmp_path, monkeypatch, capsys):
    words = ["panelset", str(tmp_path / "c"), "--good", "1", "--test-good", "0", "--defective", "1", "--size", "64"]
    monkeypatch.setattr(sys, "argv", words)
    assert ended_with(panelset.main) == 0
    assert [panel.defect for panel in PanelSet(tmp_path / "c").panels("test")] == ["scratch"]
    assert ended_with(panelset.main) == 2
    assert capsys.readouterr().err.count("\n") == 1


def ended_with(command):
    with pytest.raises(SystemExit) as ended:
        command()
    return ended.value.code
