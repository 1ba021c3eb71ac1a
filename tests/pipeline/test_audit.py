"""The audit's chain: every change to it is named, whoever writes to it."""

import threading

import pytest
from sqlalchemy import text

from pipeline.audit import HEADS, Audit, latest, verified
from pipeline.keys import machine_key, public_key
from pipeline.store import Database, Place, Store


@pytest.fixture
def audit(tmp_path):
    Store(tmp_path).close()
    database = Database(Place(tmp_path), durable=True)
    yield Audit(database, "front", machine_key(tmp_path), tmp_path)
    database.close()


def write(audit: Audit, *whats: str) -> None:
    for what in whats:
        with audit.writing() as pen:
            pen.write("eve", what, "t", before="a", after="b")


def looked(audit: Audit) -> dict:
    return verified(audit.database, audit.state, "front", public_key(audit.state))


def test_a_chain_as_it_was_written_is_whole(audit):
    write(audit, "one", "two", "three")
    assert looked(audit) == {
        "records": 3,
        "signatures_checked": 3,
        "heads": 3,
        "intact": True,
        "first_broken": None,
    }
    assert [record["what"] for record in latest(audit.database, 2)] == ["two", "three"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE audit SET who = 'tom' WHERE n = 1", "record 1: was changed"),
        ("UPDATE audit SET after = 'good' WHERE n = 1", "record 1: was changed"),
        ("DELETE FROM audit WHERE n = 1", "record 1: missing"),
        ("DELETE FROM audit WHERE n = 3", "record 3: missing, it was noted in audit.heads"),
        ("DELETE FROM audit", "record 0: missing, it was noted in audit.heads"),
        ("UPDATE audit SET n = 9 WHERE n = 3", "record 3: missing"),
        ("UPDATE audit SET signature = hash WHERE n = 2", "record 2: the machine has not signed it"),
    ],
)
def test_whatever_is_changed_is_named(audit, change, said):
    write(audit, "one", "two", "three", "four")
    with audit.database.writing() as session:
        session.execute(text(change))
    found = looked(audit)
    assert (found["intact"], found["first_broken"]) == (False, said)


def test_a_chain_that_is_written_anew_by_another_key_is_named(audit, tmp_path):
    write(audit, "one", "two")
    with audit.database.writing() as session:
        session.execute(text("DELETE FROM audit"))
    (tmp_path / HEADS).unlink()
    forger = Audit(audit.database, "front", machine_key(tmp_path / "elsewhere"), tmp_path)
    write(forger, "one", "two")
    assert looked(audit)["first_broken"] == "record 0: the machine has not signed it"


def test_a_head_that_was_torn_by_a_power_cut_says_nothing(audit, tmp_path):
    write(audit, "one")
    with (tmp_path / HEADS).open("a") as file:
        file.write("1 abc")
    assert looked(audit)["intact"]


def test_what_fails_in_the_middle_leaves_no_record_and_no_head(audit, tmp_path):
    with pytest.raises(ZeroDivisionError), audit.writing() as pen:
        pen.write("eve", "half")
        raise ZeroDivisionError
    assert looked(audit)["records"] == 0 and not (tmp_path / HEADS).exists()


def test_two_who_write_at_once_make_one_chain(audit, tmp_path):
    other = Audit(Database(Place(tmp_path)), "front", audit.key, tmp_path)
    threads = [threading.Thread(target=write, args=(one, *["x"] * 10)) for one in (audit, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.database.close()
    assert (looked(audit)["records"], looked(audit)["intact"]) == (20, True)
