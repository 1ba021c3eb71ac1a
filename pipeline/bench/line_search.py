"""`takt bench line --find-limit`: tries takts, shortest that holds last, and confirms it with a long run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bench import line_figures, pace
from pipeline.bench.line import Measured, Watch, least_takt_ms, measure
from pipeline.bench.line_figures import is_sustained
from pipeline.config import LineConfig
from pipeline.errors import UsageError

MOST_CONFIRMED, LONG = 5, 1_000
Announce = Callable[[int, int], Watch]  # takt and panels of the run that begins -> who watches it


@dataclass(frozen=True)
class Found:
    """The run whose figures count, what was tried before, and whether it is the limit."""

    measured: Measured
    trials: list[dict[str, Any]]
    is_limit: bool


def search(config: LineConfig, start_ms: int, panels: tuple[int, int], place: Path, announce: Announce) -> Found:
    """`panels`: of each trial, and of the run that confirms. Ctrl-C ends it with what was measured so far.

    Raises:
        TaktError: the line cannot start, or no takt up to a minute holds.
    """
    least_ms, tried, told = least_takt_ms(config), [], []
    while (takt_ms := pace.next_takt_ms(tried, start_ms, least_ms)) is not None:
        measured = measure(config, takt_ms, panels[0], place, announce(takt_ms, panels[0]))
        told.append(_told(measured))
        if measured.interrupted:
            return Found(measured, told, is_limit=False)
        tried.append(pace.Trial(takt_ms, held(measured)))
    shortest_ms = pace.shortest_ms(tried)
    if shortest_ms is None:
        raise UsageError(f"no takt up to {tried[-1].takt_ms} ms holds: takt bench line without --find-limit shows why")
    return _confirmed(config, shortest_ms, panels[1], place, announce, told)


def _confirmed(
    config: LineConfig, takt_ms: int, panels: int, place: Path, announce: Announce, told: list[dict[str, Any]]
) -> Found:
    """The long run, at a little longer takts until one holds."""
    measured = _run_up(config, takt_ms, panels, place, announce)
    for _ in range(MOST_CONFIRMED - 1):
        if measured.interrupted or held(measured):
            break
        told.append(_told(measured))
        takt_ms = pace.spared_ms(takt_ms)
        measured = _run_up(config, takt_ms, panels, place, announce)
    return Found(measured, told, is_limit=held(measured) and not measured.interrupted)


def _run_up(config: LineConfig, takt_ms: int, panels: int, place: Path, announce: Announce) -> Measured:
    """A tenth of a long run first, which costs less where it fails."""
    if panels >= LONG:
        tenth = panels // 10
        measured = measure(config, takt_ms, tenth, place, announce(takt_ms, tenth))
        if measured.interrupted or not held(measured):
            return measured
    return measure(config, takt_ms, panels, place, announce(takt_ms, panels))


def held(measured: Measured) -> bool:
    return is_sustained(measured.timelines, measured.run.window_ms)


def _told(measured: Measured) -> dict[str, Any]:
    """A trial, in short."""
    figures = line_figures.figures(measured.timelines, measured.run)
    kept = ("takt_ms", "panels", "sustained", "late", "outcomes", "latency_ms", "busy", "bottleneck")
    return {name: figures[name] for name in kept}
