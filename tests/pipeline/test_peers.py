"""Signs of life: a process that ends is known at once, one that hangs after its stall; panels stay where they are."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from station_parts import settings, until

from pipeline.config import LineConfig
from pipeline.messages import Loaded, Outcome, Presence
from pipeline.open_panels import Panel
from pipeline.peers import STALL_MS, Peers, waits_for
from pipeline.plcs import SlotSeen

MS = 1_000_000
NOW = 10**12


def station(folder: Path, **timing: Any) -> LineConfig:
    config = settings(folder)
    engine = config.engine.model_copy(update={"standby": True})
    return config.model_copy(update={"engine": engine, "timing": config.timing.model_copy(update=timing)})


def sign(stage: str, **more: Any) -> Presence:
    role = "capture" if stage.startswith("capture_") else "inspector"
    return Presence(station="cell_1", stage=stage, role=role, **{"ready": True, "credits": 8, "loaded": ()} | more)


@contextmanager
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        try:
            yield running
        finally:
            running.kill()


def test_a_process_that_ends_is_gone_at_once_and_what_it_left_behind_is_no_sign_of_life(tmp_path: Path) -> None:
    peers = Peers(station(tmp_path))
    with process() as running:
        peers.heard(sign("inspector", pid=running.pid), NOW)
        assert peers.fallen() == [] and peers.inspectors(NOW) == ["inspector"]
        running.kill()
        assert until(peers.fallen) == ["inspector"]
        assert peers.inspectors(NOW) == [] and peers.assigned(NOW) is None
        running.wait()
        peers.heard(sign("inspector", pid=running.pid), NOW)  # was still in the socket
        assert peers.inspectors(NOW) == [] and peers.fallen() == []
    with process() as successor:
        peers.heard(sign("inspector", pid=successor.pid), NOW)
        assert peers.inspectors(NOW) == ["inspector"]


def test_a_pid_of_another_host_or_namespace_is_left_to_the_heartbeat(tmp_path: Path) -> None:
    peers = Peers(station(tmp_path))
    peers.heard(sign("inspector", pid=2**22 + 1), NOW)  # above the largest one that Linux gives
    assert peers.inspectors(NOW) == ["inspector"]
    config = station(tmp_path)
    away = Peers(config.model_copy(update={"bus": config.bus.model_copy(update={"control": "tcp://10.0.0.1:5571"})}))
    with process() as running:
        away.heard(sign("inspector", pid=running.pid), NOW)
        running.kill()
        running.wait()
        assert away.fallen() == [] and away.inspectors(NOW) == ["inspector"]


@pytest.mark.parametrize(
    ("stall_ms", "batch_ms", "window_ms", "expected_ms"),
    [
        (None, 0, 1000, STALL_MS),
        (None, 150, 1000, STALL_MS),
        (None, 300, 1000, 600),
        (None, 700, 1000, 1000),
        (None, 700, 60, STALL_MS),
        (250, 300, 1000, 250),
    ],
)
def test_a_stage_that_says_nothing_is_gone_after_its_stall(
    tmp_path: Path, stall_ms: int | None, batch_ms: int, window_ms: int, expected_ms: int
) -> None:
    peers = Peers(station(tmp_path, stall_ms=stall_ms, window_ms=window_ms))
    peers.heard(sign("inspector", batch_ms=batch_ms), NOW)
    assert peers.inspectors(NOW + expected_ms * MS - 1) == ["inspector"]
    assert peers.inspectors(NOW + expected_ms * MS) == []


def test_a_stage_that_is_not_ready_is_not_there(tmp_path: Path) -> None:
    peers = Peers(station(tmp_path))
    peers.heard(sign("inspector", ready=False), NOW)
    peers.heard(sign("capture_top", ready=False), NOW)
    assert peers.inspectors(NOW) == [] and peers.missing(NOW) == ["inspector", "capture_top"]


def test_panels_stay_with_one_inspector_until_it_is_lost(tmp_path: Path) -> None:
    """The other one would not notice a picture that comes again."""
    peers = Peers(station(tmp_path))
    peers.heard(sign("inspector", credits=4), NOW)
    peers.heard(sign("inspector_standby", credits=8), NOW)
    assert peers.assigned(NOW) == "inspector_standby"
    peers.heard(sign("inspector", credits=8), NOW)
    peers.heard(sign("inspector_standby", credits=0), NOW)
    assert peers.assigned(NOW) == "inspector_standby"
    peers.heard(sign("inspector"), NOW + 300 * MS)
    later = NOW + STALL_MS * MS
    assert peers.assigned(later) == "inspector"
    peers.heard(sign("inspector_standby", credits=9), later)
    assert peers.assigned(later) == "inspector"


def test_an_inspector_that_does_not_hold_every_recipe_in_use_gets_no_panel(tmp_path: Path) -> None:
    peers = Peers(station(tmp_path))
    ours, other = (Loaded(recipe=one, calibration="flat", engine=f"engine-{one}") for one in "ab")
    wrong = ours.model_copy(update={"engine": "engine-b"})
    peers.needed = frozenset([ours])
    for loaded, there in (((), False), ((other,), False), ((wrong,), False), ((other, ours), True)):
        peers.heard(sign("inspector", loaded=loaded), NOW)
        assert bool(peers.ready(NOW)) == bool(peers.inspectors(NOW)) == bool(peers.assigned(NOW)) == there
    peers.heard(sign("inspector_standby", loaded=(other,), credits=9), NOW)
    peers.needed = frozenset([other])
    assert peers.inspectors(NOW) == ["inspector", "inspector_standby"]
    peers.needed = frozenset([ours, other])
    assert peers.assigned(NOW) == "inspector"


def test_a_panel_waits_for_those_who_have_not_said_their_part() -> None:
    panel = Panel(1, SlotSeen(1, "P1", 1, 0, 0, 0), "a" * 32, 0, 0, None, inspector="inspector")
    everybody = ("inspector", "inspector_standby", "capture_top", "capture_side", "archiver")
    assert [waits_for(panel, stage) for stage in everybody] == [True, False, True, True, False]
    seen = replace(panel, captured=(("top", "d" * 32),))
    assert not waits_for(seen, "capture_top") and waits_for(seen, "capture_side")
    assert not any(waits_for(replace(panel, written=Outcome.PASS), stage) for stage in everybody)
