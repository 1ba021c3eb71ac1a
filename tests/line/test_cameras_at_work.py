"""Several cameras of one station, cameras that fail, and pixels by either carrier."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import toy_line
from harness import LAGGING, Line, assert_accounted, assert_every_pass_was_inspected, ledger_records, passed, plc_rows

from pipeline.simulation import watermark
from pipeline.simulation.plan import Plan

LEFT, RIGHT = toy_line.CHANNELS
PANELS = {"settings": {"panels": 14}}
HIT = 5  # the panel at which a camera fails


def two_cameras(**right: Any) -> list[dict]:
    """A camera for each channel; `right` are settings of the second one."""
    return [toy_line.camera("left", (LEFT,)), toy_line.camera("right", (RIGHT,), **right)]


def expected_passes(line: Line) -> dict[int, bool]:
    """What the plan says of every panel."""
    plan = Plan.model_validate(line.config.cameras[0].settings["plan"])
    return {row["panel"]: plan.panel(row["panel"]).kind is None for row in line.rows()}


def ended(line: Line) -> Line:
    line.until_finished()
    line.supervisor.stop()
    assert_accounted(line.config)
    assert_every_pass_was_inspected(line.config)
    return line


def faults(line: Line) -> dict[int, str | None]:
    """Panel -> the fault of its outcome."""
    panel_of = {row["seq"]: row["panel"] for row in plc_rows(line.config)}
    return {panel_of[record["seq"]]: record["fault"] for record in ledger_records(line.config, "outcome")}


@pytest.mark.parametrize("carrier", ["ring", "frames"])
def test_two_cameras_are_joined_and_both_carriers_give_the_same(start: Callable[..., Line], carrier: str) -> None:
    cameras = [camera | {"carrier": carrier} for camera in two_cameras()]
    line = ended(start(cameras=cameras, conveyor=PANELS))
    assert {row["panel"]: passed(row) for row in line.rows()} == expected_passes(line)
    assert set(faults(line).values()) == {None}
    verdicts = {record["token"]: record["digest"] for record in line.records("verdict")}
    digests = {token: {r["digest"] for r in line.records("captured") if r["token"] == token} for token in verdicts}
    assert all(len(each) == 2 and verdicts[token] not in each for token, each in digests.items())


QUICK = {"settle_ms": 20}


def hit_by(start: Callable[..., Line], fault: str, channel: int = 0) -> tuple[Line, dict[int, str]]:
    """A run in which a channel of panel `HIT` goes wrong, by default the first; the line, and the faults by panel."""
    cameras = [toy_line.camera("top", faults={fault: [[HIT, channel]]})]
    line = ended(start(cameras=cameras, conveyor=PANELS, timing=QUICK, archive={"sample_passes": 1.0, "slots": 40}))
    hit = {panel: name for panel, name in faults(line).items() if name}
    truth = expected_passes(line)
    assert {row["panel"] for row in line.rows() if passed(row)} == {n for n in truth if truth[n] and n not in hit}
    return line, hit


def assert_nothing_was_mixed(line: Line) -> None:
    """Every picture kept carries the mark of its own panel and channel; a set that was taken back may not.

    Of a set that a camera did not finish there are fewer pictures; which exposure it missed is not known.
    """
    panel_of = {row["seq"]: row["panel"] for row in line.rows()}
    seen = [record for record in line.records("outcome") if (_evidence(line) / record["token"]).exists()]
    assert len(seen) > 8
    for record in seen:
        if record["fault"] == "ASSOCIATION":
            continue
        for number, channel in enumerate(toy_line.CHANNELS):
            path = _evidence(line) / record["token"] / f"top_{channel}.png"
            if record["fault"] in ("CAMERA", "INCOMPLETE") and not path.exists():
                continue
            kept = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.uint8)
            mark = watermark.read(kept)
            assert mark is not None and mark.panel == panel_of[record["seq"]]
            assert mark.channel == number or record["fault"] == "INCOMPLETE"


def _evidence(line: Line) -> Path:
    return line.config.state / "evidence"


def test_a_frame_that_the_camera_reports_lost_costs_its_panel_alone(start: Callable[..., Line]) -> None:
    line, hit = hit_by(start, "fail_at")
    assert hit == {HIT: "CAMERA"}
    assert_nothing_was_mixed(line)


def test_the_frames_before_a_lost_one_are_kept_as_evidence(start: Callable[..., Line]) -> None:
    last = len(toy_line.CHANNELS) - 1
    line, hit = hit_by(start, "fail_at", last)
    assert hit[HIT] == "CAMERA"
    assert_nothing_was_mixed(line)
    [lost] = [record for record in line.records("outcome") if record["fault"] == "CAMERA"]
    kept = {path.name for path in (_evidence(line) / lost["token"]).glob("*.png")}
    assert kept == {f"top_{channel}.png" for channel in toy_line.CHANNELS[:last]} and kept


def test_a_frame_that_is_lost_costs_neighbours_and_mixes_nothing(start: Callable[..., Line]) -> None:
    line, hit = hit_by(start, "drop_frames")
    assert HIT in hit
    assert set(hit.values()) <= {"INCOMPLETE", "ASSOCIATION", "NOT_CAPTURED"}
    assert_nothing_was_mixed(line)


def test_the_line_recovers_from_an_exposure_that_was_missed(start: Callable[..., Line]) -> None:
    line, hit = hit_by(start, "miss_exposures")
    assert HIT in hit
    assert_nothing_was_mixed(line)
    assert set(hit) <= set(range(HIT - 1, HIT + 5)), "only neighbours pay for it"


def test_a_panel_with_a_surplus_frame_is_a_reject(start: Callable[..., Line]) -> None:
    line, hit = hit_by(start, "extra_frames")
    assert HIT in hit
    assert_nothing_was_mixed(line)


def test_a_camera_that_stops_delivering_stops_every_pass(start: Callable[..., Line]) -> None:
    line = start(cameras=two_cameras(), conveyor={"settings": {"panels": 0}})
    line.until_all_up()
    line.until_decided(3)
    with line.frozen("capture_right"):
        before = {record["seq"] for record in line.records("trigger")}
        line.until(lambda: sum(row["seq"] not in before for row in line.rows()) >= 6, "six panels")
        frozen = [row for row in line.rows() if row["seq"] not in before]
    assert not any(map(passed, frozen))
    line.until_passing_again()
    line.supervisor.stop()
    assert_accounted(line.config)
    assert_every_pass_was_inspected(line.config)
    named = {record["fault"] for record in line.records("outcome") if record["seq"] in {row["seq"] for row in frozen}}
    assert named <= LAGGING
