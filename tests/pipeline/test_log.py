"""Logs: every line is one JSON object with station, stage and token, whatever happens, in files of bounded size."""

import json
import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.log import JsonLines, last_words, log_file, output_file

FIXED = ("at", "level", "station", "stage", "event")
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.text(st.characters(categories=["Ll"]), min_size=1).map(lambda name: f"x{name}")
SET_UP = """
import logging, threading, warnings
from pathlib import Path
from pipeline.log import catch_all, logger, to_file
to_file("front", "inspector", Path("log"), {max_bytes}, {keep})
catch_all()
"""


def formatted(event: str, extra: dict[str, Any]) -> dict[str, Any]:
    record = logging.getLogger("takt.test").makeRecord("takt.test", logging.INFO, "", 0, event, (), None, extra=extra)
    line = JsonLines("front", "inspector").format(record)
    assert line.isascii() and len(line.splitlines()) == 1
    return json.loads(line, parse_constant=pytest.fail)  # nan and infinity are no JSON


@settings(deadline=None)  # the machine is shared
@given(st.text(), st.dictionaries(NAMES, VALUES, max_size=4))
def test_whatever_is_said_is_one_json_object_on_one_line(event: str, extra: dict[str, Any]) -> None:
    found = formatted(event, extra)
    assert (found["event"], found["station"], found["stage"]) == (event, "front", "inspector")
    assert {"at", "level", "token", *extra} <= found.keys()


def test_the_token_stands_where_there_is_one_and_null_where_not() -> None:
    assert formatted("set refused", {"token": "ab12"})["token"] == "ab12"
    assert formatted("re-armed", {})["token"] is None


@pytest.mark.parametrize("key", FIXED)
def test_nothing_takes_the_place_of_a_fixed_key(key: str) -> None:
    found = formatted("said", {key: "forged"})
    assert found[key] != "forged" and found[f"{key}_"] == "forged"


# --- a whole process ---


def ran(folder: Path, body: str, max_bytes: int = 1_000_000, keep: int = 2) -> tuple[list[dict[str, Any]], str]:
    """What a process logged, and what it printed past its log."""
    program = SET_UP.format(max_bytes=max_bytes, keep=keep) + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=60)
    return list(lines_of(folder / "log")), done.stdout + done.stderr


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    for line in file.read_text().splitlines():
        found = json.loads(line)
        assert {*FIXED, "token"} <= found.keys()
        yield found


@pytest.mark.parametrize(
    ("body", "event", "seen"),
    [
        ("1 / 0", "crashed", {"fatal": True}),
        ("t = threading.Thread(target=lambda: 1 / 0, name='grabber'); t.start(); t.join()", "thread crashed",
         {"thread_name": "grabber"}),
        ("class A:\n    def __del__(self): 1 / 0\nA()", "error ignored", {}),
        ("warnings.warn('old')", "UserWarning: old", {"logger": "py.warnings"}),
        ("logging.getLogger('pymodbus').error('refused')", "refused", {"logger": "pymodbus"}),
        ("logger('bus').error('message dropped', extra={'peer': 'x'})", "message dropped", {"peer": "x"}),
    ],
)  # fmt: skip
def test_what_would_be_plain_text_is_a_record(tmp_path: Path, body: str, event: str, seen: dict[str, Any]) -> None:
    [found], printed = ran(tmp_path, body)
    assert event in found["event"] and found.items() >= seen.items()
    assert ("trace" in found) == ("1 / 0" in body)
    assert printed == ""


def test_files_turn_before_they_exceed_their_size_and_the_oldest_goes(tmp_path: Path) -> None:
    ran(tmp_path, "for i in range(300): logger('x').info('said', extra={'number': i})", max_bytes=5_000, keep=2)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size <= 5_000 for file in files)
    numbers = [line["number"] for file in reversed(files) for line in lines_of(file)]
    assert numbers == list(range(numbers[0], 300)), "no line is lost between two files"


def test_a_log_that_cannot_be_opened_is_told_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    program = SET_UP.format(max_bytes=1000, keep=1) + "logger('x').info('still here')"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    first, second = map(json.loads, done.stderr.splitlines())
    assert (first["event"], second["event"]) == ("the log's file cannot be opened", "still here")


def test_what_libraries_print_is_bounded(tmp_path: Path) -> None:
    body = """
    import os
    from pipeline.log import bound_output
    for _ in range(50):
        os.write(2, b"x" * 1000)
        bound_output(10_000)
    """
    with (tmp_path / "out").open("ab") as output:
        program = SET_UP.format(max_bytes=1000, keep=1) + textwrap.dedent(body)
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, stdout=output, stderr=output, timeout=60)
    assert 0 < (tmp_path / "out").stat().st_size <= 10_000


# --- what a stage said last ---


def left(state: Path, log: str, printed: str = "") -> str:
    for file, text in ((log_file(state, "inspector"), log), (output_file(state, "inspector"), printed)):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return last_words(state, "inspector")


def test_the_last_words_are_its_own_or_say_where_to_look(tmp_path: Path) -> None:
    fatal, trace = (
        {"event": "no recipe there: teach one", "fatal": True},
        {"event": "crashed", "fatal": True, "trace": ""},
    )
    assert left(tmp_path, f"{json.dumps(fatal)}\n") == "no recipe there: teach one"
    assert left(tmp_path, f"{json.dumps(trace)}\n") == f"see {log_file(tmp_path, 'inspector')}"
    assert left(tmp_path, "", "Segmentation fault") == (
        f"see {log_file(tmp_path, 'inspector')} and {output_file(tmp_path, 'inspector')}"
    )
    assert left(tmp_path, "[1]\n", f"{json.dumps(fatal)}\n") == "no recipe there: teach one"
