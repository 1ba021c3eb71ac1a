"""Starts, watches, restarts and stops the rows of the process table, and owns what outlives a single stage."""

import os
import shutil
import signal
import subprocess
import time
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline import wishes
from pipeline.bus import Bus
from pipeline.claim import claim
from pipeline.config import LineConfig
from pipeline.errors import ConfigError, StageError
from pipeline.evidence import pool_shape, pools
from pipeline.fork_server import Child, ForkServer, Order
from pipeline.frames import create_ring, remove_ring
from pipeline.log import last_words, logger, output_file, tail
from pipeline.messages import Health
from pipeline.metrics import SUPERVISOR, Metrics, Reading
from pipeline.scrape import host_reading, scraped, write_targets
from pipeline.stages import BRIDGE, HALT, Stage, stages

LOG = logger("supervisor")
STOP_S = 10.0
HALT_S = 5.0


@dataclass
class Restarts:
    """At most `limit` restarts in `window_s` seconds; after that the line stops."""

    limit: int
    window_s: float
    times: deque[float] = field(default_factory=deque)

    def allow(self, now_s: float) -> bool:
        while self.times and now_s - self.times[0] > self.window_s:
            self.times.popleft()
        self.times.append(now_s)
        return len(self.times) <= self.limit


@dataclass
class Running:
    """One process of the table."""

    stage: Stage
    process: Child
    since_s: float
    restarts: Restarts
    proven: bool = False  # it, or one before it, has been up: its fall is no mistake in the line file
    health: Health | None = None
    heard_s: float = 0.0


class Supervisor:
    """A line that runs from entering the context to leaving it.

    Raises:
        ConfigError: the line is running already, or there is too little memory for its rings.
        StageError: a stage did not start, or came down more often than the settings allow.
    """

    def __init__(self, config: LineConfig, forks: ForkServer | None = None) -> None:
        """`forks` of the caller's make the processes, else some of its own."""
        self.config = config
        self._forks = forks or ForkServer()
        self._own_forks = forks is None
        self.running: dict[str, Running] = {}
        self.restarted: Counter[str] = Counter()
        self.metrics = Metrics(config.station, SUPERVISOR, SUPERVISOR)
        self.metrics.read(self.reading)
        self.metrics.read(host_reading(config))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.enter_context(claim(self.config))
            self._logs.mkdir(exist_ok=True)
            self._stack.callback(self._clean)
            self._clean()
            if self._own_forks:
                self._stack.enter_context(self._forks)
            self._prepare()
            self._stack.callback(self.stop)
            bus = self._stack.enter_context(Bus("supervisor"))
            table = stages(self.config)
            self._port = bus.sub([self.config.socket(f"health-{stage.name}") for stage in table], "health")
            self._bus = bus
            self._stack.enter_context(scraped(self.config, SUPERVISOR, self.metrics))
            write_targets(self.config)
            for stage in table:
                self._start(stage, self._bounds(), proven=False)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def watch(self, timeout_ms: int = 100) -> None:
        """One look: news from the stages, restarts of what fell, an end to what hangs."""
        self._bus.poll(timeout_ms)
        now = time.monotonic()
        for received in self._port.drain():
            health = received.message
            if isinstance(health, Health) and health.stage in self.running:
                row = self.running[health.stage]
                if health.pid == row.process.pid:
                    row.health, row.heard_s = health, now
        for row in list(self.running.values()):
            self._check(row, now)

    def finished(self) -> bool:
        """True when a stage says that no panel will come any more."""
        return any(row.health is not None and row.health.state == "finished" for row in self.running.values())

    def states(self) -> dict[str, Health | None]:
        return {name: row.health for name, row in self.running.items()}

    def counter(self, stage: str, name: str) -> float:
        health = self.running[stage].health if stage in self.running else None
        return health.counters.get(name, 0) if health else 0

    def reading(self) -> Reading:
        """What a scrape finds: of every stage whether it is there, how it is and when it said so."""
        rows, now = {(name,): row for name, row in list(self.running.items())}, time.monotonic()
        return {
            "up": {labels: row.process.returncode is None for labels, row in rows.items()},
            "ready": {labels: row.health is not None and row.health.state == "ready" for labels, row in rows.items()},
            "health_age": {labels: now - row.heard_s for labels, row in rows.items()},
            "restarts": {labels: self.restarted[row.stage.name] for labels, row in rows.items()},
        }

    def stop(self) -> None:
        """End the stages in order, the stubborn ones by force; the PLC reads Halted even where its bridge fell."""
        for order in sorted({row.stage.stops for row in self.running.values()}):
            rows = [row for row in self.running.values() if row.stage.stops == order]
            for row in rows:
                row.process.terminate()
            end = time.monotonic() + STOP_S
            for row in rows:
                self._reap(row, end)
            if any(row.stage.module == BRIDGE and row.process.returncode for row in rows):
                self._halt()
        self.running.clear()

    # --- a stage's life ---

    def _start(self, stage: Stage, restarts: Restarts, *, proven: bool) -> None:
        process, now = self._spawn(stage), time.monotonic()
        self.running[stage.name] = Running(stage, process, now, restarts, proven, heard_s=now)

    def _spawn(self, stage: Stage) -> Child:
        output = output_file(self.config.state, stage.name)
        output.write_bytes(b"")
        modules = [stage.module] if stage.needed else []  # what the line can do without is no part of the others
        order = Order(stage.name, os.fspath(self._run_file), os.fspath(output), os.getpid(), modules)
        return self._forks.start(order)

    def _bounds(self) -> Restarts:
        bounds = self.config.supervisor
        return Restarts(bounds.restarts, bounds.restart_window_s)

    def _check(self, row: Running, now: float) -> None:
        bounds = self.config.supervisor
        status = row.process.poll()
        began = row.health is not None and row.health.state != "starting"
        row.proven = row.proven or began
        if status is None:
            if now - row.heard_s > (bounds.silent_s if began else bounds.start_s):
                LOG.error("stage hangs", extra={"which": row.stage.name})
                row.process.kill()
            return None
        if not row.stage.needed:
            return self._go_on_without(row, now)
        if not row.proven:
            raise StageError(f"{row.stage.name} did not start: {last_words(self.config.state, row.stage.name)}")
        printed = tail(output_file(self.config.state, row.stage.name))
        LOG.error("stage fell", extra={"which": row.stage.name, "status": status, "printed": printed})
        self.restarted[row.stage.name] += 1
        if not row.restarts.allow(now):
            raise StageError(
                f"{row.stage.name} fell more than {bounds.restarts} times in {bounds.restart_window_s} s, the line"
                f" stops in state Halted: {last_words(self.config.state, row.stage.name)}"
            )
        return self._start(row.stage, row.restarts, proven=True)

    def _go_on_without(self, row: Running, now: float) -> None:
        """A stage that the line does not need: brought back within its bounds, and then no more."""
        why = last_words(self.config.state, row.stage.name)
        LOG.error("stage fell that the line does not need", extra={"which": row.stage.name, "why": why})
        if row.proven and row.restarts.allow(now):
            self.restarted[row.stage.name] += 1
            return self._start(row.stage, row.restarts, proven=True)
        LOG.error("the line goes on without it", extra={"which": row.stage.name})
        del self.running[row.stage.name]
        return None

    @staticmethod
    def _reap(row: Running, end_s: float) -> None:
        try:
            row.process.wait(max(end_s - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            LOG.error("stage does not stop", extra={"which": row.stage.name})
            row.process.kill()
            row.process.wait()

    def _halt(self) -> None:
        process = self._spawn(HALT)
        try:
            process.wait(HALT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    # --- what outlives a stage ---

    def _prepare(self) -> None:
        try:
            self.config.run_dir.mkdir(mode=0o700)
        except OSError as error:
            raise ConfigError(f"{self.config.run_dir}: {error.strerror}: remove what is there") from None
        self._run_file.write_text(self.config.model_dump_json())
        wishes.stand(self.config, wishes.resolved(self.config))
        for camera in self.config.cameras:
            create_ring(self.config.ring(camera.name), camera.slots, int(camera.slot_mb * 1e6))
        for pool in pools(self.config):
            create_ring(pool, *pool_shape(self.config))

    def _clean(self) -> None:
        """No socket and no shared memory stays; what a crash left goes before the next start."""
        shutil.rmtree(self.config.run_dir, ignore_errors=True)
        for name in [*(self.config.ring(camera.name) for camera in self.config.cameras), *pools(self.config)]:
            remove_ring(name)

    @property
    def _logs(self) -> Path:
        return self.config.state / "logs"

    @property
    def _run_file(self) -> Path:
        return self.config.run_dir / "line.json"


class Interrupted:
    """Ctrl-C and SIGTERM as a flag, so that the line always ends in order."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True
