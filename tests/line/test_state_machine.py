"""The real processes under whatever order of mishaps: the PLC's own record never shows a defective panel passed.

Not shrunk: every step takes seconds, and the course of a failure is printed as it was.
"""

import json
import os
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar

import pytest
import toy_line
from harness import assert_every_pass_was_inspected, counted, passed, plc_rows, running
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tcp_proxy import cable

from pipeline.bench.storm import free_port
from pipeline.config import LineConfig
from pipeline.devices import record_path
from pipeline.simulation.plan import Plan

NEEDED = ("capture_top", "inspector", "plc_bridge")
STAGES = (*NEEDED, "archiver")
GRACE_NS = 100_000_000  # what was under way when a stage was stopped
PATIENCE_S = 2.0  # a broken line may place no panel at all


@dataclass
class Outage:
    """A time in which nothing can pass; `to_ns` 0: it lasts."""

    what: str
    from_ns: int
    to_ns: int = 0

    def covers(self, row: dict[str, Any]) -> bool:
        """Triggered and decided inside."""
        decided_ns = row["trigger_ns"] + row["latency_ms"] * 1e6
        return row["trigger_ns"] > self.from_ns + GRACE_NS and (self.to_ns == 0 or decided_ns < self.to_ns)


class LineMachine(RuleBasedStateMachine):
    """One line from its start to its end in order; what the rules do is what happens to it."""

    recipe: ClassVar[Path]
    folder: ClassVar[Path]
    played: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.outages: list[Outage] = []
        self.frozen: dict[str, int] = {}
        self.line = self.stack.enter_context(running(self._line_file()))
        self.plan = Plan.model_validate(self.line.config.cameras[0].settings["plan"])
        self.line.until_all_up()
        self.line.until_passing_again()

    def _line_file(self) -> Path:
        port = free_port()
        self.cable, near = self.stack.enter_context(cable(port))
        return toy_line.write_line(
            Path(mkdtemp(dir=self.folder)),
            self.recipe,
            plc={"settings": {"port": near}},
            conveyor={"settings": {"port": port, "panels": 0, "takt_ms": 120}},
            supervisor={"restarts": 100, "silent_s": 60},
        )

    def overture(self) -> None:
        """Each kind of mishap once, since the first example of a few is the simplest one."""
        course = [
            (partial(self.freeze, stage="inspector"), self.thaw),
            (partial(self.lose_the_link, swallowed=True), self.mend_the_link),
            (partial(self.kill, stage="plc_bridge"), self.wait_for_a_pass),
            (partial(self.lose_the_link, swallowed=False), self.mend_the_link),
            (partial(self.kill, stage="capture_top"), self.wait_for_a_pass),
            (partial(self.freeze, stage="plc_bridge"), self.wait_for_a_pass),
        ]
        for breaks, mends in course:
            for step in (breaks, partial(self.let_panels_pass, panels=3), mends):
                step()
                self.no_defective_panel_passed()
                self.nothing_passed_in_an_outage()

    def _say(self, *what: object) -> None:
        """A course is not repeatable: it is shown where the test fails."""
        print(f"{time.monotonic():.2f}", *what)  # noqa: T201

    # --- what happens ---

    @initialize()
    def begin(self) -> None:
        if not self.played:
            type(self).played = True
            self.overture()

    @rule(panels=st.integers(1, 4))
    def let_panels_pass(self, panels: int) -> None:
        self._say("let_panels_pass", panels)
        wanted, end = len(self.line.rows()) + panels, time.monotonic() + PATIENCE_S
        healthy = self.cable.whole and not self.frozen
        self.line.until(
            lambda: len(self.line.rows()) >= wanted or (not healthy and time.monotonic() > end), f"{panels} panels"
        )

    @rule()
    def wait_for_a_pass(self) -> None:
        self._say("wait_for_a_pass")
        self._mend()
        self._thaw()
        self.line.until_passing_again()

    @precondition(lambda self: not self.frozen)
    @rule(stage=st.sampled_from(STAGES))
    def kill(self, stage: str) -> None:
        self._say("kill", stage)
        self.line.kill(stage)

    @precondition(lambda self: not self.frozen)
    @rule(stage=st.sampled_from(STAGES))
    def freeze(self, stage: str) -> None:
        self._say("freeze", stage)
        pid = self.line.pid(stage)
        with suppress(ProcessLookupError):  # it was killed a moment ago
            os.kill(pid, signal.SIGSTOP)
            self.frozen[stage] = pid
            if stage in NEEDED:
                self.outages.append(Outage(stage, time.monotonic_ns()))

    @precondition(lambda self: self.frozen)
    @rule()
    def thaw(self) -> None:
        self._say("thaw")
        self._thaw()

    @precondition(lambda self: self.cable.whole)
    @rule(swallowed=st.booleans())
    def lose_the_link(self, swallowed: bool) -> None:
        self._say("lose_the_link", swallowed)
        self.cable.swallow() if swallowed else self.cable.cut()
        self.outages.append(Outage("link", time.monotonic_ns()))

    @precondition(lambda self: not self.cable.whole)
    @rule()
    def mend_the_link(self) -> None:
        self._say("mend_the_link")
        self._mend()

    def _thaw(self) -> None:
        for stage, pid in self.frozen.items():
            self._ended(stage)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen.clear()

    def _mend(self) -> None:
        if not self.cable.whole:
            self._ended("link")
            self.cable.mend()

    def _ended(self, what: str) -> None:
        for outage in self.outages:
            if outage.what == what and not outage.to_ns:
                outage.to_ns = time.monotonic_ns()

    # --- what must hold ---

    @invariant()
    def no_defective_panel_passed(self) -> None:
        assert [row["panel"] for row in self.line.rows() if passed(row) and self.plan.panel(row["panel"]).kind] == []

    @invariant()
    def nothing_passed_in_an_outage(self) -> None:
        decided = [row for row in self.line.rows() if passed(row)]
        assert [row for row in decided for outage in self.outages if outage.covers(row)] == []

    def teardown(self) -> None:
        with self.stack:
            self._mend()
            self._thaw()
            self.line.until_passing_again()
            self.line.supervisor.stop()
            assert_reconciled(self.line.config)
            assert_every_pass_was_inspected(self.line.config)


def assert_reconciled(config: LineConfig) -> None:
    """One decision of each trigger in the PLC's record, one outcome in the ledger; equal where the PLC could say so."""
    rows = plc_rows(config)
    theirs = {row["seq"]: passed(row) for row in rows}
    side = record_path(config)
    placed = [json.loads(line)["seq"] for line in side.with_name(side.name + ".triggered").read_text().splitlines()]
    assert sorted(placed) == sorted(theirs) and len(rows) == len(theirs)
    found = counted(config)
    assert (found.intact, found.first_broken, dict(found.open)) == (True, None, {})
    assert found.triggers == len(found.outcomes) == found.passed + found.rejected + sum(found.faults.values())
    assert theirs.keys() <= found.outcomes.keys()
    for seq, outcome in found.outcomes.items():
        says_pass = outcome["outcome"] == "PASS"
        assert says_pass == theirs[seq] if outcome["acknowledged"] else not says_pass and outcome["fault"], seq


def play(recipe: Path, folder: Path, examples: int, steps: int) -> None:
    class Here(LineMachine):
        pass

    Here.recipe, Here.folder = recipe, folder
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
        ),
    )


def test_a_course_of_mishaps_passes_no_defective_panel(recipe: Path, tmp_path: Path) -> None:
    play(recipe, tmp_path, examples=2, steps=8)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_long_courses_of_mishaps_pass_no_defective_panel(recipe: Path, tmp_path: Path) -> None:
    play(recipe, tmp_path, examples=8, steps=40)
