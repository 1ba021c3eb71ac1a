"""The demo's line for an hour, by hand: `python tests/bench/soak.py --minutes 60 --out DIR`.

Every process's own memory and open handles over time, as a plot (`soak.html`) and as slopes (`soak.json`). The
slope is that of the last two thirds: caches and pools fill in the first. Ends with 1 when a process grows faster
than 1 MB an hour, when its handles grow, or when the ledger and the PLC differ.
"""

import html
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from line_figures import CONSOLE, run_line

from pipeline.supervisor import Supervisor

PAGE = os.sysconf("SC_PAGE_SIZE")
EVERY_S = 5.0
MOST_MB_PER_HOUR = 1.0
WIDE, HIGH, LEFT = 760, 90, 40  # of one process's plot, px
STYLE = (
    "body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }"
    "h2 { margin: 1.2rem 0 0; font-size: 1rem } svg { width: 100% } pre { white-space: pre-wrap }"
)


@dataclass
class Course:
    """One stage's process over time. `pids` above one: it was started again."""

    seconds: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)

    def look(self, pid: int, at_s: float) -> None:
        try:
            handles = psutil.Process(pid).num_fds()
        except psutil.Error:  # between two processes of the stage
            return
        self.pids.add(pid)
        self.seconds.append(at_s)
        self.memory_mb.append(resident_mb(pid))
        self.handles.append(handles)

    def figures(self) -> dict[str, float | int]:
        """Least-squares slope of the last two thirds, and what the process held at the ends of that time."""
        late = slice(len(self.seconds) // 3, None)
        memory, handles = np.array(self.memory_mb[late]), self.handles[late]
        per_s = float(np.polyfit(np.array(self.seconds[late]) - self.seconds[0], memory, 1)[0])
        return {
            "mb_per_hour": round(per_s * 3600, 3),
            "memory_mb": round(float(memory[-1]), 1),
            "handles_first": handles[0],
            "handles_most": max(handles),
            "handles_last": handles[-1],
            "processes": len(self.pids),
        }

    def flat(self) -> bool:
        figures = self.figures()
        return figures["mb_per_hour"] < MOST_MB_PER_HOUR and figures["handles_last"] <= figures["handles_first"]


class Watch:
    """Looks at every process of the line, every few seconds."""

    def __init__(self) -> None:
        self.courses: dict[str, Course] = {}
        self._began_s = self._looked_s = time.monotonic()

    def __call__(self, supervisor: Supervisor) -> None:
        now = time.monotonic()
        if now - self._looked_s < EVERY_S:
            return
        self._looked_s = now
        for name, row in supervisor.running.items():
            self.courses.setdefault(name, Course()).look(row.process.pid, now - self._began_s)


def resident_mb(pid: int) -> float:
    """Resident memory without what is shared with the other processes (the rings)."""
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except OSError:
        return float("nan")
    return (int(resident) - int(shared)) * PAGE / 1e6


def main(
    out: Annotated[Path, typer.Option(help="folder for soak.html and soak.json")],
    minutes: Annotated[float, typer.Option(min=1)] = 60,
    takt_ms: Annotated[int, typer.Option(min=50)] = 400,
) -> None:
    """Run the line, then write what its processes held."""
    out.mkdir(parents=True, exist_ok=True)
    watch = Watch()
    panels = round(minutes * 60_000 / takt_ms)
    summary = run_line(panels, takt_ms, slot_mb=0.5, camera={"plan": {"defective_share": 0.2}}, watch=watch)
    found = {name: course.figures() for name, course in watch.courses.items()}
    figures = {"minutes": minutes, "takt_ms": takt_ms, "processes": found, "line": summary}
    (out / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
    (out / "soak.html").write_text(page(watch.courses, figures), encoding="utf-8")
    CONSOLE.print_json(json.dumps(figures))
    flat = all(course.flat() for course in watch.courses.values())
    raise typer.Exit(0 if flat and summary["reconciled"] else 1)


def page(courses: dict[str, Course], figures: dict[str, Any]) -> str:
    """Two curves a process, memory in blue and handles in orange, each from 0 to its largest value."""
    plots = "".join(_plot(name, course) for name, course in courses.items())
    facts = html.escape(json.dumps(figures["line"]))
    title = f"{figures['minutes']:g} minutes at a takt of {figures['takt_ms']} ms"
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
    return f"{head}<h1>{title}</h1>{plots}<pre>{facts}</pre></html>\n"


def _plot(name: str, course: Course) -> str:
    figures = course.figures()
    words = (
        f"{name}: {figures['memory_mb']} MB, {figures['mb_per_hour']:+} MB an hour; {figures['handles_last']} handles"
    )
    curves = _curve(course.seconds, course.memory_mb, "#2463a4") + _curve(course.seconds, course.handles, "#d07020")
    box = f"<rect x='{LEFT}' width='{WIDE}' height='{HIGH}' fill='none' stroke='#ccc'/>"
    return f"<h2>{html.escape(words)}</h2><svg viewBox='0 -2 {LEFT + WIDE + 4} {HIGH + 4}'>{box}{curves}</svg>"


def _curve(x: Sequence[float], y: Sequence[float], colour: str) -> str:
    across = LEFT + np.array(x) / max(x) * WIDE
    down = HIGH - np.array(y) / max(y) * 0.9 * HIGH
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
    return f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.5'/>"


if __name__ == "__main__":
    typer.run(main)
