"""The README shows programs; they must be the ones that are tested."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_subscriber_shown_is_the_one_that_is_tested() -> None:
    shown = (ROOT / "README.md").read_text()
    program = (ROOT / "deploy" / "examples" / "subscriber.py").read_text()
    body = program[program.index("import json") :].replace("  # noqa: T201", "").strip()
    assert body in shown
    assert len(body.splitlines()) <= 15


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_every_file_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    linked = [page.parent / name for name in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in name]
    programs = [ROOT / name for name in re.findall(r"`((?:tests|deploy)/[\w/.-]+\.(?:py|toml|st))\b", text)]
    shortened = [ROOT / "tests" / path.relative_to(ROOT) for path in programs]  # as the table of promises has them
    missing = [one for one, other in zip(programs, shortened, strict=True) if not (one.exists() or other.exists())]
    assert not [*missing, *(path for path in linked if not path.exists())]
