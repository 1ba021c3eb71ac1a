"""Kept frames through the recipe now in use: beside what was recorded, for engineers, and changing nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from line.toy_line import write_recipe
from review_parts import CHANNELS, SIZE, config, filled, keep, row, token_of

pytest.importorskip("onnx", reason="needs the extra [int8]")

from pipeline.config import LineConfig
from pipeline.errors import NotFoundError, RefusedError
from pipeline.messages import Outcome
from pipeline.review.desk import Desk
from pipeline.review.facts import Person, Role

ENGINEER = Person(name="erin", role=Role.ENGINEER)
BRIGHT, DIM = 0, 1  # numbers of panels: their noise is above the toy recipe's limit, grey of 44 is below
ALLOWED = ["unproven_recipe", "unsigned_recipe"]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> LineConfig:
    """The toy recipe is in use for the product of two rejects; a third is of another product."""
    folder = tmp_path_factory.mktemp("again")
    write_recipe(folder / "recipe", CHANNELS)
    line = config(folder, allow=ALLOWED)
    store = filled(line, [row(BRIGHT, "REJECT"), row(DIM, "REJECT"), row(2, "REJECT", recipe="b" * 64)])
    for number in (BRIGHT, DIM, 2):
        keep(line, store, number)
    for path in (line.state / "evidence" / token_of(DIM)).glob("*.png"):
        cv2.imwrite(str(path), np.full(SIZE, 44, np.uint8))
    store.close()
    return line


@pytest.fixture
def desk(line: LineConfig) -> Iterator[Desk]:
    desk = Desk(line)
    yield desk
    desk.close()


def test_kept_frames_are_judged_by_the_recipe_in_use_and_what_was_recorded_stays(desk):
    before = [desk.panel(token_of(number)) for number in (BRIGHT, DIM)]
    bright, dim = (desk.inspect_again(ENGINEER, token_of(number)) for number in (BRIGHT, DIM))
    assert (bright.outcome, bright.fault, bright.defects > 0) == (Outcome.REJECT, None, True)
    assert (dim.outcome, dim.fault, dim.defects) == (Outcome.PASS, None, 0)
    assert dim.score == pytest.approx(44 / 255, abs=1e-3) and dim.score < dim.limit < bright.score
    assert dim.recipe not in [one.recipe.recipe for one in before] and len(dim.engine) == 64
    assert [desk.panel(token_of(number)) for number in (BRIGHT, DIM)] == before
    assert desk.audit().rows == []


def test_it_is_for_engineers(desk):
    for role in (Role.OPERATOR, Role.QUALITY):
        with pytest.raises(RefusedError, match="needs the role engineer"):
            desk.inspect_again(Person(name="eve", role=role), token_of(DIM))


def test_a_panel_of_a_product_that_nothing_inspects_now_is_refused(desk):
    with pytest.raises(RefusedError, match="no recipe in use is of the product other"):
        desk.inspect_again(ENGINEER, token_of(2))


def test_what_stands_in_the_way_is_one_line(desk, line, tmp_path):
    shutil.copytree(Path(line.recipe_paths()[1]), tmp_path / "recipe")
    (tmp_path / "recipe" / "network.onnx").write_bytes(b"x")
    for changes, said in (
        ({"recipes": {"1": str(tmp_path / "none")}}, "cannot be inspected again: .*none"),
        ({"recipes": {"1": str(tmp_path / "recipe")}}, "cannot be inspected again: .*network.onnx"),
        ({"engine": {"runtime": "onnxruntime", "precision": "int8"}}, "cannot be inspected again: .*takt build"),
        ({"cameras": [{"name": "top", "kind": "simulated", "channels": ["dark"]}]}, "was taught on bright, dark"),
    ):
        known = line.model_dump(mode="json", exclude_none=True)
        other = Desk(LineConfig.model_validate(known | {"recipes": {"1": str(line.recipe_paths()[1])}} | changes))
        with pytest.raises(RefusedError, match=said) as refused:
            other.inspect_again(ENGINEER, token_of(DIM))
        assert "\n" not in str(refused.value)
        other.close()


def test_frames_that_policy_has_deleted_are_not_there(desk, line):
    (line.state / "evidence" / token_of(BRIGHT) / "top_dark.png").unlink()
    with pytest.raises(NotFoundError, match="not all here"):
        desk.inspect_again(ENGINEER, token_of(BRIGHT))
