"""The real processes of a line with simulated devices, and what a test does to them."""

import atexit
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from pymodbus.client import ModbusTcpClient

from pipeline.config import LineConfig, load
from pipeline.devices import record_path
from pipeline.fork_server import ForkServer
from pipeline.frames import SHARED
from pipeline.ledger import ledger_files, read_lines
from pipeline.plcs import LineStatus, registers
from pipeline.recount import Count, recount
from pipeline.supervisor import Supervisor

FORK_SERVERS = ExitStack()
atexit.register(FORK_SERVERS.close)
PATIENCE_S = 40.0  # shared machines stall; a condition that holds is noticed at once
LAGGING = {"NOT_CAPTURED", "UNROUTABLE", "INCOMPLETE", "ASSOCIATION", "LATE"}  # the faults of a machine that stalls


@dataclass
class Line:
    """A running line. Conditions are waited for, and while a test waits the supervisor watches."""

    config: LineConfig
    supervisor: Supervisor

    def until(self, condition: Callable[[], object], what: str, *, watching: bool = True) -> None:
        """Wait for `condition`; not `watching` leaves dead stages dead."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f"waited for {what}: {self.describe()}"
            if watching:
                self.supervisor.watch(20)
            else:
                time.sleep(0.02)

    def until_all_up(self) -> None:
        """Wait until every stage says that it is ready; the line may pass panels before its archiver is up."""
        states = self.supervisor.states
        self.until(lambda: all(health and health.state == "ready" for health in states().values()), "every stage")

    def until_decided(self, panels: int, *, watching: bool = True) -> None:
        """Wait for that many panels in the PLC's record."""
        self.until(lambda: len(self.rows()) >= panels, f"{panels} panels", watching=watching)

    def until_finished(self) -> None:
        """Wait for the end of the conveyor's run."""
        self.until(self.supervisor.finished, "the conveyor's last panel")

    def until_passing_again(self) -> None:
        """Wait for a pass that was triggered after now."""
        now_ns = time.monotonic_ns()
        self.until(lambda: any(passed(row) and row["trigger_ns"] > now_ns for row in self.rows()), "a pass")

    def describe(self) -> str:
        states = {name: health and (health.state, health.text) for name, health in self.supervisor.states().items()}
        return f"{states}, {len(self.rows())} panels decided, logs in {self.config.state / 'logs'}"

    # --- what a test does to a stage ---

    def pid(self, stage: str) -> int:
        return self.supervisor.running[stage].process.pid

    def kill(self, stage: str) -> int:
        """kill -9; returns the pid that is gone."""
        process = self.supervisor.running[stage].process
        process.kill()
        process.wait()
        return process.pid

    def until_restarted(self, stage: str, old_pid: int) -> None:
        """Wait for a new process that is ready."""
        self.until(lambda: self.pid(stage) != old_pid and self.state(stage) == "ready", f"a new {stage}")

    @contextmanager
    def frozen(self, stage: str) -> Iterator[None]:
        """SIGSTOP until the context is left."""
        os.kill(self.pid(stage), signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid(stage), signal.SIGCONT)

    # --- what it says ---

    def state(self, stage: str) -> str:
        health = self.supervisor.states()[stage]
        return health.state if health else ""

    def text(self, stage: str) -> str:
        health = self.supervisor.states()[stage]
        return health.text if health else ""

    def rows(self) -> list[dict[str, Any]]:
        return plc_rows(self.config)

    def records(self, step: str) -> list[dict[str, Any]]:
        return ledger_records(self.config, step)


def plc_rows(config: LineConfig) -> list[dict[str, Any]]:
    """The simulated PLC's own record: one row a decided panel."""
    path = record_path(config)
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [row for line in lines if line.endswith("\n") and "seq" in (row := json.loads(line))]


def ledger_records(config: LineConfig, step: str) -> list[dict[str, Any]]:
    """The ledger's records of one step, in order."""
    lines = [line for _, line in read_lines(ledger_files(config.ledger)) if line.endswith(b"\n")]
    return [record for record in map(json.loads, lines) if record["step"] == step]


def counted(config: LineConfig) -> Count:
    """The ledger recounted from its bytes alone."""
    return recount(read_lines(ledger_files(config.ledger)))


def plc_status(config: LineConfig) -> LineStatus:
    """What the vision system wrote into the PLC's registers besides its results, read by a client of our own."""
    with ModbusTcpClient("127.0.0.1", port=config.plc.settings["port"], timeout=2) as client:
        answer = client.read_holding_registers(registers.STATUS_START, count=registers.STATUS_COUNT)
    return registers.unpack_status(answer.registers)


def passed(row: dict[str, Any]) -> bool:
    return row["ack_code"] == 1


def fork_server() -> ForkServer:
    """One for all lines of this process; another where the environment that stages see is another."""
    seen = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return _fork_server(frozenset(seen.items()))


@cache
def _fork_server(environment: frozenset[tuple[str, str]]) -> ForkServer:
    return FORK_SERVERS.enter_context(ForkServer())


@contextmanager
def running(path: Path) -> Iterator[Line]:
    """The line of a line file, from a start to an end in order; nothing of it may be left then."""
    config = load(path)
    with Supervisor(config, fork_server()) as supervisor:
        yield Line(config, supervisor)
    assert leftovers(config) == []


def leftovers(config: LineConfig) -> list[str]:
    """Processes, sockets and shared memory of this line that are still there."""
    folders = [str(config.run_dir)] if config.run_dir.exists() else []
    shared = [str(path) for path in SHARED.glob(f"takt-{config.run_id}-*")]
    return [*processes(config), *folders, *shared]


def processes(config: LineConfig) -> dict[str, int]:
    """The stages of this line that are running, with their process ids: their output goes to its logs."""
    found = {}
    for process in psutil.process_iter(["status"]):
        with suppress(OSError):  # it has ended, or is not ours
            output = Path(f"/proc/{process.pid}/fd/1").readlink()
            if output.parent == config.state / "logs" and process.info["status"] != psutil.STATUS_ZOMBIE:
                found[output.stem] = process.pid
    return found


def assert_accounted(config: LineConfig) -> Count:
    """Every trigger has one outcome, and the PLC's own record says the same of every panel; returns the count."""
    count = counted(config)
    assert (count.intact, count.first_broken, dict(count.open)) == (True, None, {})
    assert count.triggers == len(count.outcomes) == count.passed + count.rejected + sum(count.faults.values())
    ours = {seq: record["outcome"] == "PASS" for seq, record in count.outcomes.items()}
    theirs = {row["seq"]: passed(row) for row in plc_rows(config)}
    assert {seq for seq in theirs if theirs[seq] != ours.get(seq)} == set()
    assert {seq for seq in ours if ours[seq] and not theirs.get(seq)} == set()
    return count


def assert_every_pass_was_inspected(config: LineConfig) -> None:
    """Each panel that the PLC passed has a captured set and a passing verdict of its own token before its intent."""
    tokens = {record["seq"]: record["token"] for record in ledger_records(config, "trigger")}
    verdicts = {record["token"]: record for record in ledger_records(config, "verdict")}
    for row in filter(passed, plc_rows(config)):
        verdict = verdicts[tokens[row["seq"]]]
        assert (verdict["outcome"], verdict["fault"]) == ("PASS", None)
        assert verdict["score"] <= verdict["limit"]
