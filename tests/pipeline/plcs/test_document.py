"""What the PLC's programmer is given is the table that the driver uses."""

import csv
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from pipeline.plcs import document, registers

DEPLOYED = Path(__file__).parents[3] / "deploy" / "plc"


@pytest.mark.parametrize("name", ["registers.md", "registers.csv", "handshake.svg"])
def test_the_committed_file_is_what_the_program_prints(name, tmp_path):
    assert document.main([str(tmp_path)]) == 0
    assert (DEPLOYED / name).read_text() == (tmp_path / name).read_text(), "python -m pipeline.plcs.document deploy/plc"


def test_the_csv_holds_every_register_once_and_without_a_gap():
    rows = list(csv.DictReader((DEPLOYED / "registers.csv").read_text().splitlines()))
    assert len(rows) == len(registers.TABLE)
    expected = 0
    for row in rows:
        assert int(row["offset"]) == expected
        assert int(row["holding_register"]) == 40_001 + expected
        expected += int(row["words"])
    assert expected == registers.COUNT


def test_the_table_for_people_names_every_offset_of_every_row():
    text = (DEPLOYED / "registers.md").read_text()
    for row in registers.TABLE:
        line = next(line for line in text.splitlines() if line.startswith("| ") and f"| `{row.name}` |" in line)
        offsets = re.findall(r"(?<=\| )\d+(?= \|)", line)
        assert offsets[row.slot or 0] == str(row.offset)


def test_the_drawing_is_well_formed_and_no_text_leaves_it():
    drawing = ElementTree.fromstring((DEPLOYED / "handshake.svg").read_text())
    width, height = float(drawing.attrib["width"]), float(drawing.attrib["height"])
    for text in drawing.iter("{http://www.w3.org/2000/svg}text"):
        room = width - float(text.attrib["x"])
        assert 0 < float(text.attrib["y"]) < height
        assert text.attrib.get("text-anchor") == "middle" or 8 * len(text.text or "") < room


def test_a_wrong_call_says_how_it_is_called(capsys):
    assert document.main([]) == 2
    assert "usage: python -m pipeline.plcs.document FOLDER" in capsys.readouterr().err
