"""The storm's checker finds what is planted, and nothing else."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.bench.checker import Checker
from pipeline.simulation import watermark
from pipeline.simulation.plan import Plan

PLAN = Plan(kinds=("dust",), defective_share=0.3, seed=4)
CAMERAS = {"left": ("a", "b"), "right": ("c", "d")}
PANELS = 30
MS = 1_000_000
PASSED, REJECTED, TIMED_OUT = 1, 2, 3


def memory(panel: int) -> dict[str, Any]:
    """What the PLC remembers of a trigger; sequences and panels are no equals."""
    return {"seq": panel + 501, "panel": panel, "panel_id": f"P{panel + 501:08d}", "trigger_ns": panel * 20 * MS}


def decision(panel: int, ack_code: int | None = None, fault: int = 0) -> dict[str, Any]:
    """What it decided: by the plan, unless told."""
    right = PASSED if PLAN.panel(panel).kind is None else REJECTED
    return memory(panel) | {"ack_code": ack_code or right, "fault": fault, "latency_ms": 45.0}


def keep(folder: Path, panel: int, shown: dict[tuple[str, int], int] | None = None, **about: Any) -> Path:
    """A folder of pictures as the archiver leaves it; `shown` puts other panels' pictures, None leaves one out."""
    row = memory(panel)
    place = folder / f"{panel:032x}"
    place.mkdir()
    (place / "evidence.json").write_text(json.dumps({"seq": row["seq"], "panel_id": row["panel_id"]} | about))
    for camera, names in CAMERAS.items():
        for channel, name in enumerate(names):
            index = (shown or {}).get((camera, channel), panel)
            if index is not None:
                frame = np.full((64, 64), 90, np.uint8)
                watermark.stamp(frame, index, channel)
                assert cv2.imwrite(str(place / f"{camera}_{name}.png"), frame)
    return place


class Run:
    """A run in which all went well, until something is planted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = {panel: [decision(panel)] for panel in range(PANELS)}
        self.shown: dict[int, dict] = {}
        self.labels: dict[int, dict] = {}

    def findings(self) -> Any:
        checker = Checker(PLAN, CAMERAS)
        checker.triggered(memory(panel) for panel in range(PANELS))
        for rows in self.rows.values():
            checker.decided(rows)
        checker.decided([{"end": "finished", "triggers": PANELS}])
        for panel in range(PANELS):
            checker.look(keep(self.folder, panel, self.shown.get(panel), **self.labels.get(panel, {})))
        return checker.findings()

    def counts(self) -> tuple[int, int, int]:
        found = self.findings()
        return found.difference, found.wrong_pass, found.mixed_sets


GOOD = [panel for panel in range(PANELS) if PLAN.panel(panel).kind is None]
DEFECTIVE = [panel for panel in range(PANELS) if PLAN.panel(panel).kind]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_run_in_which_all_went_well_is_clean_and_was_seen_whole(run: Run) -> None:
    found = run.findings()
    assert (found.difference, found.wrong_pass, found.mixed_sets, found.wrong) == (0, 0, 0, [])
    assert (found.triggers, found.passed, found.rejected) == (PANELS, len(GOOD), len(DEFECTIVE))
    assert (found.passes_seen, found.sets_seen, found.unlabelled) == (len(GOOD), PANELS, 0)


def test_a_defective_panel_that_passed_is_found(run: Run) -> None:
    run.rows[DEFECTIVE[2]] = [decision(DEFECTIVE[2], PASSED)]
    assert run.counts() == (0, 1, 0)


@pytest.mark.parametrize("spot", [("left", 0), ("right", 1)])
def test_a_passed_set_with_one_picture_of_a_neighbour_is_found_twice(run: Run, spot: tuple[str, int]) -> None:
    run.shown[GOOD[3]] = {spot: GOOD[3] - 1}
    found = run.findings()
    assert (found.difference, found.wrong_pass, found.mixed_sets) == (0, 1, 1)
    assert any(f"panel {GOOD[3] - 1} channel {spot[1]}" in text for text in found.wrong)


def test_a_whole_set_of_another_panel_is_mixed_even_if_it_was_rejected(run: Run) -> None:
    other = DEFECTIVE[1] + 1
    run.shown[DEFECTIVE[1]] = {(camera, n): other for camera, names in CAMERAS.items() for n in range(len(names))}
    assert run.counts() == (0, 0, 1)


@pytest.mark.parametrize(("ack_code", "fault"), [(REJECTED, 4), (TIMED_OUT, 0)])
def test_what_a_faulted_set_shows_is_nobodys_verdict(run: Run, ack_code: int, fault: int) -> None:
    run.rows[GOOD[0]] = [decision(GOOD[0], ack_code, fault)]
    run.shown[GOOD[0]] = {("left", 0): GOOD[0] + 1}
    assert run.counts() == (0, 0, 0)


def test_a_passed_set_that_lacks_a_picture_is_a_wrong_pass(run: Run) -> None:
    run.shown[GOOD[1]] = {("right", 0): None}
    assert run.counts() == (0, 1, 0)


@pytest.mark.parametrize("rows", [0, 2])
def test_a_trigger_without_exactly_one_decision_is_found(run: Run, rows: int) -> None:
    run.rows[GOOD[4]] = [decision(GOOD[4])] * rows
    assert run.counts()[0] == 1


def test_a_panel_that_the_plc_lost_is_no_decision(run: Run) -> None:
    run.rows[GOOD[4]] = [decision(GOOD[4]) | {"ack_code": 0, "latency_ms": None}]
    assert run.counts() == (1, 0, 0)


def test_pictures_under_labels_that_disagree_prove_nothing_and_are_counted(run: Run) -> None:
    run.labels[GOOD[2]] = {"seq": memory(GOOD[2] + 1)["seq"]}
    found = run.findings()
    assert (found.wrong_pass, found.mixed_sets, found.unlabelled) == (0, 0, 1)
    assert found.passes_seen == len(GOOD) - 1


def test_panels_in_flight_are_counted_at_every_trigger(run: Run) -> None:
    """Decided after 45 ms at a takt of 20 ms: two others are still open."""
    assert run.findings().in_flight == {1: 1, 2: 1, 3: PANELS - 2}
