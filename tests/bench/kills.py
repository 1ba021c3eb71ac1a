"""kill -9 of a random process of a running line, again and again: what the PLC sees, and what becomes of the panels.

    python tests/bench/kills.py [--kills 200] [--seed 0] [--standby] [--only STAGE] [--out DIR] [--json FILE]

Measured from outside, in the PLC's registers and its own record: from the loss of the last inspector to state Error;
whether a right pass, written by this script four beats after the bridge's last one, is refused; from the kill to the
first pass of a panel triggered after it. At the end every trigger is held against the PLC's record, the marks in the
pictures and the ledger. The supervisor is killed too: its stages must end with it, and `takt run` is started again;
its recovery includes that start. With a standby the inspector that is killed is the one that gets the panels.
"""

import argparse
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from kill_line import HALTED, TAKT_MS, Plant, Registers, percentiles, plant  # pyright: ignore[reportMissingImports]

from pipeline import plcs
from pipeline.bench import storm as storms
from pipeline.bench.checker import Checker, Row
from pipeline.bench.fault_figures import ledger_figures
from pipeline.bench.faults import Tail, Witness
from pipeline.devices import record_path
from pipeline.ledger import ledger_files, read_lines
from pipeline.plcs import ACK_REJECTED, PASS_CODE, Result
from pipeline.recount import recount

ERROR = 3
BEAT_MS, MISSED_BEATS = 50, 3
ERROR_MS, RECOVERY_MS = 200, 5000
MS = 1e6
BRIDGED = ("plc_bridge", "supervisor")


@dataclass
class Kill:
    """One kill; times in ms from it. None: does not apply."""

    stage: str
    at_ns: int
    error_ms: float | None = None
    forged_ms: float | None = None  # when a right pass was written into a line without its bridge
    forged_after_beat_ms: float | None = None
    refused: bool | None = None  # None: the panel's own window was over when the forged pass came
    recovery_ms: float = math.inf
    ready_ms: float | None = None  # until every stage is ready again


class Killer:
    """Strikes, and waits for the line to come back."""

    def __init__(self, line: Plant, seen: Registers, seed: int) -> None:
        self._line, self._seen = line, seen
        self._rng = random.Random(seed)
        self._rows: list[Row] = []
        self._tail = Tail(record_path(line.config))
        self._witness = Witness(line.config, Checker(storms.PLAN, storms.CAMERAS))

    def strike(self, stage: str) -> Kill:
        """Kill one, at any moment of its beat and of the takt."""
        self._line.until(lambda: self._line.settled() and self._passed_since(time.monotonic_ns() - 10**9), "a pass")
        time.sleep(self._rng.uniform(0, 4 * TAKT_MS / 1000))
        stage = self._assigned() if stage == "inspector" else stage
        with self._line.standing() if stage == "plc_bridge" else nullcontext():  # a next bridge would beat too soon
            kill = Kill(stage, self._line.kill(stage))
            if stage in BRIDGED:
                self._forge(kill)
        self._line.until(lambda: self._passed_since(kill.at_ns), f"a pass after the loss of {stage}")
        kill.recovery_ms = min(self._passed_since(kill.at_ns))
        self._line.until(self._line.settled, f"a line that is up after the loss of {stage}")
        kill.ready_ms = round((time.monotonic_ns() - kill.at_ns) / MS, 1)
        if stage not in ("archiver", *BRIDGED):
            kill.error_ms = self._error_ms(kill.at_ns)
        self._witness.turn()
        return kill

    def finish(self) -> dict[str, Any]:
        """Stop in order, and count."""
        status = self._line.stop()
        self._line.bus.poll(0)
        end_s = time.monotonic() + 10
        while self._open_panels() and time.monotonic() < end_s:
            time.sleep(0.05)
        self._witness.turn()
        found = self._witness.checker.findings()
        count = recount(read_lines(ledger_files(self._line.config.ledger)))
        return {
            "exit_status": status,
            "halted": self._seen.changes[-1].state == HALTED,
            "triggers": found.triggers,
            "passed": found.passed,
            "difference": found.difference,
            "wrong_pass": found.wrong_pass,
            "mixed_sets": found.mixed_sets,
            "wrong": found.wrong,
            "sets_with_pictures": found.sets_seen,
            "ledger": ledger_figures(count, self._witness.checker),
            "faults": dict(sorted(count.faults.items())),
        }

    def _assigned(self) -> str:
        """The inspector that gave the last verdict."""
        lines = ledger_files(self._line.config.ledger)[-1].read_bytes().splitlines()
        return next(json.loads(line)["inspector"] for line in reversed(lines) if b'"step":"verdict"' in line)

    def _open_panels(self) -> int:
        self._witness.turn()
        return self._witness.checker.triggers - len(list(self._witness.checker.decisions()))

    def _passed_since(self, at_ns: int) -> list[float]:
        """Milliseconds from `at_ns` to the passes of panels that were triggered after it."""
        self._rows = [*self._rows[-200:], *self._tail.rows()]
        passes = [row for row in self._rows if row.get("ack_code") == 1 and row["trigger_ns"] > at_ns]
        return [round((row["trigger_ns"] - at_ns) / MS + row["latency_ms"], 1) for row in passes]

    def _error_ms(self, at_ns: int) -> float | None:
        changes = self._seen.since(at_ns)[1:]
        return next((round((seen.at_ns - at_ns) / MS, 1) for seen in changes if seen.state == ERROR), None)

    def _forge(self, kill: Kill) -> None:
        """A right pass for the panel triggered last, once the fourth beat is due: three were missed."""
        silence_ns = (MISSED_BEATS + 1) * BEAT_MS * 1_000_000
        while (due_ns := self._seen.last_beat_ns() + silence_ns - time.monotonic_ns()) > 0:
            time.sleep(due_ns / 1e9)
        with plcs.connect(self._line.config.plc.kind, self._line.config.plc.settings) as plc:
            newest = max(plc.read().slots, key=lambda slot: slot.trigger_seq)
            forged_ns = time.monotonic_ns()
            plc.write(newest.trigger_seq % plcs.SLOTS, Result(newest.trigger_seq, PASS_CODE, 0, newest.recipe_no))
        kill.forged_ms = round((forged_ns - kill.at_ns) / MS, 1)
        kill.forged_after_beat_ms = round((forged_ns - self._seen.last_beat_ns()) / MS, 1)

        def decided() -> list[Row]:
            self._passed_since(0)
            return [row for row in self._rows if row.get("seq") == newest.trigger_seq]

        self._line.until(decided, "the PLC's answer to a forged pass")
        [row] = decided()
        if row["code"] == PASS_CODE:
            kill.refused = row["ack_code"] == ACK_REJECTED and row["reason"] == "heartbeat lost"


def run(
    out: Path, stages: list[str], seed: int, say: Callable[..., Any] = lambda *what: None, *, standby: bool = False
) -> dict[str, Any]:
    """Kill `stages` in this order; the figures. `say` is told of every kill."""
    began_s = time.monotonic()
    with plant(out, len(stages), standby=standby) as (line, seen):
        killer = Killer(line, seen, seed)
        kills = []
        for number, stage in enumerate(stages):
            kills.append(killer.strike(stage))
            say(str(number + 1), {key: value for key, value in asdict(kills[-1]).items() if value is not None})
        counted = killer.finish()
    figures = {"kills": len(kills), **summary(kills), **counted}
    return figures | {"each": [asdict(kill) for kill in kills], "seconds": round(time.monotonic() - began_s, 1)}


def summary(kills: list[Kill]) -> dict[str, Any]:
    """Distributions and how often a bound was missed."""
    inspectors = [kill for kill in kills if kill.stage.startswith("inspector")]
    forged = [kill for kill in kills if kill.refused is not None]
    stages = sorted({kill.stage for kill in kills})
    return {
        "error_ms": percentiles(kill.error_ms for kill in inspectors),
        "error_late": sum(kill.error_ms > ERROR_MS for kill in inspectors if kill.error_ms is not None),
        "error_never": sum(kill.error_ms is None for kill in inspectors),
        "forged": len(forged),
        "forged_ms": percentiles(kill.forged_ms for kill in forged),
        "forged_after_beat_ms": percentiles(kill.forged_after_beat_ms for kill in forged),
        "forged_not_refused": sum(not kill.refused for kill in forged),
        "recovery_ms": {s: percentiles(kill.recovery_ms for kill in kills if kill.stage == s) for s in stages},
        "recovery_late": {s: sum(kill.recovery_ms > RECOVERY_MS for kill in kills if kill.stage == s) for s in stages},
        "ready_ms": {s: percentiles(kill.ready_ms for kill in kills if kill.stage == s) for s in stages},
    }


def is_clean(figures: dict[str, Any], *, standby: bool = False) -> bool:
    """Every bound held and every trigger is accounted for; how soon a supervisor is started again is not ours."""
    late = ("error_late", "forged_not_refused", "difference", "wrong_pass", "mixed_sets")
    slow = sum(late for stage, late in figures["recovery_late"].items() if stage != "supervisor")
    ledger = figures["ledger"]
    told = ledger["intact"] and not (ledger["open"] or ledger["missing"] or ledger["contradicts_plc"])
    seen = standby or not figures["error_never"]
    return told and seen and figures["halted"] and not slow and not any(figures[name] for name in late)


def drawn(kills: int, seed: int, only: str | None = None) -> list[str]:
    """Stages by lot."""
    rng, names = random.Random(seed), ["inspector", *(f"capture_{name}" for name in storms.CAMERAS)]
    return [only or rng.choice([*names, "plc_bridge", "archiver", "supervisor"]) for _ in range(kills)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--standby", action="store_true", help="with a standby inspector")
    parser.add_argument("--only", help="kill this stage alone")
    parser.add_argument("--out", type=Path, help="new folder; default: a temporary one")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    out = asked.out or Path(mkdtemp(prefix="kills-")) / "line"
    stages = drawn(asked.kills, asked.seed, asked.only)
    load_before = os.getloadavg()
    figures = run(out, stages, asked.seed, partial(print, flush=True), standby=asked.standby)
    figures |= {"load": {"before": load_before, "after": os.getloadavg(), "cpus": os.cpu_count()}}
    text = json.dumps(figures, indent=1)
    print(json.dumps({key: value for key, value in figures.items() if key != "each"}, indent=1))  # noqa: T201
    if asked.json:
        asked.json.write_text(text + "\n")
    return 0 if is_clean(figures, standby=asked.standby) else 1


if __name__ == "__main__":
    sys.exit(main())
