"""One run of thirty panels from the command line: every page that tells of it must say the same."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import toy_line
from harness import (
    PATIENCE_S,
    assert_accounted,
    assert_every_pass_was_inspected,
    ledger_records,
    leftovers,
    passed,
    plc_rows,
)
from numpy.typing import NDArray

from pipeline.config import LineConfig, load
from pipeline.frames import digest_of
from pipeline.simulation import watermark
from pipeline.simulation.plan import Plan
from pipeline.store import Store

PANELS = 30
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "examples" / "subscriber.py"


@dataclass(frozen=True)
class Run:
    """What one run left."""

    config: LineConfig
    status: int
    said: str
    stderr: str
    summary: dict[str, Any]
    heard: list[dict[str, Any]]  # what the third party's program printed


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    path = toy_line.write_line(
        folder, recipe, conveyor={"settings": {"panels": PANELS}}, archive={"sample_passes": 0.2, "slots": 40}
    )
    config = load(path)
    with subscribed(config, folder / "heard.jsonl") as heard:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "run", str(path), "--json", str(folder / "summary.json")],
            capture_output=True,
            text=True,
            timeout=120,
        )
        last = ledger_records(config, "outcome")[-1]["panel_id"]
        _until(lambda: any(one["panel_id"] == last for one in _rows(heard)))
    summary = json.loads((folder / "summary.json").read_text())
    return Run(config, done.returncode, done.stdout, done.stderr, summary, _rows(heard))


@contextmanager
def subscribed(config: LineConfig, heard: Path) -> Iterator[Path]:
    """The example's program at work; what it prints goes to the file `heard`."""
    command = [sys.executable, str(EXAMPLE), config.bus.outcomes]
    with heard.open("w") as out, subprocess.Popen(command, stdout=out) as subscriber:
        try:
            yield heard
        finally:
            subscriber.terminate()


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def test_it_ends_with_status_0_and_says_what_happened(run: Run) -> None:
    assert run.status == 0, run.stderr
    assert f"{PANELS} panels: 21 passed, 9 rejected by inspection, 0 by a fault" in run.said
    assert str(run.config.state) in run.said.replace("\n", "")


def test_the_summary_is_reconciled_and_knows_the_truth(run: Run) -> None:
    figures = {name: run.summary[name] for name in ("triggers", "passed", "rejected", "faults", "reconciled")}
    assert figures == {"triggers": PANELS, "passed": 21, "rejected": 9, "faults": {}, "reconciled": True}
    assert (run.summary["missed"], run.summary["missed_by_kind"], run.summary["false_rejects"]) == (0, {}, 0)
    taken = run.summary["latency_ms"]
    assert 0 < taken["median"] <= taken["p99"] <= taken["max"] < 800


def test_the_ledger_and_the_plc_agree_on_every_panel(run: Run) -> None:
    count = assert_accounted(run.config)
    assert (count.triggers, count.passed, count.rejected) == (PANELS, 21, 9)
    assert [row["seq"] for row in plc_rows(run.config)] == list(range(1, PANELS + 1))
    assert_every_pass_was_inspected(run.config)


def test_the_right_panels_were_rejected(run: Run) -> None:
    """Panel by panel against the plan, which neither the line nor the PLC can see."""
    plan = Plan.model_validate(run.config.cameras[0].settings["plan"])
    for row in plc_rows(run.config):
        assert passed(row) == (plan.panel(row["panel"]).kind is None)


def test_nothing_is_left_behind(run: Run) -> None:
    assert leftovers(run.config) == []


def test_evidence_of_every_reject_is_the_panel_s_own_pixels(run: Run) -> None:
    panel_of = {row["seq"]: row["panel"] for row in plc_rows(run.config)}
    rejects = [record for record in ledger_records(run.config, "outcome") if record["outcome"] == "REJECT"]
    assert len(rejects) == 9
    for record in rejects:
        folder = run.config.state / "evidence" / record["token"]
        about = {name: record[name] for name in ("token", "seq", "panel_id")} | {"reason": "reject"}
        assert about.items() <= json.loads((folder / "evidence.json").read_text()).items()
        for number, channel in enumerate(run.config.cameras[0].channels):
            frame = _picture(folder / f"top_{channel}.png")
            assert watermark.read(frame) == watermark.Mark(panel_of[record["seq"]], number)
    assert list((run.config.state / "spool").iterdir()) == []


def test_evidence_is_lossless_and_its_map_is_the_one_that_was_scored(run: Run) -> None:
    """The digest in the ledger, taken by the capture, is that of the archived pictures."""
    digests = {record["token"]: record["digest"] for record in ledger_records(run.config, "captured")}
    folders = sorted((run.config.state / "evidence").iterdir())
    scores = {record["token"]: record["score"] for record in ledger_records(run.config, "outcome")}
    for folder in folders:
        channels = run.config.cameras[0].channels
        frames = np.stack([_picture(folder / f"top_{channel}.png") for channel in channels])
        assert digest_of(frames.data.cast("B")) == digests[folder.name]
        assert np.load(folder / "map.npz")["map"].max() == pytest.approx(scores[folder.name], abs=1e-3)


def _picture(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    assert picture.dtype == np.uint8
    return np.asarray(picture, np.uint8)


def test_a_sample_of_the_passes_is_kept_and_no_other_pass(run: Run) -> None:
    kept = {path.name: json.loads((path / "evidence.json").read_text()) for path in _evidence(run)}
    passes = {record["token"] for record in ledger_records(run.config, "outcome") if record["outcome"] == "PASS"}
    sampled = {token for token, about in kept.items() if about["reason"] == "sample"}
    assert sampled == passes & kept.keys()
    assert len(sampled) < len(passes)


def _evidence(run: Run) -> list[Path]:
    return list((run.config.state / "evidence").iterdir())


def test_the_store_shows_what_the_ledger_says(run: Run) -> None:
    store = Store(run.config.state)
    try:
        rows = {panel.token: (panel.seq, panel.panel_id, panel.outcome, panel.score) for panel in store.panels()}
        pictures = {token: (picture.folder, picture.compressed) for token, picture in store.pictures().items()}
    finally:
        store.close()
    records = ledger_records(run.config, "outcome")
    assert rows == {r["token"]: (r["seq"], r["panel_id"], r["outcome"], r["score"]) for r in records}
    assert pictures == {path.name: (str(path), True) for path in _evidence(run)}


def test_a_third_party_hears_every_outcome_without_a_gap(run: Run) -> None:
    first = run.heard[0]["sequence"]  # 0, unless it took longer to start than the line
    assert [one["sequence"] for one in run.heard] == list(range(first, PANELS))
    said = [(one["panel_id"], one["outcome"], one["fault"], len(one["defects"]) > 0) for one in run.heard]
    written = [
        (record["panel_id"], record["outcome"], record["fault"], record["outcome"] == "REJECT")
        for record in ledger_records(run.config, "outcome")
    ]
    assert said == written[first:]
