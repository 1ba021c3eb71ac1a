"""What two people who review cost the line whose machine serves them, without their browsers; by hand.

usage: python tests/bench/review_beside_line.py [--rounds 3] [--seconds 25] [--pace-ms 2000] [--json FILE]
One run of the demo line. In turns it works by itself, and with a station and two scripted reviewers, each of whom
confirms a panel every two seconds (`scripted_reviewer.py`). The station's start and its first five seconds belong to
neither.
"""

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS))

from browser_parts import AS_LAST, Served  # noqa: E402
from scripted_reviewer import now  # noqa: E402

from pipeline.bench.storm import free_port  # noqa: E402

PEOPLE = 2
SCRIPT = Path(__file__).with_name("scripted_reviewer.py")
TAKT_MS = 150
START_S = 70  # of a station and two people, at most
FIRST_S = 5.0  # of a station's work belong to its start: templates and queries are compiled once
WARM = 40  # panels that are there before anybody looks
Span = tuple[str, str]  # wall clock, as the store keeps it


def main() -> None:
    parser = argparse.ArgumentParser(description="What two people who review cost the line.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=25)
    parser.add_argument("--pace-ms", type=float, default=2000)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(Path(folder), wanted.rounds, wanted.seconds, wanted.pace_ms)
    print(json.dumps(figures, indent=1))  # noqa: T201
    if wanted.json:
        wanted.json.write_text(json.dumps(figures, indent=1) + "\n")


def measured(folder: Path, rounds: int, seconds: float, pace_ms: float) -> dict[str, Any]:
    out = folder / "demo"
    panels = WARM + round(rounds * (2 * seconds + START_S) * 1000 / TAKT_MS)
    demo = [sys.executable, "-m", "pipeline.cli", "demo", "--panels", str(panels), "--takt", str(TAKT_MS)]
    alone: list[Span] = []
    reviewed: list[Span] = []
    costs: list[dict[str, float]] = []
    store = out / "state" / "store.sqlite"
    with subprocess.Popen([*demo, "--out", str(out)], stdout=subprocess.DEVNULL) as line:
        try:
            until_panels(store, WARM)
            for _ in range(rounds):
                alone.append(waited(seconds))
                span, cost = looked_at(out / "line.toml", seconds, pace_ms)
                reviewed.append(span)
                costs.append(cost)
            assert line.poll() is None, "the line ended first: it keeps another pace than it was asked for"
        finally:
            line.terminate()
    figures = {"alone": latency(store, alone), "reviewed": latency(store, reviewed)}
    return figures | {"station": summed(costs), "load": [round(load, 1) for load in os.getloadavg()]}


def until_panels(store: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(sqlite3.OperationalError):  # not there yet
            if sum(1 for _ in latencies(store, [("", "~")])) >= count:
                return
        time.sleep(0.5)
    raise AssertionError("the line does not begin")


def waited(seconds: float) -> Span:
    began = now()
    time.sleep(seconds)
    return began, now()


def looked_at(file: Path, seconds: float, pace_ms: float) -> tuple[Span, dict[str, float]]:
    """Two people at work; what it cost the station."""
    own = file.with_name("review.toml")
    own.write_text(file.read_text() + f"\n[review]\nport = {free_port()}\n")
    with Served(own, last=True) as served:
        script = [*AS_LAST, sys.executable, str(SCRIPT), served.address, "--decide"]
        person = [*script, "--seconds", str(seconds), "--pace-ms", str(pace_ms)]
        subprocess.run([*script, "--seconds", str(FIRST_S)], stdout=subprocess.DEVNULL, check=True)
        station = psutil.Process(served.pid)
        before = spent(station)
        people = [subprocess.Popen(person, stdout=subprocess.PIPE) for _ in range(PEOPLE)]
        said = [json.loads(one.communicate()[0]) for one in people]
        cost = {name: float(sum(one[name] for one in said)) for name in ("panels", "decisions")}
        span = (max(one["began"] for one in said), min(one["ended"] for one in said))
        return span, cost | {"cpu_s": spent(station) - before}


def spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def latencies(store: Path, spans: Sequence[Span]) -> Iterator[float]:
    """Milliseconds from trigger to acknowledgement of the panels closed in these spans."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
        for span in spans:
            query = "SELECT latency_ms FROM panels WHERE latency_ms IS NOT NULL AND closed_at BETWEEN ? AND ?"
            yield from (row[0] for row in database.execute(query, span))


def latency(store: Path, spans: Sequence[Span]) -> dict[str, Any]:
    each = [np.array(list(latencies(store, [span]))) for span in spans]
    taken = np.concatenate(each)
    p99s = [round(float(np.percentile(one, 99)), 1) for one in each]
    return {"panels": len(taken), "median_ms": percentile(taken, 50), "p99_ms": percentile(taken, 99), "p99_each": p99s}


def percentile(taken: np.ndarray, share: float) -> float:
    return round(float(np.percentile(taken, share)), 1)


def summed(costs: Sequence[dict[str, float]]) -> dict[str, float]:
    total = {name: sum(one[name] for one in costs) for name in costs[0]}
    each = [1000 * one["cpu_s"] / max(one["decisions"], 1) for one in costs]
    return total | {"cpu_ms_a_decision": round(statistics.median(each), 1)}


if __name__ == "__main__":
    main()
