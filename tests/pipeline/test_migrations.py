"""A store of an older takt: migrated once, with a copy of what was there; a newer one is refused."""

import sqlite3
import threading

import pytest
from test_store import row
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import ConfigError, StoreError
from pipeline.store import FORMAT, Database, Place, Store, check, prepare

FORMAT_1 = """
CREATE TABLE dropped_evidence (token VARCHAR(64) NOT NULL, reason VARCHAR(8) NOT NULL, why VARCHAR NOT NULL,
 PRIMARY KEY (token));
CREATE TABLE panels (token VARCHAR(64) NOT NULL, station VARCHAR(64) NOT NULL, seq INTEGER NOT NULL,
 panel_id VARCHAR(32) NOT NULL, closed_at VARCHAR(32) NOT NULL, outcome VARCHAR(8) NOT NULL, fault VARCHAR(32),
 acknowledged BOOLEAN NOT NULL, score FLOAT, "limit" FLOAT, latency_ms FLOAT, recipe VARCHAR(64) NOT NULL,
 calibration VARCHAR(64) NOT NULL, engine VARCHAR(64) NOT NULL, defects JSON NOT NULL, timing JSON,
 PRIMARY KEY (token));
CREATE INDEX ix_panels_closed_at ON panels (closed_at);
CREATE INDEX ix_panels_outcome ON panels (outcome);
CREATE TABLE pictures (token VARCHAR(64) NOT NULL, reason VARCHAR(8) NOT NULL, folder VARCHAR NOT NULL,
 compressed BOOLEAN NOT NULL, PRIMARY KEY (token));
CREATE TABLE anchors (signature VARCHAR(128) NOT NULL, station VARCHAR(64) NOT NULL, wall VARCHAR(32) NOT NULL,
 records INTEGER NOT NULL, head VARCHAR(64) NOT NULL, PRIMARY KEY (signature));
CREATE INDEX ix_anchors_records ON anchors (records);
CREATE TABLE marks (name VARCHAR(128) NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (name));
"""
CONTENT = """
INSERT INTO marks VALUES ('format', 1), ('2026-03-01.jsonl', 7);
INSERT INTO panels VALUES ('t', 's', 1, 'p', '2026-03-01T00:00:00.000000+00:00', 'REJECT', NULL, 1, 0.7, 0.5, 50.0,
 'r', 'c', 'e', '[{"x": 1}]', NULL);
INSERT INTO pictures VALUES ('t', 'reject', '/evidence/t', 1);
"""


@pytest.fixture
def old(tmp_path):
    """A state folder with a store of format 1."""
    with sqlite3.connect(tmp_path / "store.sqlite") as store:
        store.executescript(FORMAT_1 + CONTENT)
    store.close()
    return tmp_path


def test_everything_is_there_afterwards_and_a_copy_of_what_was_before(old):
    store = Store(old)
    [panel], [picture] = store.panels(), store.pictures().values()
    assert (panel.defects, panel.steps, picture.lossless, picture.bytes) == ([{"x": 1}], None, True, 0)
    assert store.marks() == {"format": FORMAT, "2026-03-01.jsonl": 7}
    [copy] = old.glob("store.format1.*.sqlite")
    assert str(copy) == store.migrated.backup
    with sqlite3.connect(copy) as kept:
        assert kept.execute("SELECT count(*) FROM panels").fetchone() == (1,)
        assert {name for (name,) in kept.execute("SELECT name FROM sqlite_master")} >= {"ix_panels_outcome"}
    kept.close()
    store.add_panels([row(2)], {})
    store.close()
    again = Store(old)
    assert again.migrated.backup == "" and len(again.panels()) == 2
    again.close()


def test_a_migrated_store_has_the_tables_and_indices_of_a_new_one(old, tmp_path):
    Store(old).close()
    new = tmp_path / "new"
    Store(new).close()
    assert schema(old) == schema(new)


def schema(folder) -> dict[str, set[str]]:
    """Columns of every table, and the names of all indices."""
    with sqlite3.connect(folder / "store.sqlite") as store:
        names = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: {column[1] for column in store.execute(f"PRAGMA table_info({name})")} for name in names}
        indices = store.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        found["indices"] = {name for (name,) in indices}
    store.close()
    return found


def test_an_empty_store_that_states_no_format_is_the_first_one(tmp_path):
    with sqlite3.connect(tmp_path / "store.sqlite") as store:
        store.executescript(FORMAT_1)
    store.close()
    migrated = Store(tmp_path)
    assert migrated.migrated.found == 1 and migrated.panels() == []
    migrated.close()


def test_two_programs_that_start_at_once_migrate_once(old):
    databases = [Database(Place(old)) for _ in range(3)]
    found = []
    threads = [threading.Thread(target=lambda one=one: found.append(prepare(one))) for one in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in databases:
        database.close()
    assert len(found) == 3 and sum(bool(one.backup) for one in found) == 1 == len(list(old.glob("*.format1.*")))


def test_a_migration_that_fails_leaves_the_store_as_it_was(old):
    with sqlite3.connect(old / "store.sqlite") as store:
        store.execute("ALTER TABLE pictures ADD COLUMN greys JSON")  # somebody's own: the migration's last step fails
    store.close()
    with pytest.raises(StoreError, match="duplicate column"):
        Store(old)
    with sqlite3.connect(old / "store.sqlite") as store:
        assert store.execute("SELECT value FROM marks WHERE name = 'format'").fetchone() == (1,)
        assert "steps" not in {column[1] for column in store.execute("PRAGMA table_info(panels)")}
    store.close()


def test_who_only_reads_asks_for_the_migration(old, tmp_path):
    database = Database(Place(old))
    with pytest.raises(StoreError, match="has an older format: takt migrate"):
        check(database)
    database.close()
    absent = Database(Place(tmp_path / "none"))
    with pytest.raises(StoreError, match="is not there yet"):
        check(absent)


def test_the_command_says_what_it_did(old):
    done = CliRunner().invoke(app, ["migrate", str(old)])
    assert done.exit_code == 0 and "store.format1." in done.output, done.output
    again = CliRunner().invoke(app, ["migrate", str(old)])
    assert again.exit_code == 0 and "None" in again.output


def test_a_newer_one_is_refused_by_the_command(tmp_path):
    store = Store(tmp_path)
    store.add_panels([], {"format": FORMAT + 1})
    store.close()
    done = CliRunner().invoke(app, ["migrate", str(tmp_path)])
    assert isinstance(done.exception, ConfigError) and "update takt" in str(done.exception)
