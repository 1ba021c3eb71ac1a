"""The README shows programs; they must be the ones that are tested."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_subscriber_shown_is_the_one_that_is_tested() -> None:
    shown = (ROOT / "README.md").read_text()
    program = (ROOT / "deploy" / "examples" / "subscriber.py").read_text()
    body = program[program.index("import json") :].replace("  # noqa: T201", "").strip()
    assert body in shown
    assert len(body.splitlines()) <= 15


def test_every_file_the_readme_names_is_there() -> None:
    named = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    missing = [name for name in named if "://" not in name and not (ROOT / name).exists()]
    assert not missing
