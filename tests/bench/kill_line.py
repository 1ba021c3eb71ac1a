"""A line as a plant has it, for `kills.py`: `takt run` in a process of its own, its PLC in another, seen from outside.

What is measured comes from the PLC's registers, read by a Modbus client of this file, and from the PLC's own record.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from pymodbus.client import ModbusTcpClient

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "line"))

import toy_line  # pyright: ignore[reportMissingImports]

from pipeline.bench import storm as storms
from pipeline.bench.storm import Storm
from pipeline.bus import Bus
from pipeline.config import LineConfig, load
from pipeline.devices import record_path
from pipeline.engine_room import build_all
from pipeline.messages import Health
from pipeline.plcs import registers
from pipeline.plcs.simulated import Settings
from pipeline.plcs.simulated.conveyor import run_simulated_plc
from pipeline.stages import stages

TAKT_MS, WINDOW_MS = 50, 200
LOOK_S = 0.004  # from one look at the registers to the next
PATIENCE_S = 40.0
HALTED = 2


def line_file(out: Path, wires: Path, kills: int, *, standby: bool) -> Path:
    """The storm's line without its faults and its relay; the PLC and its `wires` are somewhere else."""
    config = storms.line(Storm(triggers=1, takt_ms=TAKT_MS, rate=0, process_faults=0), out / "state")
    table = config.model_dump(mode="json", exclude_none=True, exclude={"source", "conveyor"})
    del table["bus"]["control_bind"]
    for camera in table["cameras"]:
        camera["settings"]["wire"] = str(wires / camera["name"])
    table["timing"] |= {"window_ms": WINDOW_MS, "margin_ms": 20}
    table["engine"]["standby"] = standby
    table["supervisor"] |= {"restarts": 10 + kills}
    table["metrics"] = {"enabled": False}
    path = out / "line.toml"
    path.write_text("".join(f"{key} = {toy_line.toml(value)}\n" for key, value in table.items()))
    return path


@contextmanager
def plc_of(config: LineConfig) -> Iterator[None]:
    """The PLC and its belt, which outlive the line."""
    wires = tuple(Path(camera.settings["wire"]) for camera in config.cameras)
    own = {"takt_ms": TAKT_MS, "window_ms": WINDOW_MS, "wires": wires, "record": record_path(config)}
    settings = Settings(port=config.plc.settings["port"], **own)
    process: SpawnProcess = multiprocessing.get_context("spawn").Process(target=run_simulated_plc, args=(settings,))
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()
        process.close()


@dataclass(frozen=True)
class Seen:
    """What stood in the vision system's registers from `at_ns` on."""

    at_ns: int
    heartbeat: int
    state: int


class Registers:
    """Watches heartbeat and state; `changes` grows, by one thread."""

    def __init__(self, port: int) -> None:
        self.changes: list[Seen] = []
        self._port, self._over = port, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="registers")

    def __enter__(self) -> "Registers":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def since(self, at_ns: int) -> list[Seen]:
        """Newest last; the first is what stood there then."""
        found = list(self.changes)
        first = max((index for index, seen in enumerate(found) if seen.at_ns <= at_ns), default=0)
        return found[first:]

    def last_beat_ns(self) -> int:
        """When the heartbeat changed last."""
        found = list(self.changes)
        newest = found[-1].heartbeat
        return next(
            (later.at_ns for one, later in zip(found[-2::-1], found[:0:-1], strict=False) if one.heartbeat != newest),
            found[0].at_ns,
        )

    def _watch(self) -> None:
        with ModbusTcpClient("127.0.0.1", port=self._port, timeout=1) as client:
            while not self._over.wait(LOOK_S):
                answer = client.read_holding_registers(registers.STATUS_START, count=registers.STATUS_COUNT)
                status = registers.unpack_status(answer.registers)
                seen = Seen(time.monotonic_ns(), status.heartbeat, status.state)
                if not self.changes or (self.changes[-1].heartbeat, self.changes[-1].state) != (
                    seen.heartbeat,
                    seen.state,
                ):
                    self.changes.append(seen)


@dataclass
class Plant:
    """The line and who starts it again: `takt run` here, as a unit of systemd would."""

    path: Path
    config: LineConfig
    bus: Bus
    supervisor: subprocess.Popen[bytes] = field(init=False)
    health: dict[str, tuple[Health, float]] = field(default_factory=dict)
    killed: set[int] = field(default_factory=set)  # what they said before may still be on its way

    def __post_init__(self) -> None:
        self._port = self.bus.sub(
            [self.config.socket(f"health-{stage.name}") for stage in stages(self.config)], "health"
        )
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "pipeline.cli", "run", str(self.path)]
        with self.path.with_name("run.err").open("ab") as complaints:
            self.supervisor = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=complaints)

    def turn(self) -> None:
        """Hear the stages; start the line again when it is not there."""
        self.bus.poll(5)
        for received in self._port.drain():
            if isinstance(received.message, Health) and received.message.pid not in self.killed:
                self.health[received.message.stage] = (received.message, time.monotonic())
        if self.supervisor.poll() is not None:
            self.start()

    def until(self, condition: Callable[[], object], what: str) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"waited for {what}: {self.health}, logs in {self.config.state / 'logs'}"
            self.turn()

    def settled(self) -> bool:
        """Every stage is ready, says so, and is the one that says so."""
        now_s = time.monotonic()
        told = [self.health.get(stage.name) for stage in stages(self.config)]
        return all(
            one and one[0].state == "ready" and now_s - one[1] < 1 and psutil.pid_exists(one[0].pid) for one in told
        )

    def kill(self, name: str) -> int:
        """kill -9; when that was."""
        pid = self.supervisor.pid if name == "supervisor" else self.health[name][0].pid
        at_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        for gone in list(self.health) if name == "supervisor" else [name]:
            self.killed.add(self.health.pop(gone)[0].pid)
        return at_ns

    @contextmanager
    def standing(self) -> Iterator[None]:
        """The supervisor stands still: what falls meanwhile comes back afterwards."""
        self.supervisor.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.supervisor.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """In order; the exit status."""
        self.supervisor.send_signal(signal.SIGINT)
        return self.supervisor.wait(PATIENCE_S)

    def end(self) -> None:
        """Nothing stays, whatever happened."""
        self.supervisor.kill()
        self.supervisor.wait()


@contextmanager
def plant(out: Path, kills: int, *, standby: bool) -> Iterator[tuple[Plant, Registers]]:
    """A line that runs, and its registers; whatever happens, nothing stays."""
    out.mkdir(parents=True)
    with ExitStack() as stack:
        wires = Path(stack.enter_context(TemporaryDirectory(prefix="takt-kills-")))  # a socket's path is short
        path = line_file(out, wires, kills, standby=standby)
        config = load(path)
        build_all(config)
        stack.enter_context(plc_of(config))
        bus = stack.enter_context(Bus("watch"))
        running = Plant(path, config, bus)
        stack.callback(running.end)
        running.until(running.settled, "a line that is up")
        yield running, stack.enter_context(Registers(config.plc.settings["port"]))


def percentiles(values: Iterable[float | None]) -> dict[str, Any]:
    """Median, p99 (the largest of fewer than a hundred) and maximum of those that are there."""
    ordered = sorted(value for value in values if value is not None)
    if not ordered:
        return {"n": 0}
    at = lambda share: ordered[min(int(share * len(ordered)), len(ordered) - 1)]  # noqa: E731
    return {"n": len(ordered), "median": at(0.5), "p99": at(0.99), "max": ordered[-1]}
