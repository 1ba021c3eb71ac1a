"""Evidence from the inspector to lossless pictures, and the store that follows the ledger; with real sockets."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import cv2
import numpy as np
import pytest
from station_parts import CHANNELS, pixels, rings, settings, until

from engines.decide import Finding
from engines.decide import LowMask as FoundMask
from pipeline.archiver import Archiver
from pipeline.bus import Bus, Port, Received
from pipeline.config import LineConfig
from pipeline.disk import write_channels
from pipeline.evidence import POOL, EvidenceSender
from pipeline.follower import Follower
from pipeline.frames import Held, Ring, digest_of
from pipeline.ledger import Ledger, ledger_files
from pipeline.messages import Evidence, Frames, ImageSet, Trigger
from pipeline.shelver import Shelver


def token_of(number: int) -> str:
    return f"{number:032x}"


def trigger(number: int) -> Trigger:
    return Trigger(
        station="cell_1",
        token=token_of(number),
        seq=number,
        panel_id="p",
        recipe_no=1,
        recipe="r",
        inspector="inspector",
        cameras=("top",),
        edge_ns=0,
        window_ms=1000,
    )


def image_set(array: np.ndarray) -> tuple[ImageSet, Held]:
    frames = Frames(shape=array.shape, dtype=str(array.dtype), digest=digest_of(array.data.cast("B")))
    sent = ImageSet(station="cell_1", token=token_of(0), camera="top", frames=frames, exposed_ns=0, ready_ns=0)
    return sent, Held(array, lambda: True, lambda: None)


def finding(anomaly_map: np.ndarray) -> Finding:
    low = FoundMask(1, 1, b"\x00")
    return Finding(False, 1.0, 0.5, None, (), np.zeros((1, 1), bool), low, anomaly_map)


class Place:
    """An inspector's evidence end and an archiver, one after the other as processes come and go."""

    def __init__(self, config: LineConfig, stack: ExitStack) -> None:
        self.config, self.stack = config, stack
        self.pool = Ring(config.ring(POOL))

    def sender(self) -> EvidenceSender:
        return EvidenceSender(self.config, self.stack.enter_context(Bus("inspector")), "inspector")

    def archiver(self) -> Archiver:
        """A new archiver process, as far as files and sockets go."""
        bus = self.stack.enter_context(Bus("archiver"))
        shelver = Shelver(self.config)
        self.stack.callback(shelver.close)
        return Archiver(self.config, bus, shelver)

    def pictures(self, number: int) -> dict[str, Any]:
        folder = self.config.state / "evidence" / token_of(number)
        return {path.stem: cv2.imread(os.fspath(path), cv2.IMREAD_UNCHANGED) for path in folder.glob("*.png")}


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    config = settings(tmp_path)
    with rings(config), ExitStack() as stack:
        yield Place(config, stack)


def turn_until(archiver: Archiver, kept: int, lost: int = 0) -> None:
    until(lambda: archiver.turn(0) or (archiver.kept, archiver.lost, archiver.shelver.spooled) == (kept, lost, []))


# --- evidence ---


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_pictures_are_kept_bit_for_bit(place, dtype):
    sender, archiver = place.sender(), place.archiver()
    array = pixels(1, (2, 30, 40), dtype)
    anomalies = np.random.default_rng(1).random((4, 5)).astype(np.float32)
    sender.send(trigger(1), "reject", [image_set(array)], finding(anomalies))
    turn_until(archiver, kept=1)
    found = place.pictures(1)
    assert found.keys() == {f"top_{channel}" for channel in CHANNELS}
    for index, channel in enumerate(CHANNELS):
        assert found[f"top_{channel}"].dtype == dtype
        np.testing.assert_array_equal(found[f"top_{channel}"], array[index])
    folder = place.config.state / "evidence" / token_of(1)
    np.testing.assert_array_equal(np.load(folder / "map.npz")["map"], anomalies.astype(np.float16))
    about = {"token": token_of(1), "seq": trigger(1).seq, "panel_id": trigger(1).panel_id, "reason": "reject"}
    assert about.items() <= json.loads((folder / "evidence.json").read_text()).items()
    picture = archiver.shelver.store.pictures()[token_of(1)]
    assert (picture.reason, picture.folder, picture.compressed) == ("reject", str(folder), True)
    assert list((place.config.state / "spool").iterdir()) == []
    assert place.pool.free() == place.pool.slots and sender.dropped == 0


def test_nothing_is_sent_without_a_reason(place):
    sender = place.sender()
    sender.send(trigger(1), None, [image_set(pixels(1, (2, 30, 40)))], None)
    assert place.pool.free() == place.pool.slots and sender.dropped == 0


def test_a_full_pool_drops_and_counts_and_takes_the_next_once_there_is_room(place):
    """Two panels of a set and a map each; nobody takes them yet."""
    sender = place.sender()
    anomalies = np.ones((2, 2), np.float32)
    for number in range(5):
        sender.send(trigger(number), "reject", [image_set(pixels(number, (2, 30, 40)))], finding(anomalies))
    assert sender.dropped == 3
    assert place.pool.free() == 0
    archiver = place.archiver()
    turn_until(archiver, kept=2)
    for number in (0, 1):  # what was kept is what it says
        np.testing.assert_array_equal(place.pictures(number)["top_bright"], pixels(number, (2, 30, 40))[0])
    sender.send(trigger(9), "reject", [image_set(pixels(9, (2, 30, 40)))], finding(anomalies))
    turn_until(archiver, kept=3)
    assert sender.dropped == 3


def test_half_a_panel_that_finds_no_room_gives_its_slots_back(place):
    sender = place.sender()
    too_large = pixels(1, (2, 200, 200))
    sender.send(trigger(1), "fault", [image_set(pixels(1, (2, 30, 40))), image_set(too_large)], None)
    assert sender.dropped == 1 and place.pool.free() == place.pool.slots


def test_a_restart_between_spool_and_compression_loses_nothing(place):
    sender, first = place.sender(), place.archiver()
    for number in (1, 2):
        sender.send(trigger(number), "sample", [image_set(pixels(number, (2, 30, 40)))], None)

    def keep_without_compressing() -> bool:
        for sent in first.port.drain():
            first._keep(sent)
        return first.kept == 2

    until(keep_without_compressing)
    assert len(list((place.config.state / "spool").iterdir())) == 2
    half = place.config.state / "spool" / f"{token_of(3)}.part"  # it died while it copied this one
    half.mkdir()
    (half / "top.npy").write_bytes(b"x")
    begun = place.config.state / "evidence" / f"{token_of(1)}.part"  # and while it compressed this one
    begun.mkdir()
    (begun / "top_bright.png").write_bytes(b"half")
    second = place.archiver()
    second.finish()
    for number in (1, 2):
        np.testing.assert_array_equal(place.pictures(number)["top_dark"], pixels(number, (2, 30, 40))[1])
    assert not half.exists() and not begun.exists() and second.shelver.spooled == []
    assert {picture.compressed for picture in second.shelver.store.pictures().values()} == {True}


@pytest.mark.parametrize("left", ["everything", "nothing of use"])
def test_a_crash_after_the_pictures_were_written_is_tidied_up(place, left):
    sender, first = place.sender(), place.archiver()
    sender.send(trigger(1), "sample", [image_set(pixels(1, (2, 30, 40)))], None)
    turn_until(first, kept=1)
    spool = place.config.state / "spool"
    again = spool / (token_of(1) if left == "everything" else f"{token_of(1)}.part")
    again.mkdir()
    if left == "everything":
        np.save(again / "top.npy", pixels(1, (2, 30, 40)))
        (again / "evidence.json").write_text(json.dumps({"token": token_of(1), "reason": "sample"}))
    second = place.archiver()
    second.finish()
    assert list(spool.iterdir()) == []
    np.testing.assert_array_equal(place.pictures(1)["top_bright"], pixels(1, (2, 30, 40))[0])


def received(evidence: Evidence) -> Received:
    return Received("evidence", "inspector", 0, evidence)


def test_evidence_whose_slot_is_gone_is_counted_and_shows_no_other_panels_pixels(place):
    sender, archiver = place.sender(), place.archiver()
    sender.send(trigger(1), "reject", [image_set(pixels(1, (2, 30, 40)))], None)
    [sent] = until(archiver.port.drain)
    frames = sent.message.frames[0]
    place.pool.room(frames.slot)[0] ^= 0xFF  # another panel's pixels
    archiver._keep(sent)
    archiver._keep(received(sent.message.model_copy(update={"token": token_of(2)})))  # its slot was given back
    archiver.finish()
    assert (archiver.kept, archiver.lost) == (0, 2)
    assert place.pictures(1) == place.pictures(2) == {}


def test_evidence_that_contradicts_itself_or_the_disk_is_lost_and_the_archiver_lives(place):
    archiver = place.archiver()
    named = {"token": token_of(1), "seq": 1, "panel_id": "P1", "reason": "fault"}
    good = Evidence(station="s", **named, cameras=(), frames=(), map=None)
    archiver._keep(received(good.model_copy(update={"cameras": ("top",)})))
    blocked = place.config.state / "spool" / f"{token_of(2)}.part"
    blocked.write_text("in the way")
    archiver._keep(received(good.model_copy(update={"token": token_of(2)})))
    assert (archiver.kept, archiver.lost) == (0, 2)
    archiver._keep(received(good.model_copy(update={"token": token_of(3)})))
    assert archiver.kept == 1


def test_pictures_that_cannot_be_written_leave_the_spool_as_it_is(place, tmp_path):
    with pytest.raises(OSError, match="cannot be written"):
        write_channels(tmp_path / "none", "top", CHANNELS, pixels(1, (2, 30, 40)))
    archiver = place.archiver()
    spooled = place.config.state / "spool" / token_of(1)
    spooled.mkdir()
    np.save(spooled / "top.npy", pixels(1, (2, 30, 40)))
    (spooled / "evidence.json").write_text(json.dumps({"token": token_of(1), "reason": "fault"}))
    (place.config.state / "evidence" / f"{token_of(1)}.part").write_text("in the way")
    archiver.shelver.spooled.append(spooled)
    archiver.finish()
    assert (spooled / "top.npy").exists()
    (place.config.state / "evidence" / f"{token_of(1)}.part").unlink()
    place.archiver().finish()
    assert place.pictures(1).keys() == {"top_bright", "top_dark"}


# --- following the ledger ---


def closed(ledger: Ledger, seq: int) -> None:
    ledger.record("trigger", token=token_of(seq), seq=seq, panel_id=f"p{seq}", recipe_no=1)
    ledger.record(
        "outcome",
        token=token_of(seq),
        seq=seq,
        panel_id=f"p{seq}",
        outcome="REJECT",
        fault="LATE",
        acknowledged=True,
        score=float("nan"),
        limit=0.5,
        latency_ms=12.5,
        recipe="r",
        calibration="c",
        engine="e",
        defects=[{"x": 1}],
        timing={"joined_ns": 1},
    )


def test_the_store_shows_what_the_ledger_says(place):
    archiver = place.archiver()
    with Ledger(place.config.ledger, "cell_1") as ledger:
        for seq in (1, 2, 3):
            closed(ledger, seq)
        archiver.shelver.follow()
    [row, *others] = archiver.shelver.store.panels()
    assert (row.token, row.seq, row.station, row.outcome, row.fault) == (token_of(1), 1, "cell_1", "REJECT", "LATE")
    assert (row.score, row.limit, row.latency_ms, row.acknowledged) == (None, 0.5, 12.5, True)
    assert (row.defects, row.timing) == ([{"x": 1}], {"joined_ns": 1})
    assert [other.seq for other in others] == [2, 3]


def test_it_goes_on_from_where_the_last_archiver_was(place):
    with Ledger(place.config.ledger, "cell_1") as ledger:
        closed(ledger, 1)
        first = place.archiver()
        first.shelver.follow()
        closed(ledger, 2)
    second = place.archiver()
    second.shelver.follow()
    assert (first.shelver.follower.rows, second.shelver.follower.rows) == (1, 1)
    assert [row.seq for row in second.shelver.store.panels()] == [1, 2]
    second.shelver.follow()
    assert second.shelver.follower.rows == 1


def test_a_half_written_line_is_seen_once_it_is_whole(place):
    archiver = place.archiver()
    with Ledger(place.config.ledger, "cell_1") as ledger:
        closed(ledger, 1)
    [file] = ledger_files(place.config.ledger)
    whole = file.read_bytes()
    for end in (len(whole) - 1, len(whole) - 100):
        file.write_bytes(whole[:end])
        archiver.shelver.follow()
        assert archiver.shelver.store.panels() == []
    file.write_bytes(whole)
    archiver.shelver.follow()
    assert [row.seq for row in archiver.shelver.store.panels()] == [1]


def test_seeing_a_line_twice_changes_nothing(place):
    """The marks and the rows are one transaction; a store that was put back reads its lines again."""
    archiver = place.archiver()
    with Ledger(place.config.ledger, "cell_1") as ledger:
        closed(ledger, 1)
    archiver.shelver.follow()
    archiver.shelver.follower = Follower(place.config.ledger, {})
    archiver.shelver.follow()
    assert len(archiver.shelver.store.panels()) == 1


@pytest.mark.parametrize("most_bytes", [1500, 4_000_000])
def test_a_follower_reads_every_file_in_order_whatever_its_bite(tmp_path, most_bytes):
    for day in ("2026-03-01", "2026-03-02"):
        lines = [
            json.dumps({"step": "outcome", "day": day, "k": k, "pad": "x" * 300}, separators=(",", ":"))
            for k in range(20)
        ]
        noise = json.dumps({"step": "trigger"}, separators=(",", ":"))
        (tmp_path / f"{day}.jsonl").write_text("".join(f"{line}\n{noise}\n" for line in lines))
    follower, seen = Follower(tmp_path, {}), []
    while (step := follower.read(most_bytes))[1]:
        seen += [(row["day"], row["k"]) for row in step[0]]
    assert seen == [(day, k) for day in ("2026-03-01", "2026-03-02") for k in range(20)]


def test_a_line_that_is_no_json_is_passed_over(tmp_path):
    (tmp_path / "2026-03-01.jsonl").write_text('{"step":"outcome" torn\n{"step":"outcome","seq":1}\n')
    assert Follower(tmp_path, {}).read()[0] == [{"step": "outcome", "seq": 1}]


def test_a_socket_is_all_that_the_archiver_shares_with_the_inspector(place):
    """Garbage on it is dropped; the next evidence is kept."""
    archiver = place.archiver()
    port: Port = archiver.port
    stranger = place.stack.enter_context(Bus("stranger")).push(place.config.socket("evidence"), "evidence")
    assert stranger.socket.poll(5000, 2)
    stranger.socket.send(b"\xc1")
    until(lambda: archiver.turn(0) or port.dropped.total() == 1)
    place.sender().send(trigger(1), "fault", [image_set(pixels(1, (2, 30, 40)))], None)
    turn_until(archiver, kept=1)
