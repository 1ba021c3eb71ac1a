"""What the review station shows and takes, against a store as a line leaves it."""

import shutil

import cv2
import numpy as np
import pytest
from review_parts import NOON, OTHER, SIZE, TAKT, Station, config, drawn, filled, keep, manifest, row, token_of

from pipeline.errors import ConfigError, NotFoundError, RefusedError, StoreError
from pipeline.review.desk import Desk
from pipeline.review.facts import Filter, Finding, Person, Role, State, Wish
from pipeline.review.looking import Kept, Recent
from pipeline.review.recipes import Known
from pipeline.store.tables import Panel, Picture

EVE, TOM, ANN = (Person(name=name, role=Role.OPERATOR) for name in ("eve", "tom", "ann"))
QUALITY = Person(name="quinn", role=Role.QUALITY)
GOOD, DUST = Wish(finding=Finding.GOOD), Wish(finding=Finding.DEFECTIVE, code="dust")


@pytest.fixture
def station(tmp_path):
    """Six panels: two passes, three rejects, a fault."""
    rows = [
        row(1),
        row(2, "REJECT"),
        row(3, "REJECT", "LAMP"),
        row(4, "REJECT", recipe=OTHER),
        row(5),
        row(6, "REJECT", station="back"),
    ]
    station = Station(tmp_path, rows)
    yield station
    station.close()


# --- the queue ---


def test_rejects_come_newest_first_and_decided_ones_below(station):
    assert station.seqs() == [6, 4, 3, 2]
    station.desk.decide(EVE, token_of(6), DUST)
    assert station.seqs() == [4, 3, 2, 6]
    station.desk.undo(EVE, token_of(6))
    assert station.seqs() == [6, 4, 3, 2]


@pytest.mark.parametrize(
    ("wanted", "seqs"),
    [
        ({"queue": "all"}, [6, 5, 4, 3, 1, 2]),
        ({"queue": "sample"}, []),
        ({"since": NOON + 3 * TAKT}, [6, 4, 3]),
        ({"until": NOON + 3 * TAKT}, [2]),
        ({"station": "back"}, [6]),
        ({"product": "other"}, [4]),
        ({"product": "nobody's"}, []),
        ({"cause": "LAMP"}, [3]),
        ({"cause": "DEFECT"}, [6, 4, 2]),
        ({"state": State.DONE}, [2]),
        ({"state": State.OPEN}, [6, 4, 3]),
        ({"finding": Finding.DEFECTIVE}, [2]),
        ({"code": "dust"}, [2]),
        ({"code": "dent"}, []),
    ],
)
def test_a_filter_narrows(station, wanted, seqs):
    station.desk.decide(EVE, token_of(2), DUST)
    assert station.seqs(**wanted) == seqs


def test_a_list_goes_on_where_it_ended_whatever_comes_meanwhile(tmp_path):
    station = Station(tmp_path, drawn(300))
    whole = station.seqs()
    for seq in whole[::3]:
        station.desk.decide(EVE, token_of(seq), DUST)
    whole, seen, cursor = station.seqs(), [], None
    while True:
        page = station.desk.queue(Filter(), cursor, 7)
        seen += [one.seq for one in page.rows]
        station.store.add_panels([row(1000 + len(seen), "REJECT")], {})
        if page.next is None:
            break
        cursor = page.next
    assert seen == whole and len(seen) > 20
    station.close()


def test_panels_closed_in_the_same_instant_are_shown_once_each(tmp_path):
    at = NOON.isoformat(timespec="microseconds")
    station = Station(tmp_path, [row(number, "REJECT", closed_at=at) for number in range(5)])
    first = station.desk.queue(Filter(), None, 2)
    second = station.desk.queue(Filter(), first.next, 9)
    assert sorted(one.seq for one in [*first.rows, *second.rows]) == [0, 1, 2, 3, 4] and second.next is None
    station.close()


def test_a_panel_is_found_by_bar_code_or_token(station):
    assert [one.seq for one in station.desk.find("P000004")] == [4]
    assert [one.seq for one in station.desk.find("P00000")] == [6, 5, 4, 3, 2, 1]
    assert [one.seq for one in station.desk.find(token_of(5))] == [5]
    assert station.desk.find("%") == station.desk.find("nobody") == []


def test_the_pulse_changes_with_every_panel_and_every_finding(station):
    first = station.desk.pulse()
    assert (first.open_rejects, first.newest) == (4, NOON + 6 * TAKT)
    station.desk.decide(EVE, token_of(2), DUST)
    second = station.desk.pulse()
    assert (second.open_rejects, second.audit) == (3, first.audit + 1)
    station.store.add_panels([row(9, "REJECT")], {})
    assert station.desk.pulse().open_rejects == 4


def test_the_sample_is_passes_whose_pictures_were_kept(station):
    keep(station.line, station.store, 1, "sample")
    keep(station.line, station.store, 2)
    assert station.seqs(queue="sample") == [1] and station.desk.pulse().open_sample == 1
    station.desk.decide(EVE, token_of(1), DUST)
    assert station.desk.pulse().open_sample == 0


# --- a panel ---


def test_a_panel_is_shown_with_everything(station):
    keep(station.line, station.store, 2)
    panel = station.desk.panel(token_of(2))
    [defect] = panel.defects
    assert (defect.x_px, defect.centre_x_mm, defect.area_mm2) == (10, pytest.approx(1.2), pytest.approx(0.2))
    assert defect.channels == ["dark", "bright"]
    assert [(one.name, one.channel, one.lossless) for one in panel.pictures] == [
        ("top_bright", "bright", True),
        ("top_dark", "dark", True),
    ]
    assert (panel.height_px, panel.width_px, panel.has_map, panel.kept_for) == (*SIZE, True, "reject")
    assert (panel.recipe.product, panel.calibration, panel.engine) == ("toy", "c", "e")
    assert (panel.ack_code, panel.ack_text) == (2, "The PLC rejected it by our result.")
    steps = {one.step: one.after_ms if one.took_ms is None else one.took_ms for one in panel.steps}
    assert steps == {"verdict": 70.0, "ack": 90.0, "wait": 1.0, "inspect": 3.0, "decide": 0.5}


def test_a_panel_without_pictures_says_why(station):
    station.store.note_dropped(token_of(3), "fault", "no room in the pool")
    panel = station.desk.panel(token_of(3))
    assert (panel.pictures, panel.lost, panel.has_map) == ([], "no room in the pool", False)
    assert panel.fault_text.startswith("A light is out or dim")
    with pytest.raises(NotFoundError, match="no room in the pool"):
        station.desk.thumb(token_of(3))
    with pytest.raises(NotFoundError, match="no panel"):
        station.desk.panel("f" * 32)


def decoded(sent: tuple[bytes, str]) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(sent[0], np.uint8), cv2.IMREAD_UNCHANGED))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_pictures_come_as_they_were_kept_or_for_looking_at(station, dtype):
    folder = keep(station.line, station.store, 2, dtype=dtype)
    kept = decoded(station.desk.picture(token_of(2), "top_dark"))
    assert kept.dtype == dtype and kept.shape == SIZE
    assert station.desk.picture(token_of(2), "top_dark")[0] == (folder / "top_dark.png").read_bytes()
    seen = station.desk.picture(token_of(2), "top_dark", "jpeg")
    assert seen[1] == "image/jpeg" and decoded(seen).dtype == np.uint8
    assert decoded(station.desk.thumb(token_of(2))).shape == (*SIZE, 3)  # with its box, in colour
    assert decoded(station.desk.heat(token_of(2))).shape == (12, 16, 4)


def test_outlines_lie_around_what_the_map_marks(station):
    keep(station.line, station.store, 2)
    [polygon] = station.desk.outlines(token_of(2))
    xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
    assert 6 <= min(xs) <= 10 and 14 <= max(xs) <= 18  # the map's cells 2 and 3 of 16 on 64 px
    assert 18 <= min(ys) <= 22 and 26 <= max(ys) <= 30


@pytest.mark.parametrize("name", ["../../store", "top_none", "", "/etc/passwd", "thumbs/top_dark"])
def test_a_name_that_is_no_picture_leads_nowhere(station, name):
    keep(station.line, station.store, 2)
    with pytest.raises(NotFoundError):
        station.desk.picture(token_of(2), name)


def test_pictures_outside_of_the_archive_or_on_another_stations_disk_are_not_there(station, tmp_path):
    folder = keep(station.line, station.store, 2)
    outside = tmp_path / "outside"
    shutil.copytree(folder, outside)
    station.store.put_picture(token_of(2), "reject", str(outside), thumbs=True)
    assert station.desk.panel(token_of(2)).pictures == []
    station.store.put_picture(token_of(2), "reject", str(folder), thumbs=True, station="back")
    assert station.desk.panel(token_of(2)).pictures == []


def test_a_damaged_picture_or_map_is_said_and_nothing_falls(station):
    folder = keep(station.line, station.store, 2)
    for name in ("top_dark.png", "map.npz"):
        (folder / name).write_bytes(b"x")
    with pytest.raises(NotFoundError, match="is no picture any more"):
        station.desk.picture(token_of(2), "top_dark", "jpeg")
    with pytest.raises(NotFoundError, match="is no anomaly map any more"):
        station.desk.heat(token_of(2))


def test_what_was_found_of_a_panel_is_asked_for_once_in_a_while_and_what_was_not_again_and_again():
    now, asked = [0.0], []

    def find(token: str) -> Kept:
        asked.append(token)
        if token == "late":
            raise NotFoundError("its pictures have not come yet")
        return Kept(Panel(token=token), Picture(token=token), Known("", "", {}))

    recent = Recent(find, lambda: now[0])
    for now[0] in (0.0, 29.0, 31.0):
        assert recent("a").panel.token == "a"
    assert asked == ["a", "a"]
    for _ in range(2):
        with pytest.raises(NotFoundError):
            recent("late")
    for number in range(300):
        recent(f"{number}")
    asked.clear()
    recent("299")
    recent("a")
    assert asked == ["a"]  # no more are held than people look at


def test_a_recipe_that_becomes_known_later_is_known_then(station):
    assert station.desk.panel(token_of(2)).recipe.product == "toy"
    station.store.add_panels([row(7, "REJECT", recipe="c" * 64)], {})
    assert station.desk.panel(token_of(7)).recipe.product == ""
    station.store.add_recipe("c" * 64, "third", manifest("third"))
    assert station.desk.panel(token_of(7)).recipe.product == "third"


# --- findings ---


def test_a_finding_says_from_what_to_what_in_the_audit_and_changes_no_panel(station):
    before = station.desk.panel(token_of(2))
    station.desk.decide(EVE, token_of(2), Wish(finding=Finding.DEFECTIVE, code="dust", comment="left edge"))
    station.desk.decide(EVE, token_of(2), GOOD)
    station.desk.undo(EVE, token_of(2))
    assert (station.desk.spoken(token_of(2)), station.desk.spoken(token_of(3))) == (2, -1)
    rows = station.desk.audit().rows
    assert [(one.who, one.what, one.before, one.after) for one in reversed(rows)] == [
        ("eve", "finding", "open", "defective dust"),
        ("eve", "finding", "defective dust", "good"),
        ("eve", "undo", "good", "defective dust"),
    ]
    assert rows[-1].reason == "left edge" and rows[-1].recipe == before.recipe.recipe
    after = station.desk.panel(token_of(2))
    assert [(one.n, one.undone) for one in after.votes] == [(0, False), (1, True)]
    unchanged = {"row": after.row, "votes": after.votes}
    assert before.model_copy(update=unchanged) == after


def test_two_persons_are_needed_where_the_line_file_says_so(tmp_path):
    station = Station(tmp_path, [row(2, "REJECT")], two_persons=["toy"])
    assert station.desk.decide(EVE, token_of(2), GOOD).state is State.HALF
    assert station.seqs(state=State.HALF) == [2]
    assert station.desk.decide(EVE, token_of(2), GOOD).state is State.HALF
    assert station.desk.decide(TOM, token_of(2), DUST).state is State.DISPUTED
    settled = station.desk.decide(ANN, token_of(2), GOOD)
    assert (settled.state, settled.finding) == (State.DONE, Finding.GOOD)
    station.close()


def test_who_may_not_is_refused_and_nothing_is_written(tmp_path):
    station = Station(tmp_path, [row(2, "REJECT"), row(3)], overrule_role="quality")
    with pytest.raises(RefusedError, match="needs the role quality"):
        station.desk.decide(EVE, token_of(2), GOOD)
    with pytest.raises(RefusedError, match="not in the plant's tree"):
        station.desk.decide(EVE, token_of(2), Wish(finding=Finding.DEFECTIVE, code="gremlin"))
    with pytest.raises(RefusedError, match="a good panel has no defect class"):
        station.desk.decide(QUALITY, token_of(2), Wish(finding=Finding.GOOD, code="dust"))
    with pytest.raises(NotFoundError):
        station.desk.decide(EVE, "f" * 32, DUST)
    assert station.desk.audit().rows == []
    station.desk.decide(EVE, token_of(3), GOOD)  # to confirm a pass overrules nobody
    station.close()


def test_another_ones_finding_is_undone_by_quality_alone(station):
    station.desk.decide(EVE, token_of(2), DUST)
    with pytest.raises(NotFoundError, match="no such finding"):
        station.desk.undo(TOM, token_of(2))
    with pytest.raises(RefusedError, match="undone by himself"):
        station.desk.undo(TOM, token_of(2), 0)
    assert station.desk.undo(QUALITY, token_of(2), 0).state is State.OPEN
    with pytest.raises(NotFoundError):
        station.desk.undo(QUALITY, token_of(2), 0)  # once


# --- the line ---


def test_the_live_page_shows_the_last_panels_and_how_long_the_disk_lasts(station):
    assert station.desk.live().disk.days_left is None
    keep(station.line, station.store, 2)
    live = station.desk.live()
    assert not live.running and [one.seq for one in live.last] == [5, 4, 3, 2, 1]  # of this station
    assert live.disk.days_left > 0 and live.disk.today_gb > 0


# --- the store ---


def test_a_store_that_is_not_there_is_said_and_found_once_it_is(tmp_path):
    line = config(tmp_path)
    desk = Desk(line)
    with pytest.raises(StoreError, match="is not there yet: start the line"):
        desk.pulse()
    filled(line, [row(1)]).close()
    assert desk.pulse().newest is not None
    desk.close()


def test_a_plants_tree_that_cannot_be_read_is_said_before_anything_is_served(tmp_path):
    with pytest.raises(ConfigError, match=r"codes\.toml: cannot be read"):
        Desk(config(tmp_path, review={"codes": "codes.toml"}))
