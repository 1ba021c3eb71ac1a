"""Takes docs/review-*.png, by hand: queue, panel and shift of the review station, after a run of the demo line.

usage: python tests/bench/readme_pages.py; needs the extras review and dev, and chromium
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import httpx

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS))

from browser_parts import Served, browser  # noqa: E402

DOCS = TESTS.parent / "docs"
SIZE = {"width": 1500, "height": 940}
WIDTH = 1000  # of a picture in the README
PANELS = 150
FINDINGS = (("defective", "scratch"), ("defective", "dust"), ("good", ""), ("defective", "stain"), ("lab", ""))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        line = Path(folder) / "demo"
        demo = [sys.executable, "-m", "pipeline.cli", "demo", "--panels", str(PANELS), "--takt", "300"]
        subprocess.run([*demo, "--out", str(line)], check=True)
        with Served(line / "line.toml") as served, browser() as opened:
            decide(served.address)
            page = opened.new_page(viewport=SIZE)
            page.goto(served.address)
            page.wait_for_selector("a.card img")
            take(page, "queue")
            page.click("a.card >> nth=0")
            page.wait_for_selector('.viewer:not([data-ready=""]):not([data-shown=""])')
            page.keyboard.press("v")
            page.wait_for_selector(".maps.of2")
            page.keyboard.press("f")
            take(page, "panel")
            page.goto(f"{served.address}/shift?hours=8")
            page.wait_for_selector(".chart svg")
            take(page, "shift")


def decide(address: str) -> None:
    """Half of the rejects, the oldest first, as people would."""
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        csrf = {"X-CSRF-Token": client.get("/api/session").json()["csrf"]}
        rows = client.get("/api/panels", params={"limit": 200}).json()["rows"]
        for at, row in enumerate(rows[len(rows) // 2 :]):
            finding, code = FINDINGS[at % len(FINDINGS)]
            wish = {"finding": finding, "code": code}
            client.post(f"/api/panels/{row['token']}/findings", json=wish, headers=csrf).raise_for_status()


def take(page: Any, name: str) -> None:
    page.wait_for_load_state("networkidle")
    page.wait_for_function(
        "[...document.images].every((image) => image.complete || image.loading === 'lazy' && image.y > innerHeight)"
    )
    path = DOCS / f"review-{name}.png"
    page.screenshot(path=path)
    large = cv2.imread(str(path))
    assert large is not None
    height = round(large.shape[0] * WIDTH / large.shape[1])
    small = cv2.resize(large, (WIDTH, height), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), small, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
