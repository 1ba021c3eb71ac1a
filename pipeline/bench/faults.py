"""`takt bench faults`: the real line under its supervisor in a storm of faults, and the counts that come of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.bench import storm as storms
from pipeline.bench.checker import Checker, Row
from pipeline.bench.fault_figures import Course, figures
from pipeline.bench.storm import ProcessFault, Storm
from pipeline.check import check_line
from pipeline.config import LineConfig
from pipeline.devices import record_path
from pipeline.engine_room import build_all
from pipeline.errors import StageError, UsageError
from pipeline.log import to_stderr
from pipeline.supervisor import Interrupted, Supervisor

WATCH_MS = 50
DRAIN_S = 60.0  # for the last pictures to be written


@dataclass
class Tail:
    """The lines that were appended to a file since the last look."""

    path: Path
    _offset: int = 0

    def rows(self) -> list[Row]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


@dataclass
class Relay:
    """The proxy's process, seen from here."""

    process: subprocess.Popen[str]

    def hole(self, stage: str, seconds: float) -> None:
        self._say(f"hole {stage} {seconds}")

    def counts(self) -> dict[str, Any]:
        """Messages and injected faults so far; nothing where it is not there any more."""
        self._say("count")
        answer = self.process.stdout.readline() if self.process.stdout else ""
        return json.loads(answer) if answer else {}

    def check(self) -> None:
        """Raises StageError where it is not there any more."""
        if self.process.poll() is not None:
            raise StageError("the relay between bridge and stages has ended; what it said last stands above")

    def _say(self, order: str) -> None:
        if self.process.stdin:
            with suppress(BrokenPipeError):
                self.process.stdin.write(order + "\n")
                self.process.stdin.flush()


@contextmanager
def relaying(config: LineConfig, storm: Storm) -> Iterator[Relay]:
    """The relay between the bridge and its stages, until the context is left."""
    ends = (config.socket("control"), config.bridge_socket)
    figures = (storm.rate, storm.seed, storms.WINDOW_MS, storm.hold_ms)
    command = [sys.executable, "-m", "pipeline.bench.proxy", *ends, *map(str, figures)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield Relay(process)
        finally:
            with suppress(BrokenPipeError):
                process.communicate(timeout=10)


@dataclass
class Disturber:
    """Process faults, each when its panel is triggered."""

    supervisor: Supervisor
    relay: Relay
    due: list[ProcessFault]
    done: list[dict[str, Any]] = field(default_factory=list)
    _stopped: dict[int, float] = field(default_factory=dict)  # pid -> when it goes on

    def turn(self, triggers: int) -> None:
        now_s = time.monotonic()
        for pid in [pid for pid, until_s in self._stopped.items() if until_s <= now_s]:
            self._go_on(pid)
        while self.due and self.due[0].at_trigger <= triggers:
            self._strike(self.due.pop(0))

    def _strike(self, fault: ProcessFault) -> None:
        self.done.append(asdict(fault) | {"at_ns": time.monotonic_ns()})
        process = self.supervisor.running[fault.stage].process
        match fault.kind:
            case "kill":
                process.kill()
            case "stop":
                process.send_signal(signal.SIGSTOP)
                self._stopped[process.pid] = time.monotonic() + fault.seconds
            case "hole":
                self.relay.hole(fault.stage, fault.seconds)

    def _go_on(self, pid: int) -> None:
        del self._stopped[pid]
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def end(self) -> None:
        """No stage stays stopped."""
        for pid in list(self._stopped):
            self._go_on(pid)


@dataclass
class Witness:
    """Feeds the checker as the run goes on, and takes away the pictures that it has seen."""

    config: LineConfig
    checker: Checker
    keep: bool = False
    unreadable: int = 0
    _looked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        record = record_path(self.config)
        self._decided, self._triggered = Tail(record), Tail(record.with_name(record.name + ".triggered"))
        self.ended = False

    def turn(self) -> None:
        rows = self._decided.rows()  # first: what is decided was triggered before
        self.ended = self.ended or any("end" in row for row in rows)
        self.checker.triggered(self._triggered.rows())
        self.checker.decided(rows)
        folder = self.config.state / "evidence"
        for path in sorted(folder.iterdir()) if folder.exists() else ():
            if not path.name.endswith(".part") and not (self.keep and path.name in self._looked):
                self._look(path)

    def _look(self, path: Path) -> None:
        try:
            self.checker.look(path)
        except (OSError, ValueError, KeyError):
            self.unreadable += 1
        if self.keep:
            self._looked.add(path.name)
        else:
            shutil.rmtree(path)


def run_storm(
    storm: Storm, state: Path, show: Callable[[int, int], None], *, keep: bool = False
) -> tuple[dict[str, Any], Checker]:
    """Run it all below `state`, which must not exist; the figures, and the checker that found them.

    `show` gets the panels triggered and those passed now and then. Ctrl-C ends the run early, in order.

    Raises:
        TaktError: the line cannot start.
    """
    if state.exists():
        raise UsageError(f"{state} exists: a storm needs a folder of its own, name another with --out")
    config = storms.line(storm, state)
    build_all(config)
    for _ in check_line(config):
        pass
    to_stderr(config.station, "supervisor")
    witness = Witness(config, Checker(storms.PLAN, storms.CAMERAS), keep)
    course = Course(began_ns=time.monotonic_ns())
    _run(config, storm, witness, course, show)
    witness.turn()
    course.seconds = round((time.monotonic_ns() - course.began_ns) / 1e9, 1)
    course.unreadable = witness.unreadable
    return figures(config, storm, witness.checker, course), witness.checker


def _run(config: LineConfig, storm: Storm, witness: Witness, course: Course, show: Callable[[int, int], None]) -> None:
    interrupted = Interrupted()
    with Supervisor(config) as supervisor, relaying(config, storm) as relay:
        disturber = Disturber(supervisor, relay, storms.process_faults(storm))
        try:
            while not (interrupted.asked or supervisor.finished()):
                supervisor.watch(WATCH_MS)
                relay.check()
                witness.turn()
                disturber.turn(witness.checker.triggers)
                show(witness.checker.triggers, int(supervisor.counter("plc_bridge", "passed")))
            disturber.end()  # an archiver that stands still writes nothing
            _drain(supervisor, witness, interrupted)
        except StageError as error:
            course.ended = str(error)
        finally:
            disturber.end()
        course.ended = "interrupted" if interrupted.asked else course.ended
        course.relayed, course.struck = relay.counts(), disturber.done
        course.restarts = Counter({name: len(row.restarts.times) for name, row in supervisor.running.items()})
        course.counters = {name: dict(health.counters) for name, health in supervisor.states().items() if health}


def _drain(supervisor: Supervisor, witness: Witness, interrupted: Interrupted) -> None:
    """Let the archiver write what it still has."""
    end_s = time.monotonic() + DRAIN_S
    kept = -1.0
    while time.monotonic() < end_s and not interrupted.asked:
        supervisor.watch(4 * WATCH_MS)
        witness.turn()
        was, kept = kept, supervisor.counter("archiver", "kept")
        if kept == was and supervisor.counter("archiver", "spooled") == 0:
            return
