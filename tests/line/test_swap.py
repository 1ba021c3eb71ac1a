"""Another recipe takes over on a line at work: each verdict is by the recipe of its trigger, nothing is late or lost.

The second recipe is the first with other limits: it rejects every panel, so that an outcome shows who gave it.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import signers
import toy_line
from harness import LAGGING, PATIENCE_S, Line, assert_accounted, assert_every_pass_was_inspected
from test_kills import ENDLESS

from engines import recipe as recipes
from pipeline import wishes
from pipeline.keys import signer_key
from pipeline.signatures import sign

PATIENT = {"silent_s": 60}  # with a stage that stands still while a command starts
LOSSES = LAGGING | {
    "CRASH",
    "MISSED_TRIGGER",
    "OVERRUN",
    "REFUSED",
    "UNACKNOWLEDGED",
}  # of a stage that is killed or stands still
STRICT = 40 / 255  # below every good panel's score, above the recipe's lower bound
Asked = subprocess.CompletedProcess[str]


@pytest.fixture
def strict(recipe: Path, tmp_path: Path) -> Path:
    """Rejects every panel."""
    return with_limit(recipe, tmp_path / "strict", STRICT)


def with_limit(recipe: Path, folder: Path, image: float) -> Path:
    limits = recipes.load(recipe).manifest.limits
    toy_line.write_recipe(folder, limits=limits.model_copy(update={"image": image}))
    return folder


def takt(*arguments: object) -> subprocess.Popen[str]:
    """`takt recipe` in a process of its own."""
    command = [sys.executable, "-m", "pipeline.cli", "recipe", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(line: Line, process: subprocess.Popen[str]) -> Asked:
    """Its end, while the line is watched."""
    line.until(lambda: process.poll() is not None, "the command's end")
    out, complaints = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, complaints)


def use(line: Line, recipe: Path) -> Asked:
    return ended(line, takt("use", line.config.source, 1, recipe))


def until_judged_by(line: Line, recipe: Path, instead_of: str = "") -> None:
    """Wait for a panel that was inspected by this recipe and triggered after now."""
    before = {record["token"] for record in line.records("trigger")}
    name = recipes.load(recipe).hash

    def found() -> bool:
        outcomes = line.records("outcome")
        return any(one["recipe"] == name and not one["fault"] and one["token"] not in before for one in outcomes)

    line.until(found, f"a panel that was inspected by {recipe.name}")


def row(line: Line) -> wishes.Row:
    table = wishes.standing(line.config)
    assert table
    return table.rows["1"]


def assert_each_by_its_triggers(line: Line, *, killed: bool = False) -> None:
    """Trigger, verdict and outcome of every panel name one recipe, and the verdict's limit is that recipe's."""
    line.supervisor.stop()
    count = assert_accounted(line.config)
    assert_every_pass_was_inspected(line.config)
    assert count.faults.keys() <= (LOSSES if killed else LAGGING) | {"STOPPED"}, count.faults
    asked = {record["token"]: record["recipe"] for record in line.records("trigger")}
    limits: dict[str, set[float]] = {}
    for record in line.records("verdict"):
        assert record["recipe"] == asked[record["token"]]
        if not record["fault"]:
            limits.setdefault(record["recipe"], set()).add(record["limit"])
    assert all(len(each) == 1 for each in limits.values()), limits
    assert all(record["recipe"] == asked[record["token"]] for record in line.records("outcome"))


def test_there_and_back_under_load(start: Callable[..., Line], recipe: Path, strict: Path) -> None:
    line = start(conveyor=ENDLESS)
    line.until_all_up()
    line.until_passing_again()
    done = use(line, strict)
    assert done.returncode == 0, done
    assert done.stdout.startswith(f"recipe 1: {recipes.load(strict).hash[:12]} in use")
    until_judged_by(line, strict)
    assert ended(line, takt("back", line.config.source, 1)).returncode == 0
    until_judged_by(line, recipe)
    line.until_passing_again()
    assert_each_by_its_triggers(line)
    swaps = [(record["from"]["recipe"], record["to"]["recipe"]) for record in line.records("recipe")]
    there = (recipes.load(recipe).hash, recipes.load(strict).hash)
    assert swaps == [there, there[::-1]]
    assert not any(one["outcome"] == "PASS" for one in line.records("outcome") if one["recipe"] == there[1])


def test_the_plcs_number_chooses_from_panel_to_panel_and_a_swap_of_one_leaves_the_other(
    start: Callable[..., Line], recipe: Path, tmp_path: Path
) -> None:
    """Two products in turn; number 2 rejects all, until a swap of it lets its good panels pass."""
    products = {name: tmp_path / name for name in ("all", "none")}
    limits = recipes.load(recipe).manifest.limits
    for name, folder in products.items():
        image = limits.image if name == "all" else STRICT
        toy_line.write_recipe(folder, product="other", limits=limits.model_copy(update={"image": image}))
    belt = {"settings": {"panels": 0, "recipe_nos": [1, 2]}}
    line = start(conveyor=belt, recipes={"2": str(products["none"])})
    line.until_all_up()
    until_judged_by(line, recipe)
    until_judged_by(line, products["none"])
    assert ended(line, takt("use", line.config.source, 2, products["all"])).returncode == 0
    until_judged_by(line, products["all"])
    until_judged_by(line, recipe)
    assert_each_by_its_triggers(line)
    names = {1: {recipe}, 2: set(products.values())}
    for record in line.records("trigger"):
        assert record["recipe"] in {recipes.load(folder).hash for folder in names[record["recipe_no"]]}
        assert record["recipe_no"] == (1, 2)[record["seq"] % 2]


def test_a_recipe_that_no_engine_opens_leaves_the_running_one_in_place(
    start: Callable[..., Line], recipe: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    toy_line.write_recipe(broken)
    (broken / "manifest.json").unlink()
    (broken / "network.onnx").write_bytes(b"no network")
    kept = recipes.load(recipe).manifest.model_dump(exclude={"files"})
    sign(recipes.write(broken, kept), signer_key(signers.folder()), "toy teacher")
    line = start(conveyor=ENDLESS)
    line.until_all_up()
    line.until_passing_again()
    done = use(line, broken)
    assert done.returncode == 3 and "refused: inspector: " in done.stderr, done
    assert wishes.wishes(line.config) == {}, "or the next start would try it again"
    shown = ended(line, takt("show", line.config.source))
    assert shown.returncode == 3 and "refused" in shown.stdout and recipes.load(recipe).hash[:12] in shown.stdout
    line.until_passing_again()
    assert_each_by_its_triggers(line)
    assert line.records("recipe") == []


@contextmanager
def in_the_middle(line: Line, strict: Path) -> Iterator[subprocess.Popen[str]]:
    """The bridge waits for an inspector that stands still."""
    with line.frozen("inspector"):
        process = takt("use", line.config.source, 1, strict)
        line.until(lambda: row(line).state != "running", "a recipe that is on its way")
        yield process


@pytest.mark.parametrize("stage", ["inspector", pytest.param("plc_bridge", marks=pytest.mark.slow)])
def test_a_stage_that_is_killed_in_the_middle(start: Callable[..., Line], strict: Path, stage: str) -> None:
    line = start(conveyor=ENDLESS, supervisor=PATIENT)
    line.until_all_up()
    line.until_passing_again()
    with in_the_middle(line, strict) as process:
        old = line.kill(stage)
        line.until_restarted(stage, old) if stage == "inspector" else None
    done = ended(line, process)
    assert done.returncode == 0, done
    until_judged_by(line, strict)
    old = line.kill("plc_bridge")
    line.until_restarted("plc_bridge", old)
    until_judged_by(line, strict)
    assert_each_by_its_triggers(line, killed=True)
    assert len(line.records("recipe")) == 1, "the bridge that was started last knows what is in force"


def test_a_standby_that_is_not_ready_is_not_waited_for_and_gets_no_panel_before(
    start: Callable[..., Line], recipe: Path, strict: Path
) -> None:
    line = start(conveyor=ENDLESS, supervisor=PATIENT, engine={"standby": True})
    line.until_all_up()
    line.until_passing_again()
    first = line.records("verdict")[-1]["inspector"]
    other = {"inspector": "inspector_standby", "inspector_standby": "inspector"}[first]
    with line.frozen(other):
        done = use(line, strict)
        assert done.returncode == 0, done
        until_judged_by(line, strict)
    line.until(lambda: "recipe is ready" in log_of(line, other), "the standby to hold it")
    line.kill(first)
    until_judged_by(line, strict)
    assert line.records("verdict")[-1]["inspector"] == other
    assert_each_by_its_triggers(line, killed=True)


def log_of(line: Line, stage: str) -> str:
    return (line.config.state / "logs" / f"{stage}.log").read_text()


@pytest.mark.slow
def test_two_wishes_one_after_the_other(start: Callable[..., Line], recipe: Path, strict: Path, tmp_path: Path) -> None:
    other = with_limit(recipe, tmp_path / "other", 41 / 255)
    line = start(conveyor=ENDLESS, supervisor=PATIENT)
    line.until_all_up()
    line.until_passing_again()
    with in_the_middle(line, strict) as first:
        second = takt("use", line.config.source, 1, other)
        line.until(lambda: wishes.wishes(line.config)[1].place.path == other, "the second wish")
    assert ended(line, second).returncode == 0
    overtaken = ended(line, first)
    assert overtaken.returncode == 3 and "somebody asked for another one" in overtaken.stderr, overtaken
    until_judged_by(line, other)
    assert_each_by_its_triggers(line, killed=True)


@pytest.mark.slow
def test_wishes_that_cannot_be_read_change_nothing_and_are_said(start: Callable[..., Line], strict: Path) -> None:
    line = start(conveyor=ENDLESS)
    line.until_all_up()
    line.until_passing_again()
    wishes.wish_file(line.config).write_text('{"format": 1, "wishes": {"1"')
    line.until(lambda: getattr(wishes.standing(line.config), "trouble", ""), "a bridge that says so")
    shown = ended(line, takt("show", line.config.source))
    assert shown.returncode == 3 and "is damaged" in shown.stdout
    refused = use(line, strict)
    assert refused.returncode != 0 and "is damaged" in refused.stderr
    line.until_passing_again()
    wishes.wish_file(line.config).unlink()
    assert use(line, strict).returncode == 0
    until_judged_by(line, strict)
    assert_each_by_its_triggers(line)


@pytest.mark.slow
def test_what_was_asked_for_while_the_line_stood_still_is_used_from_its_start(
    start: Callable[..., Line], line_file: Callable[..., Path], recipe: Path, strict: Path
) -> None:
    path = line_file(conveyor=ENDLESS)
    done = takt("use", path, 1, strict)
    said, _ = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 0 and "will be used from the next start" in said
    line = start(conveyor=ENDLESS)  # the same file: what it names has not changed
    until_judged_by(line, strict)
    shown = ended(line, takt("show", line.config.source))
    assert shown.returncode == 0 and recipes.load(strict).hash[:12] in shown.stdout and "running" in shown.stdout
    assert ended(line, takt("back", line.config.source, 1)).returncode == 0
    line.until_passing_again()
    assert_each_by_its_triggers(line)
