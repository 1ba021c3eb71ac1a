"""`takt bench faults` on the real line: a short storm, and what its checker finds once something is planted in it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench import storm as storms
from pipeline.bench.checker import Checker, Findings

TRIGGERS = 1000
RECORD = "plc_record.jsonl"


@dataclass(frozen=True)
class Ran:
    """What one short storm left."""

    status: int
    said: str
    out: Path
    figures: dict[str, Any]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("storm")
    out, figures = folder / "out", folder / "faults.json"
    command = [sys.executable, "-m", "pipeline.cli", "bench", "faults", "--triggers", str(TRIGGERS)]
    command += ["--rate", "0.005", "--process-faults", "3", "--keep", "--out", str(out), "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert figures.exists(), done.stderr
    return Ran(done.returncode, done.stdout, out, json.loads(figures.read_text()))


def test_no_wrong_pass_no_mixed_set_and_no_lost_trigger(ran: Ran) -> None:
    figures = ran.figures
    assert {name: figures[name] for name in ("triggers", "difference", "wrong_pass", "mixed_sets", "ended")} == {
        "triggers": TRIGGERS,
        "difference": 0,
        "wrong_pass": 0,
        "mixed_sets": 0,
        "ended": "finished",
    }, figures["wrong"]
    assert ran.status == 0, figures["ledger"]
    assert figures["passed"] + figures["rejected"] + sum(figures["faults"].values()) == TRIGGERS
    assert figures["unasked_restarts"] == 0, figures["restarts"]


def test_what_was_injected_and_what_came_out_is_told(ran: Ran) -> None:
    assert len(ran.figures["injected"]["processes"]) == 3
    assert ran.figures["injected"]["messages"] and ran.figures["injected"]["pixels"]
    assert ran.figures["plc"]["passed"] > 0 and ran.figures["checked"]["passes_with_pictures"] > 0
    page = (ran.out / "report.html").read_text()
    assert page.count("<line ") == 3 and "http" not in page
    assert "0 difference, 0 wrong pass, 0 mixed sets" in " ".join(ran.said.split())


def checked(out: Path) -> Findings:
    """The run checked anew from what lies on the disk."""
    checker = Checker(storms.PLAN, storms.CAMERAS)
    checker.triggered(rows(out / f"{RECORD}.triggered"))
    checker.decided(rows(out / RECORD))
    for folder in sorted((out / "evidence").iterdir()):
        checker.look(folder)
    return checker.findings()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def first(found: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    return next(row for row in found if "seq" in row and wanted(row))


def passed(row: dict[str, Any]) -> bool:
    return row["ack_code"] == 1


def pass_a_defective_panel(out: Path) -> None:
    decided = rows(out / RECORD)
    row = first(decided, lambda row: bool(storms.PLAN.panel(row["panel"]).kind) and row["ack_code"] == 2)
    row["ack_code"], row["fault"] = 1, 0
    (out / RECORD).write_text("".join(json.dumps(one) + "\n" for one in decided))


def lose_a_trigger(out: Path) -> None:
    decided = rows(out / RECORD)
    decided.remove(first(decided, lambda row: not passed(row)))
    (out / RECORD).write_text("".join(json.dumps(one) + "\n" for one in decided))


def mix_a_set(out: Path) -> None:
    """One picture of a set that was passed changes places with that of another one."""
    seqs = [row["seq"] for row in rows(out / RECORD) if "seq" in row and passed(row)]
    about = {json.loads((f / "evidence.json").read_text())["seq"]: f for f in (out / "evidence").iterdir()}
    one, two = [about[seq] for seq in seqs if seq in about][:2]
    name = "right_dark_right_pixel.png"
    shutil.copy(two / name, one / name)


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (lambda out: None, (0, 0, 0)),
        (lose_a_trigger, (1, 0, 0)),
        (pass_a_defective_panel, (0, 1, 0)),
        (mix_a_set, (0, 1, 1)),
    ],
)
def test_the_checker_finds_what_is_planted(
    ran: Ran, tmp_path: Path, plant: Callable[[Path], None], expected: tuple[int, int, int]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(ran.out, out, ignore=shutil.ignore_patterns("ledger", "logs", "spool", "running"))
    plant(out)
    found = checked(out)
    assert (found.difference, found.wrong_pass, found.mixed_sets) == expected
