"""The passport on disk, its schema, and its page."""

import json
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import passports
import pytest

from pipeline.bench.page import page
from pipeline.bench.passport import EnginePassport, LinePassport, read, schema_text
from pipeline.errors import UsageError

SCHEMA = Path(__file__).parents[3] / "docs" / "passport.schema.json"
PARTS = {"prepare": 1.0, "network": 20.0, "stitch": 1.0, "decide": 2.0}


def engine() -> EnginePassport:
    return passports.engine_passport([passports.row(n, passports.times(24 * n, 0.02, 40), PARTS) for n in (1, 2)])


def line() -> LinePassport:
    trial = {name: getattr(passports.line_passport(), name) for name in ("takt_ms", "panels", "sustained", "late")}
    trial |= {"outcomes": {"PASS": 40}, "latency_ms": passports.line_passport().latency_ms, "busy": {"camera": 0.1}}
    return passports.line_passport(trials=[trial | {"bottleneck": "network"}], warnings=["<the clock was set>"])


@pytest.mark.parametrize("passport", [engine(), line()], ids=["engine", "line"])
def test_what_was_written_is_read_again(passport: EnginePassport | LinePassport, tmp_path: Path) -> None:
    path = tmp_path / "passport.json"
    path.write_text(passport.model_dump_json())
    assert read(path) == passport


def test_the_schema_in_docs_is_that_of_the_program() -> None:
    """Written by: python -c "from pipeline.bench.passport import schema_text; print(schema_text(), end='')"."""
    assert SCHEMA.read_text() == schema_text()


def test_the_keys_that_others_read_are_there() -> None:
    row = engine().model_dump()["rows"][0]
    assert {"runtime", "precision", "batch", "ms", "panels_per_s", "pixels_per_s", "floor_ms", "ratio"} <= row.keys()
    assert {"median", "p90", "p99", "p999", "max"} == row["ms"].keys()
    keys = {"takt_ms", "panels", "late", "latency_ms", "stages", "sustained_panels_per_min", "bottleneck", "machine"}
    assert keys <= line().model_dump().keys()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no passport"),
        ("[]", "is no passport"),
        ('{"kind": "car"}', "is no passport"),
        ('{"kind": "line", "format": 1}', "is no passport"),
    ],
)
def test_what_is_no_passport_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=said) as refused:
        read(path)
    assert "\n" not in str(refused.value)


def test_a_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(json.loads(engine().model_dump_json()) | {"format": 2}))
    with pytest.raises(UsageError, match="update takt"):
        read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "nowhere.json")


class Parts(HTMLParser):
    """Tags and what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.refers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.refers += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.mark.parametrize("passport", [engine(), line()], ids=["engine", "line"])
def test_the_page_is_one_file_with_drawings_and_the_way_to_repeat_it(passport: EnginePassport | LinePassport) -> None:
    text = page(passport)
    parts = Parts()
    parts.feed(text)
    assert parts.refers == [] and "script" not in parts.tags
    assert parts.tags.count("svg") >= 3
    assert passport.command in text and passport.subject.engine in text
    for drawing in text.split("<svg")[1:]:
        ElementTree.fromstring(f"<svg{drawing.partition('</svg>')[0]}</svg>")


def test_the_page_says_what_was_wrong_and_nothing_of_it_is_markup() -> None:
    assert "&lt;the clock was set&gt;" in page(line())
    assert "Stopped before its end" in page(passports.line_passport(interrupted=True))


def test_a_passport_without_a_single_result_has_a_page() -> None:
    nothing = passports.line_passport(stages={}, worst=[], bottleneck="", sustained=False)
    assert "<svg" in page(nothing)
