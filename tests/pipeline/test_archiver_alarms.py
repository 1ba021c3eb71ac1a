"""An archiver that cannot keep what it should: it says so, loses nothing that it need not, and goes on by itself."""

import json
import sqlite3
from contextlib import ExitStack

import numpy as np
import pytest
from station_parts import pixels, rings, settings
from test_archiver import Place, closed, image_set, received, token_of, trigger, turn_until
from test_ledger import disk_of

from pipeline.archiver import RETRY_NS
from pipeline.bus import Bus
from pipeline.errors import StoreError
from pipeline.frames import Reader
from pipeline.ledger import Ledger
from pipeline.messages import Evidence, Frames
from pipeline.store import Store
from pipeline.store.connecting import BUSY_MS

READY = ("ready", "")


@pytest.fixture
def place(tmp_path):
    config = settings(tmp_path)
    with rings(config), ExitStack() as stack:
        yield Place(config, stack)


class Holder:
    """Another program that holds the store for writing."""

    def __init__(self, place: Place) -> None:
        self.connection = sqlite3.connect(place.config.state / "store.sqlite", isolation_level=None)
        self.connection.execute("BEGIN IMMEDIATE")

    def let_go(self) -> None:
        self.connection.execute("ROLLBACK")
        self.connection.close()


def test_rows_that_a_locked_store_does_not_take_are_read_again(place):
    archiver = place.archiver()
    with Ledger(place.config.ledger, "cell_1") as ledger:
        closed(ledger, 1)
    holder = Holder(place)
    archiver.shelver.follow()
    state, said = archiver.health()
    assert state == "error" and "database is locked: free the disk, or close the program that holds it" in said
    assert archiver.shelver.follower.rows == 0
    holder.let_go()
    archiver.turn(RETRY_NS + 1)
    assert archiver.health() == READY
    assert [row.seq for row in archiver.shelver.store.panels()] == [1] and archiver.shelver.follower.rows == 1


def test_pictures_that_a_locked_store_cannot_list_are_listed_later(place):
    sender, archiver = place.sender(), place.archiver()
    holder = Holder(place)
    sender.send(trigger(1), "reject", [image_set(pixels(1, (2, 30, 40)))], None)
    turn_until(archiver, kept=1)
    assert archiver.shelver.store.pictures() == {} and archiver.counters()["spooled"] == 1
    assert place.pictures(1)  # they are there all the same
    holder.let_go()
    archiver.turn(RETRY_NS + 1)
    assert archiver.shelver.store.pictures()[token_of(1)].compressed
    assert archiver.health() == READY and list((place.config.state / "spool").iterdir()) == []


def test_a_full_disk_is_noticed_before_evidence_is_lost_and_over_once_there_is_room(place):
    archiver = place.archiver()
    with disk_of(1000):
        archiver.turn(RETRY_NS + 1)
        state, said = archiver.health()
    assert state == "error" and "spool: File too large: free the disk; evidence is being lost" in said
    assert archiver.lost == 0
    archiver.turn(3 * RETRY_NS)
    assert archiver.health() == READY and list((place.config.state / "spool").iterdir()) == []


def test_a_panel_that_finds_no_room_is_counted_and_leaves_nothing_half(place):
    sender, archiver = place.sender(), place.archiver()
    sender.send(trigger(1), "reject", [image_set(pixels(1, (2, 30, 40)))], None)
    with disk_of(1000):
        turn_until(archiver, kept=0, lost=1)
    assert archiver.health()[0] == "error" and list((place.config.state / "spool").iterdir()) == []


def test_a_spool_that_was_torn_by_a_power_cut_stops_nothing(place):
    spool = place.config.state / "spool"
    for number, content in ((1, ""), (2, "{}")):
        (spool / token_of(number)).mkdir(parents=True)
        (spool / token_of(number) / "evidence.json").write_text(content)
    (spool / token_of(3)).mkdir()
    (spool / token_of(3) / "evidence.json").write_text(json.dumps({"token": token_of(3), "reason": "fault"}))
    (spool / token_of(3) / "top.npy").write_bytes(b"x" * 20)
    archiver = place.archiver()
    archiver.finish()
    assert archiver.shelver.lost == 3


@pytest.mark.parametrize("camera", ["../../x", "side", "/x"])
def test_evidence_of_no_camera_of_ours_is_dropped_and_written_nowhere(place, camera):
    archiver = place.archiver()
    before = sorted(place.config.state.rglob("*"))
    frames = Frames(shape=(2, 3, 4), dtype="uint8", digest="0" * 32, ring="x", slot=0, generation=1)
    named = {"token": token_of(1), "seq": 1, "panel_id": "P1", "reason": "fault"}
    evidence = Evidence(station="s", **named, cameras=(camera,), frames=(frames,), map=None)
    archiver._keep(received(evidence))
    assert (archiver.kept, archiver.lost, archiver.port.dropped.total()) == (0, 1, 1)
    assert sorted(place.config.state.rglob("*")) == before


def test_a_store_that_is_locked_at_the_start_is_one_line(place):
    place.archiver()
    holder = Holder(place)
    holder.connection.execute("CREATE TABLE other (x)")  # the schema itself is held
    with pytest.raises(StoreError) as error:
        Store(place.config.state).put_picture("0" * 32, "fault", "x", compressed=False)
    assert "\n" not in str(error.value) and error.value.exit_status == 3
    assert BUSY_MS < 5000  # less than the supervisor waits for a sign of life
    holder.let_go()


@pytest.mark.parametrize("ring", ["", ".", "..", "../etc/passwd", "x" * 300, "a\x00b", "no-such-ring"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (24,), (1,) * 70 + (24,), (0, 3, 4), (1 << 62, 1 << 62, 4)])
def test_frames_in_no_ring_of_ours_are_nobodys(ring, shape):
    frames = Frames(shape=shape, dtype="uint8", digest="0" * 32, ring=ring, slot=1 << 63, generation=(1 << 64) - 1)
    assert Reader().hold(frames, ()) is None
    assert Reader().hold(frames.model_copy(update={"ring": None}), (memoryview(bytes(5)),)) is None


def test_a_file_that_is_no_ring_is_nobodys(place):
    from pipeline.frames import SHARED

    for content in (b"", b"x" * 10, np.zeros(100, "<u8").tobytes()):
        path = SHARED / f"{place.config.ring('none')}"
        path.write_bytes(content)
        frames = Frames(shape=(2, 3, 4), dtype="uint8", digest="0" * 32, ring=path.name, slot=0, generation=0)
        assert Reader().hold(frames, ()) is None
        path.unlink()


def test_a_ring_that_no_message_should_name_gives_nothing(place):
    with Bus("x"):
        frames = Frames(
            shape=(2, 30, 40), dtype="uint8", digest="0" * 32, ring=place.config.ring("top"), slot=99, generation=0
        )
        assert Reader().hold(frames, ()) is None
