"""How fast the pages are in a real browser, with many panels in the store; by hand.

usage: python tests/bench/review_pages.py [--panels 20000] [--moves 500] [--json FILE] [--line | --memory]
First paint of the queue, filters, change of channel at 8 pictures of 4096x3000 once preloaded, memory of browser and
station over many panels; with --line the latency of a demo line with nobody and with two people who review it.
"""

import argparse
import json
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import psutil

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS))

from browser_parts import Served, Station, browser  # noqa: E402

from pipeline.bench.storm import free_port  # noqa: E402

NAMES = [f"top_light{at}" for at in range(8)]
LARGE, SMALL = (3000, 4096), (1024, 1024)  # height, width
MOVES = 10  # panels forth, then back
PART = 100  # of them between two looks at the memory
VIEW = {"width": 1600, "height": 1000}
SLOW_MS = 120_000
PACE_MS = 2000
KIND = re.compile(r"--(?:type|utility-sub-type)=(\S+)")
CAUSES = ("LATE", "DEFECT", "")


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast the pages are in a real browser.")
    parser.add_argument("--panels", type=int, default=20_000)
    parser.add_argument("--moves", type=int, default=500)
    parser.add_argument("--line", action="store_true", help="only the line's latency")
    parser.add_argument("--memory", action="store_true", help="only the memory over many panels")
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = line(Path(folder)) if wanted.line else pages(Path(folder), wanted)
    figures["load"] = [round(load, 1) for load in os.getloadavg()]
    print(json.dumps(figures, indent=1))  # noqa: T201
    if wanted.json:
        wanted.json.write_text(json.dumps(figures, indent=1) + "\n")


def pages(folder: Path, wanted: argparse.Namespace) -> dict[str, Any]:
    station = Station(folder, wanted.panels)
    rows = _rejects(station)
    pictured(station, rows[:1], LARGE)
    pictured(station, rows[1:], SMALL)
    with station, browser() as opened:
        page = opened.new_page(viewport=VIEW)
        page.set_default_timeout(SLOW_MS)
        figures = {"panels": wanted.panels}
        if not wanted.memory:
            figures |= queue(page, station.address) | channels(page, station.address, rows[0])
        return figures | memory(page, station, rows[1], wanted.moves)


def _rejects(station: Station) -> list[str]:
    from pipeline.review.desk import Desk
    from pipeline.review.facts import Filter

    desk = Desk(station.line)
    rows = desk.queue(Filter(cause="DEFECT"), None, MOVES + 2).rows
    desk.close()
    return [row.token for row in rows]


def pictured(station: Station, tokens: list[str], size: tuple[int, int]) -> None:
    """Eight channels of this size (height, width), as the archive has them; smooth ground with noise, drawn once."""
    first = station.line.state / "evidence" / tokens[0]
    (first / "thumbs").mkdir(parents=True)
    ground = cv2.resize(np.random.default_rng(0).uniform(60, 190, (6, 8)).astype(np.float32), size[::-1])
    greys = {}
    for at, name in enumerate(NAMES):
        noise = np.random.default_rng(at).normal(0, 3, size).astype(np.float32)
        pixels = np.clip(ground + noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(first / f"{name}.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        cv2.imwrite(str(first / "thumbs" / f"{name}.jpg"), cv2.resize(pixels, (320, 240)))
        greys[name] = float(pixels.mean())
    known = {"station": station.line.station, "greys": greys, "thumbs": True, "compressed": True}
    for token in tokens:
        folder = first.with_name(token)
        if folder != first:
            shutil.copytree(first, folder, copy_function=os.link)
        station.store.put_picture(token, "reject", str(folder), height=size[0], width=size[1], **known)


def queue(page: Any, address: str) -> dict[str, Any]:
    """Milliseconds until the queue's first paint with its panels, then until a filter's panels are there."""
    paints = []
    for _ in range(4):
        page.goto(address)
        page.wait_for_selector("a.card")
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    page.wait_for_function("window.socket?.connected")
    filters = [narrowed(page, cause) for cause in CAUSES * 5]
    return {"first_paint_ms": spread(paints[1:]), "first_paint_cold_ms": round(paints[0]), "filter_ms": spread(filters)}


def narrowed(page: Any, cause: str) -> float:
    """From the choice until the list has changed, by the browser's own clock."""
    return page.evaluate(
        """(cause) => new Promise((done) => {
            const list = document.querySelector("ol.cards"), select = document.getElementById("cause");
            const began = performance.now();
            const changed = (_, watch) => {
                watch.disconnect();
                requestAnimationFrame(() => done(performance.now() - began));
            };
            new MutationObserver(changed).observe(list, { childList: true, subtree: true, characterData: true });
            select.value = cause;
            select.dispatchEvent(new Event("change"));
        })""",
        cause,
    )


def channels(page: Any, address: str, token: str) -> dict[str, Any]:
    """Milliseconds from a digit until the picture is painted, once everything is preloaded."""
    began = time.perf_counter()
    page.goto(f"{address}/panel/{token}")
    page.wait_for_selector(f'.viewer[data-ready="{token}"]:not([data-shown=""])')
    first = time.perf_counter() - began
    page.wait_for_selector('.viewer[data-loaded="8"]')
    whole = time.perf_counter() - began
    taken = []
    for at in [2, 3, 4, 5, 6, 7, 8, 1] * 3:
        page.keyboard.press(str(at))
        page.wait_for_selector(f'.viewer[data-shown="{NAMES[at - 1]}"]')
        taken.append(float(page.locator(".viewer").get_attribute("data-switch")))
    return {"first_picture_s": round(first, 2), "all_preloaded_s": round(whole, 2), "switch_ms": spread(taken)}


def memory(page: Any, station: Station, token: str, moves: int) -> dict[str, Any]:
    """Megabytes of the browser's processes and the station, in the beginning and after so many panels."""
    page.goto(f"{station.address}/panel/{token}?cause=DEFECT")
    page.wait_for_selector(f'.viewer[data-ready="{token}"]')
    page.wait_for_function("window.socket?.connected")
    tools = page.context.new_cdp_session(page)
    seen, heap = [_sizes(station)], [_heap(tools)]
    for move in range(1, moves + 1):
        before = page.locator(".viewer").get_attribute("data-ready")
        page.keyboard.press("j" if (move - 1) // MOVES % 2 == 0 else "k")
        page.wait_for_selector(f'.viewer:not([data-ready=""]):not([data-ready="{before}"])')
        if move % PART == 0:
            seen.append(_sizes(station))
            heap.append(_heap(tools))
    return {"moves": moves, "megabytes": seen, "page": heap}


def _heap(tools: Any) -> dict[str, float]:
    """What the page itself holds after a collection: megabytes of script objects, nodes, listeners."""
    tools.send("HeapProfiler.collectGarbage")
    counted = tools.send("Memory.getDOMCounters")
    used = tools.send("Runtime.getHeapUsage")
    heap = {name: round(used[key] / 1e6, 1) for name, key in (("heap_mb", "usedSize"), ("reserved_mb", "totalSize"))}
    return heap | {"nodes": counted["nodes"], "listeners": counted["jsEventListeners"]}


def _sizes(station: Station) -> dict[str, int]:
    """By what a process of the browser is for; a cache in memory is held by `network.mojom.NetworkService`."""
    found = Counter({"station": psutil.Process(station.pid).memory_info().rss})
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "chrom" in process.name():
                said = KIND.findall(" ".join(process.cmdline()))
                found[said[-1] if said else "browser"] += process.memory_full_info().pss
    return {name: round(size / 1e6) for name, size in found.items()}


# --- the line ---


def line(folder: Path) -> dict[str, Any]:
    """Latency of the demo line by itself, and while two people look at its panels; twice, in turn.

    Counted are the panels from the time on when station and browser are up.
    """
    with browser() as opened:
        runs = [(people, _run(folder / f"{at}", people, opened)) for at, people in enumerate((0, 2, 0, 2))]
    return {"runs": [{"reviewers": people} | figures for people, figures in runs]}


def _run(folder: Path, people: int, opened: Any) -> dict[str, Any]:
    folder.mkdir()
    out = folder / "demo"
    store = out / "state" / "store.sqlite"
    demo = [sys.executable, "-m", "pipeline.cli", "demo", "--panels", "250", "--out", str(out)]
    with subprocess.Popen(demo, stdout=subprocess.DEVNULL) as process:
        _until(store.is_file)
        began = _look(out / "line.toml", people, process, opened)
        process.wait()
    with closing(sqlite3.connect(store)) as database:
        rows = database.execute("SELECT latency_ms FROM panels WHERE closed_at > ?", [began.isoformat()]).fetchall()
    taken = [row[0] for row in rows if row[0] is not None]
    return {"panels": len(taken), "median": float(np.median(taken)), "p99": float(np.percentile(taken, 99))}


def _until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not there() and time.monotonic() < deadline:
        time.sleep(0.1)


def _look(file: Path, people: int, process: "subprocess.Popen[bytes]", opened: Any) -> datetime:
    """Each opens a panel every two seconds and looks at another light; returns when they began.

    The station runs at low priority, as in a line; the browsers at the lowest: in a plant they are other machines.
    """
    own = file.with_name("review.toml")
    own.write_text(file.read_text() + f"\n[review]\nport = {free_port()}\n")
    with Served(own, last=True) as served:
        pages = [opened.new_page(viewport=VIEW) for _ in range(people)]
        _at_lowest_priority()
        began = datetime.now(UTC)
        while people and process.poll() is None:
            for page in pages:
                rows = httpx.get(f"{served.address}/api/panels", params={"limit": 5}, trust_env=False).json()["rows"]
                page.goto(f"{served.address}/panel/{rows[0]['token']}" if rows else served.address)
                page.keyboard.press("2")
                page.wait_for_timeout(PACE_MS / people)
        process.wait()
    return began


def _at_lowest_priority() -> None:
    for one in psutil.Process().children(recursive=True):
        if "chrom" in one.name():
            one.nice(19)


def spread(taken: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(taken), 1), "max": round(max(taken), 1), "n": len(taken)}


if __name__ == "__main__":
    main()
