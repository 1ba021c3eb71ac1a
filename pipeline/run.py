"""Runs a line until it is finished or stopped, and says what came of it: the body of `takt run` and `takt demo`."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pipeline.check import check_line
from pipeline.config import LineConfig
from pipeline.devices import conveyor_settings
from pipeline.errors import TaktError
from pipeline.log import logger
from pipeline.messages import FAULTS, Fault
from pipeline.metrics import SUPERVISOR
from pipeline.stage import open_log
from pipeline.summary import before, summarise
from pipeline.supervisor import Interrupted, Supervisor

LOG = logger("run")
WATCH_MS = 100
SAY_EVERY_S = 10.0


def run_line(config: LineConfig, console: Console) -> dict[str, Any]:
    """The summary of the run; the line is down again when this returns.

    Raises:
        TaktError: it cannot start, or a stage fell too often.
    """
    for found in check_line(config):
        if found.startswith(("allowed", "wish")):
            console.print(f"[yellow]{found}[/]", highlight=False)
        if found.startswith("metrics"):
            console.print(found, highlight=False, soft_wrap=True)
    open_log(config, SUPERVISOR, aloud=True)
    with _last_words_kept():
        return _watched(config, console)


def _watched(config: LineConfig, console: Console) -> dict[str, Any]:
    start = before(config)
    interrupted = Interrupted()
    panels = conveyor_settings(config).panels if config.conveyor else 0
    with Supervisor(config) as supervisor, _Display(console, panels) as display:
        while not (interrupted.asked or supervisor.finished()):
            supervisor.watch(WATCH_MS)
            display.show(supervisor)
        display.say("stopping")
        states = {name: dict(health.counters) for name, health in supervisor.states().items() if health}
    return summarise(config, start) | {"interrupted": interrupted.asked, "stages": states}


@contextmanager
def _last_words_kept() -> Iterator[None]:
    """What ends the line stands in its log too."""
    try:
        yield
    except TaktError as error:
        LOG.error(str(error), extra={"fatal": True})
        raise
    except Exception:
        LOG.exception("crashed", extra={"fatal": True})
        raise


class _Display:
    """One living line on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, panels: int) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._console, self._panels, self._said_s = console, panels, 0.0
        self._progress = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
        self._stack = ExitStack()

    def __enter__(self) -> "_Display":
        if self._console.is_terminal:
            self._stack.enter_context(self._progress)
        self._task = self._progress.add_task("starting", total=self._panels or None)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def show(self, supervisor: Supervisor) -> None:
        counter = {name: int(supervisor.counter("plc_bridge", name)) for name in ("triggers", "passed", "not_passed")}
        text = f"{_state(supervisor)}: {counter['passed']} passed, {counter['not_passed']} rejected"
        self._progress.update(self._task, description=text, completed=counter["passed"] + counter["not_passed"])
        if not self._console.is_terminal and time.monotonic() - self._said_s > SAY_EVERY_S:
            self._said_s = time.monotonic()
            self._console.print(text)

    def say(self, text: str) -> None:
        self._progress.update(self._task, description=text)


def _state(supervisor: Supervisor) -> str:
    health = supervisor.states().get("plc_bridge")
    return "starting" if health is None else health.text or health.state


def print_summary(summary: dict[str, Any], config: LineConfig, console: Console) -> None:
    """What happened, for people."""
    console.print(f"\n[bold]{summary['triggers']} panels[/]: {summary['passed']} passed, ", end="")
    console.print(f"{summary['rejected']} rejected by inspection, {sum(summary['faults'].values())} by a fault")
    for name, count in summary["faults"].items():
        console.print(f"  {count} x {name}: {FAULTS[Fault(name)].text}")
    if "missed" in summary:
        _print_truth(summary, console)
    taken = summary["latency_ms"]
    if taken["median"] is not None:
        console.print(
            f"trigger to acknowledgement: median {taken['median']} ms, p99 {taken['p99']}, max {taken['max']}"
        )
    held = "[green]yes[/]" if summary["reconciled"] else "[red]NO[/]"
    console.print(f"reconciled with the ledger{' and the PLC' if 'plc' in summary else ''}: {held}")
    console.print(f"ledger, store, evidence and logs: {config.state}")


def _print_truth(summary: dict[str, Any], console: Console) -> None:
    rejected = f"{summary['false_rejects']} of {summary['good']} good panels rejected"
    console.print(f"{summary['missed']} of {summary['defective']} defective panels missed, {rejected}")
    for kind, count in summary["missed_by_kind"].items():
        console.print(f"  missed {count} of {summary['defective_by_kind'][kind]} {kind}")


def exit_status(summary: dict[str, Any]) -> int:
    """0 when every panel is accounted for and no fault occurred but those that a stop asked for brings about."""
    asked_for = {Fault.STOPPED} if summary["interrupted"] else set()
    return 0 if summary["reconciled"] and summary["faults"].keys() <= asked_for else 1
