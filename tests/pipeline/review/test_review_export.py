"""Reviewed panels as a panel set, as `takt export` writes it and `takt teach` reads it."""

import json

import cv2
import numpy as np
import pytest
from review_parts import CHANNELS, OTHER, SIZE, config, filled, keep, row, token_of
from typer.testing import CliRunner

from calibration.panels import PanelSet
from pipeline.cli import app
from pipeline.errors import UsageError
from pipeline.review.desk import Desk
from pipeline.review.export import Order, export
from pipeline.review.facts import Finding, Person, Role, Wish
from pipeline.review.panel import Pictures
from pipeline.store.pictures import deleted

EVE = Person(name="eve", role=Role.OPERATOR)
GOOD, DUST = Wish(finding=Finding.GOOD), Wish(finding=Finding.DEFECTIVE, code="dust")


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    """Rejects 0 to 9 found good, 10 and 11 confirmed, 12 not decided, a fault, a sampled pass that escaped.

    The tests at the end of this file change it.
    """
    line = config(tmp_path_factory.mktemp("reviewed"))
    rows = [row(number, "REJECT") for number in range(13)] + [row(13, "REJECT", "LAMP"), row(14)]
    store = filled(line, rows)
    desk = Desk(line)
    for number in range(15):
        keep(line, store, number, "sample" if number == 14 else "reject")
        wish = GOOD if number < 10 or number == 13 else Wish(finding=Finding.DEFECTIVE) if number == 11 else DUST
        if number != 12:
            desk.decide(EVE, token_of(number), wish)
    yield line, store, desk
    desk.close()
    store.close()


def exported(line, store, folder, **order):
    return export(store.database, Pictures(line.state / "evidence", "front", ["top"]), Order(folder, **order), silent)


def silent(phase: str, done: int, total: int) -> None:
    """Nobody watches."""


def test_good_ones_are_taught_from_and_confirmed_ones_tested_with_their_mask(reviewed, tmp_path):
    line, store, desk = reviewed
    figures = exported(line, store, tmp_path / "set")
    found = PanelSet(tmp_path / "set")
    assert (found.product, found.channels, found.facts.mm_per_px) == ("toy", CHANNELS, 0.1)
    good = [*found.panels("train", "good"), *found.panels("test", "good")]
    assert len(good) == 10 and 0 < len(list(found.panels("train", "good"))) < 10
    assert found.defects("test") == ["good", "defect", "dust"]
    rejected, escaped = found.panels("test", "dust")
    mask = found.mask(rejected, SIZE)
    assert mask is not None and mask[22:28, 10:14].all() and not mask[:16].any() and not mask[:, 24:].any()
    assert found.mask(escaped, SIZE) is None  # nothing was marked on it
    kept = desk.picture(token_of(10), "top_dark")[0]
    assert (line.state / "evidence" / token_of(10) / "top_dark.png").read_bytes() == kept
    np.testing.assert_array_equal(found.read(rejected)[1], frame(kept))
    assert figures["panels"] == 13 and figures["written"]["test/dust"] == 2 and figures["left_out"] == {}


def frame(data: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))


def test_the_same_panels_are_kept_for_testing_every_time(reviewed, tmp_path):
    line, store, _ = reviewed
    for name in ("one", "two"):
        exported(line, store, tmp_path / name)
    names = [{path.name for path in (tmp_path / name / "test/good").iterdir()} for name in ("one", "two")]
    assert names[0] == names[1] and names[0]
    exported(line, store, tmp_path / "none", test_share=0.0)
    assert not (tmp_path / "none/test/good").exists()


def test_the_command_works_on_a_state_folder_and_writes_its_figures(reviewed, tmp_path):
    line, *_ = reviewed
    arguments = ["export", str(line.state), "--out", str(tmp_path / "set"), "--json", str(tmp_path / "f.json")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "f.json").read_text())["panels"] == 13
    later = CliRunner().invoke(app, ["export", str(line.state), "--out", str(tmp_path / "x"), "--since", "2027-01-01"])
    assert isinstance(later.exception, UsageError)
    wrong = CliRunner().invoke(app, ["export", str(line.state), "--out", str(tmp_path / "x"), "--since", "soon"])
    assert isinstance(wrong.exception, UsageError) and "no time" in str(wrong.exception)


def test_what_cannot_be_exported_is_counted_by_why(reviewed, tmp_path):
    line, store, _ = reviewed
    (line.state / "evidence" / token_of(1) / "top_dark.png").write_bytes(b"x")
    folder = line.state / "evidence" / token_of(2)
    for path in folder.glob("*.png"):
        path.unlink()
    with store.database.writing() as session:
        deleted(session, [token_of(2)])
    figures = exported(line, store, tmp_path / "set")
    assert figures["left_out"] == {"pictures are damaged": 1, "pictures are gone": 1} and figures["panels"] == 11


def test_a_set_is_of_one_product_and_of_what_was_asked_for(reviewed, tmp_path):
    line, store, desk = reviewed
    store.add_panels([row(20, "REJECT", recipe=OTHER)], {})
    keep(line, store, 20)
    desk.decide(EVE, token_of(20), GOOD)
    with pytest.raises(UsageError, match="--product other or toy"):
        exported(line, store, tmp_path / "set")
    assert exported(line, store, tmp_path / "set", product="other")["panels"] == 1
    with pytest.raises(UsageError, match="is not empty"):
        exported(line, store, tmp_path / "set", product="other")
    with pytest.raises(UsageError, match="no inspected panel"):
        exported(line, store, tmp_path / "else", product="third")
