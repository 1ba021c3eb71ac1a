"""`takt ledger verify`: whatever was done to a ledger, the first record it was done to is named."""

import json
import re
import shutil
import sqlite3
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_parts import lines_of, panel, rewrite

from pipeline.anchors import Anchor, anchor_of
from pipeline.errors import ConfigError, StoreError
from pipeline.follower import Follower
from pipeline.keys import machine_key
from pipeline.ledger import Ledger, ledger_files
from pipeline.store import Store, stored_anchors
from pipeline.verify import verified

PANELS, EVERY = 6, 2  # an anchor after every second panel


def ledger_of(state: Path) -> Path:
    """A state folder as a line leaves it: key, ledger, and its anchors in the store."""
    key, folder = machine_key(state), state / "ledger"
    with Ledger(folder, "cell_1") as ledger:
        for seq in range(1, PANELS + 1):
            panel(ledger, seq)
            if seq % EVERY == 0:
                ledger.anchor(key.sign)
    followed(state)
    return folder


def followed(state: Path) -> None:
    """What the archiver does with anchors."""
    store = Store(state)
    rows, marks = Follower(state / "ledger", {}).read()
    store.add_panels([], marks, [anchor_of(row) for row in rows if row["step"] == "anchor"])
    store.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("made") / "state"
    ledger_of(state)
    return state


@pytest.fixture
def state(made: Path, tmp_path: Path) -> Path:
    """A copy that the test may spoil."""
    shutil.copytree(made, tmp_path / "state")
    return tmp_path / "state"


def chained(lines: list[bytes]) -> list[bytes]:
    """The same records with numbers and hashes that hold: what a person with an editor and a script can do."""
    found, previous = [], "0" * 64
    for number, line in enumerate(lines):
        record = json.loads(line) | {"n": number, "prev": previous}
        found.append(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        previous = sha256(found[-1].rstrip(b"\n")).hexdigest()
    return found


# --- what is whole ---


def test_a_whole_ledger_is_intact_up_to_its_newest_anchor(state: Path) -> None:
    figures = verified(state / "ledger")
    assert (figures["intact"], figures["first_broken"], figures["passed"]) == (True, None, PANELS)
    assert figures["anchors"] == PANELS // EVERY
    assert figures["anchored_until"] == json.loads(lines_of(state / "ledger")[-1])["wall"]


def test_one_file_is_checked_against_the_anchors_that_speak_of_it(state: Path) -> None:
    [file] = ledger_files(state / "ledger")
    assert verified(file)["anchors"] == 3
    lines = lines_of(state / "ledger")
    middle = json.loads(lines[8])["n"]
    file.write_bytes(b"".join(lines[:middle]))
    (file.parent / "2999-01-01.jsonl").write_bytes(b"".join(lines[middle:]))
    first, second = verified(file), verified(file.parent / "2999-01-01.jsonl")
    assert (first["intact"], first["anchors"], second["intact"], second["anchors"]) == (True, 1, True, 2)


def test_records_behind_the_newest_anchor_are_no_fault(state: Path) -> None:
    with Ledger(state / "ledger", "cell_1") as ledger:
        panel(ledger, 99)
    assert verified(state / "ledger")["intact"]


def test_a_copy_of_the_ledger_alone_says_that_it_has_no_anchors(state: Path, tmp_path: Path) -> None:
    shutil.copytree(state / "ledger", tmp_path / "copy" / "ledger")
    figures = verified(tmp_path / "copy" / "ledger")
    assert (figures["intact"], figures["anchors"], figures["anchored_until"]) == (True, 0, None)
    assert verified(tmp_path / "copy" / "ledger", state)["anchors"] == 3
    assert verified(state / "ledger", anchored=False)["anchors"] == 0


def test_reading_the_store_changes_nothing(state: Path) -> None:
    before = (state / "store.sqlite").read_bytes()
    assert len(stored_anchors(state) or []) == 3
    assert (state / "store.sqlite").read_bytes() == before
    assert stored_anchors(state / "nowhere") is None


def test_a_store_from_before_there_were_anchors_has_none(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.sqlite") as old:
        old.execute("CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER)")
    old.close()
    assert stored_anchors(tmp_path) == []


def test_a_store_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(StoreError, match="not a database"):
        stored_anchors(tmp_path)


# --- what was done to it ---


@pytest.mark.parametrize("kept", [1, 5, 9, 18])
def test_a_cut_off_end_is_found_by_the_stores_anchor(state: Path, kept: int) -> None:
    """Its own anchors go with it; a chain that is cut at a record's end holds."""
    lines = lines_of(state / "ledger")
    anchors = [json.loads(line) for line in lines if b'"anchor"' in line]
    rewrite(state / "ledger", lines[:kept])
    assert verified(state / "ledger", anchored=False)["intact"]
    figures = verified(state / "ledger")
    missing = next(anchor for anchor in anchors if anchor["n"] > kept)
    said = f"record {kept}: the anchor of {missing['wall'][:19]} says {missing['n']} records, {kept} are here"
    assert (figures["intact"], figures["first_broken"]) == (False, said)


def test_a_ledger_that_was_deleted_is_found_once_there_is_a_new_one(state: Path) -> None:
    rewrite(state / "ledger", [])
    with Ledger(state / "ledger", "cell_1") as ledger:
        panel(ledger, 1)
    assert "says 7 records, 4 are here" in verified(state / "ledger")["first_broken"]


def test_a_line_that_went_on_after_the_cut_is_found_too(state: Path) -> None:
    lines = lines_of(state / "ledger")
    rewrite(state / "ledger", lines[:4])
    with Ledger(state / "ledger", "cell_1") as ledger:
        for seq in range(2, 20):
            panel(ledger, seq)
        ledger.anchor(machine_key(state).sign)
    followed(state)
    assert verified(state / "ledger", anchored=False)["intact"]
    said = verified(state / "ledger")["first_broken"]
    assert "signed other records: changed or put in between 0 and 6" in said


SPOILT: dict[str, Callable[[list[bytes], int], list[bytes]]] = {
    "deleted": lambda lines, at: [*lines[:at], *lines[at + 1 :]],
    "doubled": lambda lines, at: [*lines[: at + 1], *lines[at:]],
    "reordered": lambda lines, at: [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
    "changed": lambda lines, at: [*lines[:at], lines[at].replace(b"cell_1", b"cell_2"), *lines[at + 1 :]],
}


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize("at", [1, 8, 16])
def test_a_chain_written_anew_is_found_between_two_anchors(state: Path, how: str, at: int) -> None:
    """Whoever did it computed every hash again, and has not the key."""
    spoilt = chained(SPOILT[how](lines_of(state / "ledger"), at))
    rewrite(state / "ledger", spoilt)
    figures = verified(state / "ledger")
    assert not figures["intact"]
    named = re.match(r"record (\d+)|.*jsonl:(\d+)", figures["first_broken"])
    assert named is not None
    number = int(named[1] or int(named[2]) - 1)
    assert at <= number <= at + 7  # there are 7 records from anchor to anchor


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize("at", [1, 3, 8, 16])
def test_where_the_chain_is_broken_the_chain_names_the_record(state: Path, how: str, at: int) -> None:
    rewrite(state / "ledger", SPOILT[how](lines_of(state / "ledger"), at))
    said = verified(state / "ledger")["first_broken"]
    later = {"doubled": 1, "changed": 1}.get(how, 0)  # the next record's hash shows it
    assert said.split(": ")[0].endswith(f".jsonl:{at + 1 + later}")


def test_of_two_things_the_first_is_named(state: Path) -> None:
    """A chain written anew from record 1 on, and one more record changed by hand near the end."""
    lines = chained(SPOILT["changed"](lines_of(state / "ledger"), 1))
    rewrite(state / "ledger", [*lines[:17], lines[17].replace(b"cell_1", b"cell_9"), *lines[18:]])
    assert verified(state / "ledger")["first_broken"].startswith("record 6: the anchor of ")


def test_an_anchor_signed_by_another_machine_is_named(state: Path, tmp_path: Path) -> None:
    with Ledger(state / "ledger", "cell_1") as ledger:
        ledger.anchor(machine_key(tmp_path / "other").sign)
    said = verified(state / "ledger")["first_broken"]
    assert said.startswith(f"record {len(lines_of(state / 'ledger')) - 1}: ")
    assert said.endswith("is not signed by this machine's key")


@pytest.mark.parametrize("column", ["records = records + 1", "head = 'x'", "wall = 'x'", "signature = 'x'"])
def test_an_anchor_changed_in_the_store_is_named(state: Path, column: str) -> None:
    with sqlite3.connect(state / "store.sqlite") as store:
        store.execute(f"UPDATE anchors SET {column} WHERE records = 14")
    store.close()
    assert verified(state / "ledger")["first_broken"].endswith("is not signed by this machine's key")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_cut_and_no_changed_byte_before_the_last_anchor_escapes(made: Path, data: st.DataObject) -> None:
    folder = made.parent / "spoilt"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made, folder)
    [file] = ledger_files(folder / "ledger")
    text = bytearray(file.read_bytes())
    last = text.rstrip(b"\n").rfind(b"\n")
    at = data.draw(st.integers(0, last - 1))
    if data.draw(st.booleans()):
        text = text[:at]
    else:
        text[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[at]))
    file.write_bytes(text)
    assert not verified(folder / "ledger")["intact"]


# --- what is missing to check it ---


@pytest.mark.parametrize(
    ("missing", "said"),
    [("ledger", "no ledger there"), ("store.sqlite", "no store there"), ("keys", "machine.pub.pem: the anchors' key")],
)
def test_what_is_missing_is_said(state: Path, missing: str, said: str) -> None:
    path = state / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ConfigError, match=said) as error:
        verified(state / "ledger", state)
    assert "\n" not in str(error.value)


# --- anchors ---


def test_an_anchor_that_cannot_be_written_is_not_written_later(tmp_path: Path) -> None:
    """It would sign a count that is no longer true."""
    from test_ledger import disk_of

    from pipeline.errors import LedgerError

    key = machine_key(tmp_path)
    with Ledger(tmp_path / "ledger", "cell_1") as ledger:
        panel(ledger, 1)
        [file] = ledger_files(tmp_path / "ledger")
        with disk_of(file.stat().st_size), pytest.raises(LedgerError):
            ledger.anchor(key.sign)
        panel(ledger, 2)
        ledger.anchor(key.sign)
    figures = verified(tmp_path / "ledger")
    assert (figures["intact"], figures["anchors"], figures["records"]) == (True, 1, 8)


def test_the_anchor_of_a_new_day_counts_the_new_days_first_record(tmp_path: Path, monkeypatch: Any) -> None:
    from datetime import UTC, datetime

    from test_ledger import Clock

    from pipeline import ledger as ledger_module

    monkeypatch.setattr(ledger_module, "datetime", Clock)
    monkeypatch.setattr(Clock, "today", datetime(2026, 3, 1, 23, 59, tzinfo=UTC))
    key = machine_key(tmp_path)
    with Ledger(tmp_path / "ledger", "cell_1") as ledger:
        panel(ledger, 1)
        monkeypatch.setattr(Clock, "today", datetime(2026, 3, 2, 0, 1, tzinfo=UTC))
        ledger.anchor(key.sign)
    assert (verified(tmp_path / "ledger")["intact"], verified(tmp_path / "ledger")["anchors"]) == (True, 1)


def test_what_is_signed_is_every_part_of_an_anchor() -> None:
    anchor = Anchor("cell_1", "2026-03-01T10:31:00", 812, "ab" * 32)
    assert anchor.text() == b"takt anchor 1\ncell_1\n2026-03-01T10:31:00\n812\n" + b"ab" * 32


def peak_bytes(folder: Path) -> int:
    """What verifying takes at most."""
    tracemalloc.start()
    verified(folder, anchored=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_long_ledger_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    peaks = []
    for panels in (200, 4000):
        with Ledger(tmp_path / str(panels), "cell_1") as ledger:
            for seq in range(1, panels + 1):
                panel(ledger, seq)
        peaks.append(peak_bytes(tmp_path / str(panels)))
    assert peaks[1] < peaks[0] + 100_000
