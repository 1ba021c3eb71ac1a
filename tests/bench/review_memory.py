"""Memory of a browser over many panels, where no developer's tools record its requests; by hand.

usage: python tests/bench/review_memory.py [--parts 5]
`review_pages.py --memory` counts objects, nodes and listeners of the page, for which playwright has the browser keep a
record of every request: that record grows. Here the page is moved a hundred panels a part by a script of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from websockets.sync.client import connect

TESTS = Path(__file__).parents[1]
sys.path.extend((str(TESTS), str(TESTS / "bench")))

from browser_parts import ARGUMENTS, CHROMIUM, Station  # noqa: E402
from review_pages import KIND, SMALL, _rejects, pictured  # noqa: E402

from pipeline.bench.storm import free_port  # noqa: E402

START_S = 30
READY = "!!document.querySelector('.viewer')?.dataset.ready && !!window.socket?.connected"
MOVES = """(async () => {
    const ready = () => document.querySelector(".viewer")?.dataset.ready;
    const pause = (ms) => new Promise((go) => setTimeout(go, ms));
    let moved = 0;
    for (let at = 0; at < 100; at++) {
        const before = ready(), key = Math.floor(at / 10) % 2 ? "k" : "j", until = performance.now() + 15000;
        document.dispatchEvent(new KeyboardEvent("keydown", { key, code: `Key${key.toUpperCase()}`, bubbles: true }));
        while ((!ready() || ready() === before) && performance.now() < until) await pause(20);
        moved += ready() && ready() !== before ? 1 : 0;
        await pause(70);
    }
    return moved;
})()"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory of a browser over many panels.")
    parser.add_argument("--parts", type=int, default=5)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        station = Station(Path(folder), 300)
        rows = _rejects(station)
        pictured(station, rows, SMALL)
        with station:
            measure(f"{station.address}/panel/{rows[0]}?cause=DEFECT", Path(folder) / "profile", wanted.parts)


def measure(address: str, profile: Path, parts: int) -> None:
    port = free_port()
    tools = [f"--remote-debugging-port={port}", "--remote-allow-origins=*", f"--user-data-dir={profile}"]
    command = [str(CHROMIUM), "--headless=new", *ARGUMENTS, *tools, address]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            with connect(_page(port), proxy=None, max_size=None) as socket:
                while not _asked(socket, "Runtime.evaluate", expression=READY).get("result", {}).get("value"):
                    time.sleep(0.2)
                for part in range(parts):
                    moved = _asked(socket, "Runtime.evaluate", expression=MOVES, awaitPromise=True)["result"]["value"]
                    _asked(socket, "HeapProfiler.collectGarbage")
                    print((part + 1) * 100, moved, json.dumps(_sizes(browser.pid)), flush=True)  # noqa: T201
        finally:
            browser.terminate()


def _page(port: int) -> str:
    """Where the page listens to its tools."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError, StopIteration):
            pages = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
            return next(one["webSocketDebuggerUrl"] for one in pages if one["type"] == "page")
        time.sleep(0.2)
    raise AssertionError("the browser does not answer")


def _asked(socket: Any, method: str, **params: Any) -> dict[str, Any]:
    socket.send(json.dumps({"id": 1, "method": method, "params": params}))
    return json.loads(socket.recv()).get("result", {})


def _sizes(pid: int) -> dict[str, int]:
    """Megabytes of the browser's processes by what they are for."""
    found: Counter[str] = Counter()
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with suppress(psutil.Error):
            said = KIND.findall(" ".join(process.cmdline()))
            found[said[-1] if said else "browser"] += process.memory_full_info().pss
    return {name: round(size / 1e6) for name, size in found.items()}


if __name__ == "__main__":
    main()
