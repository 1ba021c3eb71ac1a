"""How fast the review station answers with so many panels in the store: each query, by the desk and by HTTP.

usage: python tests/bench/review_store.py [--panels 20000] [--postgres] [--json FILE]
A tenth of the panels are rejects, half of which are decided; every query is asked `--rounds` times, the first one left
out.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

sys.path.append(str(Path(__file__).parents[1]))

import postgres_server
from review_parts import NOON, TAKT, config, drawn, filled, token_of

from pipeline.bench.storm import free_port
from pipeline.review.desk import Desk
from pipeline.review.facts import Filter, Finding, Person, Role, State, Wish
from pipeline.review.serving import Served
from pipeline.store.tables import Picture, Review

EVE = Person(name="eve", role=Role.OPERATOR)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--panels", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--postgres", action="store_true", help="a server of its own instead of SQLite")
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(postgres_server.running()).database("bench") if wanted.postgres else None
        line = config(folder, review={"port": free_port()}, store={"url": url})
        figures = measured(line, wanted.panels, wanted.rounds)
    show(figures)
    if wanted.json:
        wanted.json.write_text(json.dumps(figures, indent=1) + "\n")


def measured(line: Any, panels: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of every query: median, longest, and the processor's."""
    began = time.perf_counter()
    store, desk = filled(line, drawn(panels)), Desk(line)
    _decide(store, panels)
    figures: dict[str, Any] = {"panels": panels, "filled_s": round(time.perf_counter() - began, 1), "ms": {}}
    figures |= {"store": "PostgreSQL" if line.store.url else "SQLite", "machine": _machine()}
    for name, ask in queries(desk, panels).items():
        figures["ms"][name] = timed(ask, rounds)
    with (
        Served(line, desk, pages=False) as served,
        httpx.Client(base_url=served.address, trust_env=False, timeout=60) as client,
    ):
        for path in ("/api/panels", "/api/panels?cause=LAMP", "/api/pulse", f"/api/panels/{token_of(panels // 2)}"):
            figures["ms"][f"GET {path.partition('0000')[0]}"] = timed(lambda path=path: client.get(path), rounds)
    desk.close()
    store.close()
    return figures


def _decide(store: Any, panels: int) -> None:
    """Every other reject, and pictures of rejects and of 2 % of the passes; written at once."""
    at, chance = NOON.isoformat(timespec="microseconds"), random.Random(2)
    with store.database.writing() as session:
        for panel in store.panels():
            sampled = panel.outcome == "PASS" and chance.random() < 0.02
            if panel.outcome == "REJECT" or sampled:
                reason, greys = "sample" if sampled else "reject", {f"top_{n}": 100.0 + n for n in range(8)}
                plain = {"folder": "/none", "kept_at": at, "bytes": 1_000_000, "height": 3000, "width": 4096}
                session.add(Picture(token=panel.token, reason=reason, greys=greys, thumbs=True, **plain))
            if panel.outcome == "REJECT" and panel.seq % 2:
                code = chance.choice(("dust", "dent", ""))
                finding = Finding.DEFECTIVE if code else Finding.GOOD
                said = {"finding": finding, "code": code, "by": "eve", "at": at, "votes": 1}
                session.add(Review(token=panel.token, state=State.DONE, **said))


def queries(desk: Desk, panels: int) -> dict[str, Callable[[], object]]:
    middle, end = NOON + panels // 2 * TAKT, NOON + panels * TAKT
    asked = {
        "queue": Filter(),
        "queue, all panels": Filter(queue="all"),
        "queue, sample": Filter(queue="sample"),
        "by time": Filter(since=middle, until=middle + timedelta(hours=1)),
        "by product": Filter(product="toy"),
        "by fault": Filter(cause="LAMP"),
        "by defect": Filter(cause="DEFECT"),
        "by class": Filter(code="dust"),
        "by class, all panels": Filter(queue="all", code="dust"),
        "by station": Filter(station="front"),
        "by a station that has none": Filter(station="back"),
        "by state": Filter(state=State.DONE),
        "by finding": Filter(finding=Finding.GOOD),
    }
    found: dict[str, Callable[[], object]] = {
        name: lambda wanted=wanted: desk.queue(wanted) for name, wanted in asked.items()
    }
    last = desk.queue(Filter(queue="all"), None, 200).next
    return found | {
        "queue, further down": lambda: desk.queue(Filter(queue="all"), last),
        "find a bar code": lambda: desk.find(f"P{panels // 2:06d}"),
        "find what is not there": lambda: desk.find("nothing"),
        "pulse": desk.pulse,
        "a panel": lambda: desk.panel(token_of(panels // 2)),
        "live": desk.live,
        "shift of 8 hours": lambda: desk.shift(end - timedelta(hours=8), end),
        "shift of all": lambda: desk.shift(NOON, end),
        "a finding": lambda: desk.decide(EVE, token_of(0), Wish(finding=Finding.GOOD)),
    }


def timed(ask: Callable[[], object], rounds: int) -> dict[str, float]:
    """Milliseconds; `cpu` is this process's own, which other programs disturb least."""
    taken, spent = [], []
    for number in range(rounds + 1):
        began, spending = time.perf_counter_ns(), time.process_time_ns()
        ask()
        if number:
            taken.append((time.perf_counter_ns() - began) / 1e6)
            spent.append((time.process_time_ns() - spending) / 1e6)
    medians = {"median": statistics.median(taken), "max": max(taken), "cpu": statistics.median(spent)}
    return {name: round(value, 1) for name, value in medians.items()}


def _machine() -> str:
    load = os.getloadavg()[0]
    return f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}"


def show(figures: dict[str, Any]) -> None:
    head = f"{figures['panels']} panels, {figures['store']}, {figures['machine']}"
    print(f"{head}; filled in {figures['filled_s']} s")  # noqa: T201
    for name, taken in figures["ms"].items():
        print(f"{name:32} {taken['median']:8.1f} {taken['max']:8.1f} ms, cpu {taken['cpu']:8.1f}")  # noqa: T201


if __name__ == "__main__":
    main()
