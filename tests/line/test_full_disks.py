"""Full disks and a locked store: a full ledger stops every pass, anything else raises an alarm and stops nothing."""

import os
import resource
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import Line, assert_accounted, passed

from pipeline.verify import verified

ENDLESS = {"settings": {"takt_ms": 100, "window_ms": 800}}


def mounted(place: Path, size: str, *, again: bool = False) -> bool:
    options = f"{'remount,' if again else ''}size={size}"
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The ledger's folder on a disk of its own, of 24 kB."""
    place = tmp_path / "state" / "ledger"
    place.mkdir(parents=True)
    if not mounted(place, "24k"):
        pytest.skip("mounting a small disk needs root and CAP_SYS_ADMIN")
    yield place
    subprocess.run(["umount", place], check=True)


@contextmanager
def no_file_beyond(line: Line, stage: str, size: int) -> Iterator[None]:
    """No file of this stage grows beyond `size` bytes meanwhile; the kernel cuts its writes off there."""
    pid = line.pid(stage)
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def until_not_ready(line: Line) -> None:
    line.until(lambda: line.state("plc_bridge") == "error", "a bridge that is not ready")
    assert line.text("plc_bridge") == "the ledger cannot be written"


def rejected_from_now_on(line: Line, panels: int) -> None:
    """Wait for so many more panels, of which none may pass."""
    before = len(line.rows()) + 1  # the one that was on its way
    line.until_decided(before + panels)
    assert not any(map(passed, line.rows()[before:]))


def test_a_full_ledger_rejects_every_panel_until_there_is_room(small_disk: Path, start: Callable[..., Line]) -> None:
    line = start(conveyor=ENDLESS)
    line.until_passing_again()
    until_not_ready(line)
    rejected_from_now_on(line, 5)
    assert mounted(small_disk, "8m", again=True)
    line.until_passing_again()
    assert line.state("plc_bridge") == "ready"
    line.supervisor.stop()
    count = assert_accounted(line.config)  # what could not be written then is there now
    assert count.faults["LEDGER"] >= 4
    assert set(count.faults) <= {"LEDGER", "ASSOCIATION", "STOPPED"}  # frames of panels that no camera was told of
    assert verified(line.config.ledger)["intact"] and verified(line.config.ledger)["anchors"] >= 2


def test_a_ledger_that_the_kernel_cuts_off_does_the_same(start: Callable[..., Line]) -> None:
    line = start(conveyor=ENDLESS)
    line.until_passing_again()
    [file] = line.config.ledger.iterdir()
    with no_file_beyond(line, "plc_bridge", file.stat().st_size + 1000):
        until_not_ready(line)
        rejected_from_now_on(line, 5)
    line.until_passing_again()
    line.supervisor.stop()
    assert assert_accounted(line.config).faults["LEDGER"] >= 4


def test_a_bridge_that_starts_on_a_full_disk_waits_for_room(small_disk: Path, start: Callable[..., Line]) -> None:
    (small_disk / "other").write_bytes(b"x" * 24_000)
    os.sync()
    line = start(conveyor=ENDLESS)
    until_not_ready(line)
    (small_disk / "other").unlink()
    mounted(small_disk, "8m", again=True)
    line.until_passing_again()


def until_alarm(line: Line, said: str) -> None:
    line.until(lambda: line.state("archiver") == "error" and said in line.text("archiver"), f"an alarm of {said!r}")


def until_kept(line: Line) -> None:
    """Wait for a store that has every panel of the ledger."""
    line.until(lambda: line.state("archiver") == "ready", "an archiver without alarms")
    line.supervisor.stop()
    with sqlite3.connect(line.config.state / "store.sqlite") as store:
        [[rows]] = store.execute("SELECT COUNT(*) FROM panels")
    store.close()
    assert rows == len(assert_accounted(line.config).outcomes)


def test_a_full_evidence_and_store_disk_is_an_alarm_and_panels_go_on(start: Callable[..., Line]) -> None:
    line = start(conveyor=ENDLESS)
    line.until_all_up()
    archiver = line.pid("archiver")
    with no_file_beyond(line, "archiver", 0):
        until_alarm(line, "free the disk")
        line.until_passing_again()
        assert line.state("plc_bridge") == "ready" and line.pid("archiver") == archiver
    until_kept(line)


def test_a_locked_store_is_an_alarm_and_panels_go_on(start: Callable[..., Line]) -> None:
    """For much longer than a stage may be silent: whoever waits for the lock says that it waits."""
    line = start(conveyor=ENDLESS, supervisor={"silent_s": 3})
    line.until_all_up()
    archiver = line.pid("archiver")
    holder = sqlite3.connect(line.config.state / "store.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    until_alarm(line, "database is locked")
    line.until_decided(len(line.rows()) + 70)
    line.until_passing_again()
    assert line.state("plc_bridge") == "ready" and line.pid("archiver") == archiver
    holder.execute("ROLLBACK")
    holder.close()
    until_kept(line)


def test_where_evidence_is_required_the_line_is_not_ready_without_it(start: Callable[..., Line]) -> None:
    line = start(conveyor=ENDLESS, archive={"required": True})
    line.until_passing_again()
    with no_file_beyond(line, "archiver", 0):
        line.until(lambda: "archiver, which cannot keep evidence" in line.text("plc_bridge"), "a line that waits")
        rejected_from_now_on(line, 3)
    line.until_passing_again()
