"""The store alone: rows and their place in the ledger go together, and a newer one is refused."""

from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from pipeline.errors import ConfigError
from pipeline.store import FORMAT, Store


def row(number: int, **changes: Any) -> dict[str, Any]:
    plain = {
        "token": f"{number:032x}",
        "station": "cell_1",
        "seq": number,
        "panel_id": f"p{number}",
        "closed_at": f"2026-03-01T00:00:{number:02d}",
        "outcome": "PASS",
        "fault": None,
        "acknowledged": True,
        "score": 0.1,
        "limit": 0.5,
        "latency_ms": 50.0,
        "recipe": "r",
        "calibration": "c",
        "engine": "e",
        "defects": [],
        "timing": None,
    }
    return plain | changes


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


def test_panels_come_in_the_order_of_closing(store):
    store.add_panels([row(3), row(1), row(2)], {"a.jsonl": 7})
    assert [panel.seq for panel in store.panels()] == [1, 2, 3]
    assert store.marks() == {"format": FORMAT, "a.jsonl": 7}


def test_rows_and_marks_are_stored_together_or_not_at_all(store):
    with pytest.raises(IntegrityError):
        store.add_panels([row(1), row(2, station=None)], {"a.jsonl": 7})
    assert store.panels() == [] and store.marks() == {"format": FORMAT}


def test_a_panel_seen_twice_stays_as_it_was(store):
    store.add_panels([row(1)], {"a.jsonl": 7})
    store.add_panels([row(1, outcome="REJECT")], {"a.jsonl": 9})
    assert [panel.outcome for panel in store.panels()] == ["PASS"]
    assert store.marks()["a.jsonl"] == 9


def test_the_largest_sequence_fits(store):
    store.add_panels([row(1, seq=0xFFFF_FFFF)], {})
    assert store.panels()[0].seq == 0xFFFF_FFFF


def test_a_panels_pictures_move_from_the_spool_to_the_archive(store):
    store.put_picture("t", "reject", "/spool/t", compressed=False)
    store.put_picture("t", "reject", "/evidence/t", compressed=True)
    assert [(picture.folder, picture.compressed) for picture in store.pictures().values()] == [("/evidence/t", True)]


def test_what_was_stored_is_there_for_the_next_process(tmp_path, store):
    store.add_panels([row(1)], {"a.jsonl": 7})
    again = Store(tmp_path)
    assert len(again.panels()) == 1 and again.marks()["a.jsonl"] == 7
    again.close()


def test_a_newer_store_is_refused_in_one_line(tmp_path, store):
    store.add_panels([], {"format": FORMAT + 1})
    with pytest.raises(ConfigError, match=f"format {FORMAT + 1} is newer than {FORMAT}: update takt") as error:
        Store(tmp_path)
    assert "\n" not in str(error.value)
