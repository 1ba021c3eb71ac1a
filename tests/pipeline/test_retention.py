"""Pictures are deleted by policy, with a record of it; what is known of a panel stays."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_parts import config, filled, keep, row, token_of
from sqlalchemy import text

from pipeline.audit import Audit, latest, verified
from pipeline.config import KeepConfig
from pipeline.keys import machine_key
from pipeline.retention import Kept, over_quota
from pipeline.tidying import tidy

DAY = timedelta(days=1)


@pytest.fixture
def kept(tmp_path):
    """A reject, a fault and a sampled pass, kept just now."""
    line = config(tmp_path)
    store = filled(line, [row(1, "REJECT"), row(2, "REJECT", "LAMP"), row(3)])
    reasons = {1: "reject", 2: "fault", 3: "sample"}
    folders = {number: keep(line, store, number, reason) for number, reason in reasons.items()}
    yield Audit(store.database, "front", machine_key(line.state), line.state), store, folders
    store.close()


def lossless(folder: Path) -> bool:
    return bool(list(folder.glob("*.png")))


def thumbs(folder: Path) -> bool:
    return bool(list(folder.glob("thumbs/*.jpg")))


@pytest.mark.parametrize(("days", "left"), [(0, {1, 2, 3}), (31, {1, 3}), (181, set())])
def test_lossless_pictures_go_at_the_age_of_their_kind_and_thumbnails_stay(kept, days, left):
    audit, store, folders = kept
    gone = tidy(audit, KeepConfig(), datetime.now(UTC) + days * DAY)
    assert {number for number, folder in folders.items() if lossless(folder)} == left
    assert gone == 3 - len(left) and all(thumbs(folder) for folder in folders.values())
    assert {one.token for one in store.pictures().values() if one.lossless} == {token_of(number) for number in left}
    assert len(store.panels()) == 3
    assert len(latest(audit.database, 9)) == (gone > 0)
    assert tidy(audit, KeepConfig(), datetime.now(UTC) + days * DAY) == 0


def test_thumbnails_go_much_later(kept):
    audit, store, folders = kept
    much_later = datetime.now(UTC) + 731 * DAY
    assert [tidy(audit, KeepConfig(), much_later) for _ in range(3)] == [3, 3, 0]  # first the large ones
    assert not any(thumbs(folder) for folder in folders.values())
    assert not any(one.thumbs or one.lossless for one in store.pictures().values())
    said = [(one["who"], one["what"]) for one in latest(audit.database, 9)]
    assert said == [("takt", "pictures deleted")] * 2 and verified(audit.database, audit.state, "front", None)["intact"]


def test_a_days_quota_takes_faults_first(kept):
    audit, store, folders = kept
    size = sum(one.bytes for one in store.pictures().values())
    tidy(audit, KeepConfig(daily_gb=(size - 1) / 1e9), datetime.now(UTC))
    assert {number for number, folder in folders.items() if lossless(folder)} == {1, 3}
    assert "over the day's" in latest(audit.database, 1)[0]["reason"]


def test_what_lies_on_another_stations_disk_is_not_touched(kept):
    audit, _, folders = kept
    with audit.database.writing() as session:
        session.execute(text("UPDATE pictures SET station = 'back'"))
    assert tidy(audit, KeepConfig(), datetime.now(UTC) + 900 * DAY) == 0 and all(map(lossless, folders.values()))


def test_a_folder_outside_of_the_archive_is_not_touched(kept, tmp_path):
    audit, *_ = kept
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "x.png").write_bytes(b"x")
    with audit.database.writing() as session:
        session.execute(text(f"UPDATE pictures SET folder = '{outside}'"))
    tidy(audit, KeepConfig(), datetime.now(UTC) + 900 * DAY)
    assert (outside / "x.png").exists()


KEPT = st.builds(
    Kept,
    token=st.uuids().map(str),
    reason=st.sampled_from(["reject", "fault", "sample"]),
    kept_at=st.dates().map(str),
    bytes=st.integers(0, 10**9),
    decided=st.booleans(),
)


@given(st.lists(KEPT, max_size=20), st.floats(0.001, 5))
def test_a_quota_is_kept_by_deleting_no_more_than_needed(day, quota_gb):
    gone = over_quota(KeepConfig(daily_gb=quota_gb), day)
    sizes = {one.token: one.bytes for one in day}
    left = sum(sizes.values()) - sum(sizes[token] for token in gone)
    assert left <= quota_gb * 1e9
    assert not gone or left + sizes[gone[-1]] > quota_gb * 1e9
    order = {"fault": 0, "sample": 1, "reject": 2}
    went, stay = [one for one in day if one.token in gone], [one for one in day if one.token not in gone]
    assert not went or not stay or max(order[one.reason] for one in went) <= min(order[one.reason] for one in stay)


def test_without_a_quota_nothing_goes():
    day = [Kept("t", "fault", "2026-03-01", 10**12, True)]
    assert over_quota(KeepConfig(), day) == []
