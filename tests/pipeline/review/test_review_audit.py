"""The audit as people read it: in parts, of one person or panel, and whether its chain is whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from review_parts import Station, row, token_of
from sqlalchemy import text

from pipeline.review.facts import AuditFilter, Finding, Person, Role, Wish
from pipeline.review.trail import ChainCheck

EVE, TOM = (Person(name=name, role=Role.OPERATOR) for name in ("eve", "tom"))
DUST = Wish(finding=Finding.DEFECTIVE, code="dust")


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    station = Station(tmp_path, [row(2, "REJECT"), row(3, "REJECT")])
    yield station
    station.close()


def test_the_audit_comes_in_parts_newest_first(station):
    for _ in range(5):
        station.desk.decide(EVE, token_of(2), DUST)
    first = station.desk.audit(limit=3)
    second = station.desk.audit(first.next, 3)
    assert [one.n for one in [*first.rows, *second.rows]] == [4, 3, 2, 1, 0] and second.next is None


def test_the_audit_is_narrowed_to_a_person_and_to_a_panel_by_bar_code_or_token(station):
    station.desk.decide(EVE, token_of(2), DUST)
    station.desk.decide(TOM, token_of(2), DUST)
    station.desk.decide(TOM, token_of(3), DUST)
    station.desk.accounts.add("root", "P00", Role.OPERATOR, "correct horse")  # no panel

    def numbers(**wanted) -> list[int]:
        return [one.n for one in station.desk.audit(wanted=AuditFilter(**wanted)).rows]

    assert station.desk.audit_people() == ["eve", "root", "tom"]
    assert (numbers(who="tom"), numbers(who="tom", panel="P000002"), numbers(who="nobody")) == ([2, 1], [1], [])
    assert (numbers(panel=token_of(3)), numbers(panel="P00000"), numbers(panel="%")) == ([2], [2, 1, 0], [])
    newest, *_, oldest = station.desk.audit().rows
    assert (newest.panel, newest.panel_id, oldest.panel, oldest.panel_id) == (False, "", True, "P000002")


def test_a_changed_record_breaks_the_chain_also_where_it_was_whole_before(station):
    station.desk.decide(EVE, token_of(2), DUST)
    assert station.desk.audit_chain().intact
    station.desk.decide(EVE, token_of(3), DUST)
    whole = station.desk.audit_chain()
    assert (whole.intact, whole.records, whole.signatures_checked) == (True, 2, 2)
    with station.desk.accounts.audit.database.writing() as session:
        session.execute(text("UPDATE audit SET who = 'tom' WHERE n = 0"))
    assert station.desk.audit_chain() == whole  # nothing was added, and it is not a minute old
    broken = station.desk.audit_chain(anew=True)
    assert (broken.intact, broken.first_broken) == (False, "record 0: was changed")


def test_a_check_of_an_unchanged_chain_holds_for_a_minute():
    figures = {"records": 3, "signatures_checked": 3, "heads": 3, "intact": True, "first_broken": None}
    now, checks = [0.0], []

    def check() -> dict:
        checks.append(now[0])
        return figures

    chain = ChainCheck(check, lambda: now[0])
    for now[0], count in ((0.0, 3), (59.0, 3), (61.0, 3), (62.0, 4)):
        chain(count)
    assert checks == [0.0, 61.0, 62.0]
