"""Each promise of the README names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_test_that_a_promise_names_is_there() -> None:
    promises = (ROOT / "README.md").read_text().split("## What it promises")[1].split("\n## ")[0]
    named = set(re.findall(r"`([\w/]+\.py)`", promises))
    found = {path.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("*.py")}
    assert len(named) > 15
    assert {name for name in named if not any(path == name or path.endswith(f"/{name}") for path in found)} == set()
