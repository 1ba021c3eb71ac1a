"""What makes a score beside the network has a fingerprint: any change of the code that matters is another one."""

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from engines import revision
from engines.revision import PARTS, digest

TEXT = '''
"""About."""
def scaled(value):
    """Twice."""
    return 2 * value  # doubled
'''
# What the detector imports, and why it is no part: it reads, checks or names, and changes no score that comes out.
NO_PARTS = {
    "build": "names and derives engines; a derived graph is in the engine's key", "card_feed": "counts on cards alone",
    "certificate": "", "contents": "reads files, which are hashed", "cpu": "in the engine's key", "errors": "",
    "graphs": "", "grid": "integrity", "integrity": "checked before", "integrity_limits": "", "laps": "a stopwatch",
    "manifest": "states",
    "plugins": "finds files", "recipe": "reads what is hashed", "reference": "integrity", "runtimes": "a contract",
    "selfcontained": "refuses", "settings": "", "signature": "integrity",
}  # fmt: skip


def names(text: str) -> set[str]:
    """Modules of `engines` that a text imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("engines"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


def source(name: str) -> str:
    spec = find_spec(f"engines.{name}")
    assert spec and spec.origin
    return Path(spec.origin).read_text()


def test_every_module_on_the_way_from_frames_to_a_verdict_is_in_it_or_named_as_none() -> None:
    todo, seen = {"detector", "golden", "parity", "rows"}, set()
    while todo:
        name = todo.pop()
        seen.add(name)
        if name in PARTS:
            todo |= names(source(name)) - seen
    assert seen - NO_PARTS.keys() == set(PARTS)


def test_what_runs_on_cards_counts_there_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = revision.revision("onnxruntime"), revision.revision("torch_cuda")
    inner = revision._source
    for part in revision.CARD_PARTS:
        revision.revision.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(revision, "_source", lambda name, part=part: inner(name) + "x = 1\n" * name.endswith(part))
            assert revision.revision("onnxruntime") == here and revision.revision("torch_cuda") != there
    revision.revision.cache_clear()
    monkeypatch.setattr(revision.kernels, "source", lambda: "another kernel")
    assert revision.revision("onnxruntime") == here and revision.revision("torch_cuda") != there
    revision.revision.cache_clear()


def test_comments_and_docstrings_change_nothing_and_code_does() -> None:
    told = digest({"a": TEXT}, {})
    assert digest({"a": "def scaled(value):\n\n    return (2 * value)\n"}, {}) == told
    assert digest({"a": TEXT.replace("2 *", "3 *")}, {}) != told
    assert digest({"b": TEXT}, {}) != told
    assert digest({"a": TEXT}, {"numpy": "2.0"}) != told


@pytest.mark.parametrize("part", [*(f"engines.{part}" for part in PARTS), "engines.runtimes.onnxruntime"])
def test_each_part_and_the_runtimes_own_code_count(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = revision.revision.__wrapped__
    monkeypatch.setattr(revision, "_source", lambda name: "")
    before = told("onnxruntime")
    monkeypatch.setattr(revision, "_source", lambda name: "MORE = 1" if name == part else "")
    assert told("onnxruntime") != before


def test_the_text_of_every_part_is_found_and_a_runtime_of_another_distribution_has_none() -> None:
    assert all(revision._source(f"engines.{part}") for part in PARTS)
    assert revision._source("engines.runtimes.elsewhere") == ""
    assert len(revision.revision("onnxruntime")) == 64
