"""The store on a real PostgreSQL server: filled, asked, decided on, migrated, and away for a while."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import count

import numpy as np
import postgres_server
import pytest
from review_parts import NOON, TAKT, config, filled, keep, row
from sqlalchemy import text
from station_parts import pixels, rings, settings
from test_archiver import Place, closed, finding, image_set, token_of, trigger, turn_until

from pipeline.audit import verified
from pipeline.errors import ConfigError, StoreError
from pipeline.keys import public_key
from pipeline.ledger import Ledger
from pipeline.review.desk import Desk
from pipeline.review.facts import Filter, Finding, Person, Role, State, Wish
from pipeline.shelver import RETRY_NS
from pipeline.store import FORMAT, Database, Store, place_at, prepare, stored_anchors
from pipeline.store import Place as StorePlace

EVE = Person(name="eve", role=Role.OPERATOR)
NAMES = count()


@pytest.fixture(scope="module")
def server() -> Iterator[postgres_server.Server]:
    if postgres_server.programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="needs the extra [postgres]")
    with postgres_server.running() as server:
        yield server


@pytest.fixture
def url(server) -> str:
    return server.database(f"db{next(NAMES)}")


def test_queues_decisions_and_figures_are_those_of_sqlite(url, tmp_path):
    rows = [row(number, "REJECT" if number % 3 == 0 else "PASS", seq=0xFFFF_FFFF) for number in range(30)]
    answers = []
    for name, table in (("postgres", {"url": url}), ("sqlite", {})):
        line = config(tmp_path / name, store=table)
        store = filled(line, rows)
        desk = Desk(line)
        keep(line, store, 1, "sample")
        keep(line, store, 3)
        desk.decide(EVE, token_of(3), Wish(finding=Finding.DEFECTIVE, code="dust"))
        desk.decide(EVE, token_of(6), Wish(finding=Finding.GOOD, comment="smear 'on' %s"))
        desk.undo(EVE, token_of(6))
        desk.decide(EVE, token_of(1), Wish(finding=Finding.GOOD))
        pages = [desk.queue(Filter(queue=queue), None, 5) for queue in ("rejects", "sample", "all")]
        pages.append(desk.queue(Filter(), pages[0].next, 5))
        pages.append(
            desk.queue(Filter(code="dust", since=NOON + TAKT, product="toy", cause="DEFECT", state=State.DONE))
        )
        tokens = [[one.token for one in page.rows] for page in pages]
        shift = desk.shift(NOON, NOON + timedelta(hours=1))
        said = [(one.token, one.standing.model_copy(update={"at": None})) for one in desk.find("P00000")]
        chain = verified(store.database, line.state, "front", public_key(line.state))
        answers.append((tokens, shift, desk.pulse(), said, desk.shift_csv(NOON, NOON + timedelta(hours=1)), chain))
        assert desk.panel(token_of(3)).has_map and desk.live().disk.days_left
        desk.close()
        store.close()
    assert answers[0] == answers[1]


def test_several_stations_share_a_server_and_each_follows_its_own_ledger(url, tmp_path):
    front, back = (Store(StorePlace(tmp_path / name, url), name) for name in ("front", "back"))
    front.add_panels([row(1)], {"2026-03-01.jsonl": 7})
    back.add_panels([row(2, station="back")], {"2026-03-01.jsonl": 9})
    assert front.marks() == {"format": FORMAT, "2026-03-01.jsonl": 7}
    assert back.marks() == {"format": FORMAT, "2026-03-01.jsonl": 9}
    assert place_at(tmp_path / "front").url == url and stored_anchors(tmp_path / "front") == []
    front.close()
    back.close()


def test_an_older_store_is_migrated_with_a_backup_and_a_newer_one_refused(url, tmp_path):
    place = StorePlace(tmp_path, url)
    database = Database(place)
    with database.writing() as session:
        for statement in FORMAT_1:
            session.execute(text(statement))
    done = prepare(database)
    assert (done.found, done.now) == (1, FORMAT) and done.backup.startswith("schema takt_format_1_")
    with database.reading() as session:
        assert session.execute(text(f"SELECT count(*) FROM {done.backup.split()[1]}.panels")).scalar() == 1
    store = Store(place)
    assert [panel.seq for panel in store.panels()] == [1] and store.migrated.found == FORMAT
    store.add_panels([row(2)], {"format": FORMAT + 1})
    with pytest.raises(ConfigError, match=f"format {FORMAT + 1} is newer"):
        Store(place)
    store.close()
    database.close()


FORMAT_1 = (
    "CREATE TABLE panels (token VARCHAR(64) PRIMARY KEY, station VARCHAR(64) NOT NULL, seq INTEGER NOT NULL,"
    " panel_id VARCHAR(32) NOT NULL, closed_at VARCHAR(32) NOT NULL, outcome VARCHAR(8) NOT NULL, fault VARCHAR(32),"
    ' acknowledged BOOLEAN NOT NULL, score FLOAT, "limit" FLOAT, latency_ms FLOAT, recipe VARCHAR(64) NOT NULL,'
    " calibration VARCHAR(64) NOT NULL, engine VARCHAR(64) NOT NULL, defects JSON NOT NULL, timing JSON)",
    "CREATE INDEX ix_panels_outcome ON panels (outcome)",
    "CREATE TABLE pictures (token VARCHAR(64) PRIMARY KEY, reason VARCHAR(8) NOT NULL, folder VARCHAR NOT NULL,"
    " compressed BOOLEAN NOT NULL)",
    "CREATE TABLE marks (name VARCHAR(128) PRIMARY KEY, value INTEGER NOT NULL)",
    "INSERT INTO marks VALUES ('format', 1), ('2026-03-01.jsonl', 7)",
    "INSERT INTO panels VALUES ('t', 's', 1, 'p', '2026-03-01T00:00:00.000000+00:00', 'PASS', NULL, true, 0.1, 0.5, 50,"
    " 'r', 'c', 'e', '[]', NULL)",
)


def test_the_spool_keeps_what_comes_while_the_server_is_away_from_the_start_on(server, url, tmp_path):
    """Nothing is lost: neither panels nor pictures nor what is known of lost ones."""
    line = settings(tmp_path).model_copy(update={"store": config(tmp_path, store={"url": url}).store})
    with rings(line), ExitStack() as stack:
        place = Place(line, stack)
        sender = place.sender()
        server.stop()
        archiver = place.archiver()
        with Ledger(line.ledger, "cell_1") as ledger:
            for number in (1, 2, 3):
                sender.send(trigger(number), "reject", [image_set(pixels(number, (2, 30, 40)))], finding(MAP))
                closed(ledger, number)
                turn_until(archiver, kept=number)
        archiver.shelver.notes[token_of(9)] = ("fault", "no room in the pool")
        state, said = archiver.health()
        assert state == "error" and "see that the server runs" in said and "\n" not in said
        assert archiver.counters()["spooled"] == 3 and len(list((line.state / "spool").iterdir())) == 3
        with pytest.raises(StoreError):
            Desk(line).pulse()
        server.start()
        archiver.turn(RETRY_NS + 1)
        archiver.shelver.finish()
        assert archiver.health() == ("ready", "") and list((line.state / "spool").iterdir()) == []
        store = archiver.shelver.store
        assert [panel.seq for panel in store.panels()] == [1, 2, 3]
        assert set(store.pictures()) == {token_of(number) for number in (1, 2, 3)}
        assert archiver.lost == archiver.shelver.lost == 0 and archiver.shelver.notes == {}


MAP = np.ones((2, 2), np.float32)


def test_a_desk_goes_on_by_itself_when_the_server_comes_back(server, url, tmp_path):
    line = config(tmp_path, store={"url": url})
    store, desk = filled(line, [row(1, "REJECT")]), Desk(line)
    assert desk.pulse().open_rejects == 1
    server.stop()
    with pytest.raises(StoreError) as error:
        desk.pulse()
    assert "\n" not in str(error.value)
    server.start()
    assert desk.pulse().open_rejects == 1
    desk.close()
    store.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("postgresql://u:secret@h/db", "holds a password"),
        ("mysql://u@h/db", "expected postgresql"),
        ("nonsense", "no address"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line_without_the_password(tmp_path, wrong, said):
    with pytest.raises(ConfigError, match=said) as error:
        Desk(config(tmp_path, store={"url": wrong}))
    assert "secret" not in str(error.value) and "\n" not in str(error.value)
