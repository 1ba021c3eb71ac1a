"""Two passports side by side: how many times as long B takes as A, and whether that is more than noise. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.bench.passport import EnginePassport, LinePassport, Row
from pipeline.bench.spread import ENOUGH, QUANTILES, apart, noise_floor, ratio
from pipeline.errors import UsageError

SAME, FASTER, SLOWER = "no difference", "faster", "slower"
TAILS = ("median", "p99")


@dataclass(frozen=True)
class Change:
    """One figure of both. `ratio` is B / A of ms; `interval` holds it, 95 % sure; `noise`: of the worse one."""

    what: str
    before_ms: float
    after_ms: float
    ratio: float
    interval: tuple[float, float]
    noise: float

    @property
    def verdict(self) -> str:
        """A difference only where neither chance nor the noise floor of the measurements covers it."""
        low, high = self.interval
        if low <= 1 <= high or min(map(apart, (self.ratio, low, high))) <= self.noise:
            return SAME
        return FASTER if self.ratio < 1 else SLOWER

    def figures(self) -> dict[str, Any]:
        return vars(self) | {"interval": list(self.interval), "verdict": self.verdict}


def changes(before: EnginePassport | LinePassport, after: EnginePassport | LinePassport) -> list[Change]:
    """Every figure that both have.

    Raises:
        UsageError: one is of an engine and the other of a line, or they have no figure in common.
    """
    if isinstance(before, EnginePassport) and isinstance(after, EnginePassport):
        found = list(_engines(before, after))
    elif isinstance(before, LinePassport) and isinstance(after, LinePassport):
        found = list(_lines(before, after))
    else:
        raise UsageError("one passport is of an engine, the other of a line: compare like with like")
    if not found:
        raise UsageError("the passports have no figure in common: measure the same batch sizes")
    return found


def differences(before: EnginePassport | LinePassport, after: EnginePassport | LinePassport) -> Iterator[str]:
    """What was not the same when they were measured, a line each."""
    pairs = _flat(before.subject.model_dump(), after.subject.model_dump(), "")
    yield from pairs
    yield from _flat(_plain(before.machine), _plain(after.machine), "machine ")
    if isinstance(before, LinePassport) and isinstance(after, LinePassport) and before.takt_ms != after.takt_ms:
        yield f"takt: {before.takt_ms:g} ms, {after.takt_ms:g} ms"


def _plain(machine: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in machine.items() if name != "cpu_mhz"}


def _flat(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield f"{prefix}{name}: {before.get(name)}, {after.get(name)}"


def _engines(before: EnginePassport, after: EnginePassport) -> Iterator[Change]:
    """Rows of one batch size; runtime and precision are what one compares."""
    later = {row.batch: row for row in after.rows}
    for row in before.rows:
        if row.batch in later:
            yield from _rows(row, later[row.batch])


def _rows(before: Row, after: Row) -> Iterator[Change]:
    both = [[ms for run in zip(*row.samples_ms, strict=False) for ms in run] for row in (before, after)]
    noise = max(before.noise_floor or 0.0, after.noise_floor or 0.0)
    for name in TAILS:
        if change := _change(f"batch {before.batch}, {name}", both[0], both[1], name, noise):
            yield change


def _lines(before: LinePassport, after: LinePassport) -> Iterator[Change]:
    for name in TAILS:
        noise = max(getattr(one.noise_floor, name) or 0.0 for one in (before, after))
        ms = (before.samples.latency_ms, after.samples.latency_ms)
        if change := _change(f"latency, {name}", *ms, name, noise):
            yield change
    for stage, ms in before.samples.stages.items():
        if change := _change(f"{stage}, median", ms, after.samples.stages.get(stage, []), "median", 0.0):
            yield change


def _change(what: str, before: list[float], after: list[float], name: str, noise: float) -> Change | None:
    """Nothing of too few values, or of a stage that takes no time in some part of a run."""
    least = max(ENOUGH[name], 20)
    if min(len(before), len(after)) < least or min(np.percentile(before, 10), np.percentile(after, 10)) <= 0:
        return None
    times, interval = ratio(before, after, name)
    noise = max(noise, noise_floor([before], name), noise_floor([after], name))
    first = float(np.quantile(before, QUANTILES[name]))
    return Change(what, first, first * times, times, (interval[0], interval[1]), noise)
