"""Runs a line in open loop, on a state folder of its own, and reads its ledger and the PLC's record afterwards.

While it runs nothing is read of it but what its supervisor hears anyway, so measuring costs the line nothing.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines import plugins
from pipeline import cameras, wishes
from pipeline.bench import pace
from pipeline.bench.clocks import Clocks
from pipeline.bench.timeline import Run, Timeline, timelines
from pipeline.check import check_line
from pipeline.config import CameraConfig, LineConfig
from pipeline.devices import camera_settings, record_path
from pipeline.errors import ConfigError, UsageError
from pipeline.ledger import ledger_files, read_lines
from pipeline.log import to_stderr
from pipeline.summary import Before, summarise
from pipeline.supervisor import Interrupted, Supervisor

WATCH_MS = 100
SHARED = ("keys", "engines")  # of the line's own state: what certifies its engines
Watch = Callable[[Supervisor], None]


@dataclass(frozen=True)
class Measured:
    """One run. `own_cpu_s`: processor time of what is done besides running the line."""

    run: Run
    timelines: list[Timeline] = field(repr=False)
    summary: dict[str, Any]
    seconds: float
    own_cpu_s: float
    clocks: tuple[str, ...]  # what was wrong with them, a line each
    interrupted: bool


def least_takt_ms(config: LineConfig) -> int:
    """The shortest takt that this line's exposures leave room for."""
    return pace.least_takt_ms(config.timing.exposure_ms, config.timing.quiet_ms)


def usual_takt_ms(config: LineConfig) -> int:
    """The conveyor's own takt.

    Raises:
        UsageError: there is no simulated conveyor to set the pace, or its stages share no clock.
    """
    if config.conveyor is None:
        raise UsageError(f"{config.source}: bench line sets the pace itself: add [conveyor.settings], a simulated PLC")
    if config.bus.control or config.bus.images:
        raise UsageError(
            f"{config.source}: bus.control or bus.images: stages on other hosts share no clock; take it out"
        )
    return int(config.conveyor.settings.get("takt_ms", 500))


def prepared(config: LineConfig, takt_ms: int, panels: int, state: Path) -> LineConfig:
    """The line of `config` as it is measured: open loop, so many panels, everything it writes below `state`.

    Raises:
        UsageError: see `usual_takt_ms`; or the takt is shorter than the exposures.
    """
    usual_takt_ms(config)
    if takt_ms < (least := least_takt_ms(config)):
        timing = f"timing.exposure_ms {config.timing.exposure_ms} and quiet_ms {config.timing.quiet_ms}"
        raise UsageError(
            f"a takt of {takt_ms} ms is shorter than the exposures: {timing} leave room from {least} ms on; ask for"
            " more, or lower them"
        )
    assert config.conveyor is not None
    belt = {"takt_ms": takt_ms, "panels": panels, "open_loop": True}
    conveyor = config.conveyor.model_copy(update={"settings": config.conveyor.settings | belt})
    places = {str(number): row.place.path for number, row in wishes.resolved(config).items()}
    changes = {
        "conveyor": conveyor,
        "timing": config.timing.at_takt(takt_ms * 3 // 4),
        "state_dir": state,
        "recipes": places,
    }
    return config.model_copy(update=changes)


def _looping(line: LineConfig) -> LineConfig:
    """A replay goes on from its beginning, since a run has more panels than a folder; no line may that inspects."""
    cameras = tuple(camera.model_copy(update={"settings": _looped(camera)}) for camera in line.cameras)
    return line.model_copy(update={"cameras": cameras})


def _looped(camera: CameraConfig) -> dict[str, Any]:
    known = plugins.load("pipeline.cameras", camera.kind).Settings.model_fields
    return camera.settings | ({"loop": True} if "loop" in known else {})


def exposure_ms(config: LineConfig) -> float:
    """All exposures of a set, of the camera that takes longest; 0 where the driver does not know."""
    gaps = [(len(one.channels), cameras.gap_ms(one.kind, camera_settings(config, one))) for one in config.cameras]
    return max((count * gap for count, gap in gaps if gap is not None), default=0.0)


def measure(config: LineConfig, takt_ms: int, panels: int, place: Path, watch: Watch = lambda line: None) -> Measured:
    """Run the line for so many panels; `watch` is called some ten times a second. Ctrl-C ends it early, in order.

    Raises:
        TaktError: it cannot start, or a stage fell too often.
    """
    with _state(config, place) as state:
        line = prepared(config, takt_ms, panels, state)
        for _ in check_line(line):
            pass
        line = _looping(line)
        to_stderr(line.station, "supervisor")
        interrupted, clocks = Interrupted(), Clocks()
        began_s, cpu_s = time.monotonic(), 0.0
        with Supervisor(line) as supervisor:
            while not (interrupted.asked or supervisor.finished()):
                supervisor.watch(WATCH_MS)
                cpu_s -= time.thread_time()
                watch(supervisor)
                cpu_s += time.thread_time()
        spent = (time.monotonic() - began_s, cpu_s)
        return _read(line, takt_ms, panels, spent, tuple(clocks.said()), interrupted.asked)


def _read(
    line: LineConfig, takt_ms: int, panels: int, spent: tuple[float, float], clocks: tuple[str, ...], interrupted: bool
) -> Measured:
    rows = [json.loads(text) for text in record_path(line).read_text().splitlines()]
    placed = [row["panel"] for row in rows if "seq" in row]
    due = max(placed, default=-1) + 1 if interrupted else panels
    window_ms = min(line.timing.window_ms, _window_ms(line))
    run = Run(takt_ms, window_ms, exposure_ms(line), due)
    records = (json.loads(text) for _, text in read_lines(ledger_files(line.ledger)))
    found = timelines(records, rows, run)
    return Measured(run, found, summarise(line, Before()), *spent, clocks, interrupted)


def _window_ms(line: LineConfig) -> int:
    settings = line.conveyor.settings if line.conveyor else {}
    return int(settings.get("window_ms", 1_000))


@contextmanager
def _state(config: LineConfig, place: Path) -> Iterator[Path]:
    """A state folder on the disk of `place`, with the line's own engines and keys; gone afterwards."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        state = Path(tempfile.mkdtemp(prefix=".line-", dir=place.resolve()))
    except OSError as error:
        raise ConfigError(f"{place}: cannot be written: {error.strerror}; name another folder with --out") from None
    try:
        for name in SHARED:
            if (config.state / name).exists():
                (state / name).symlink_to(config.state / name)
        yield state
    finally:
        shutil.rmtree(state, ignore_errors=True)
