"""Pixels that were to be kept and are lost: the panel's row in the store says so."""

from contextlib import ExitStack

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from station_parts import pixels, rings, settings, until
from test_archiver import Place, closed, finding, image_set, received, token_of, trigger, turn_until
from test_archiver_alarms import Holder
from test_ledger import disk_of

from pipeline.archiver import RETRY_NS
from pipeline.ledger import Ledger
from pipeline.messages import Evidence
from pipeline.store import DroppedEvidence


@pytest.fixture
def place(tmp_path):
    config = settings(tmp_path)
    with rings(config), ExitStack() as stack:
        yield Place(config, stack)


@pytest.mark.parametrize("row_first", [True, False])
def test_dropped_pixels_are_noted_in_the_panels_row_whichever_comes_first(place, row_first):
    """Two panels find room in the pool; the note of the third waits until the archiver is there."""
    sender = place.sender()
    anomalies = np.ones((2, 2), np.float32)
    for number in (1, 2, 3):
        sender.send(trigger(number), "fault", [image_set(pixels(number, (2, 30, 40)))], finding(anomalies))
    archiver = place.archiver()
    with Ledger(place.config.ledger, "cell_1") as ledger:
        closed(ledger, 2)
        closed(ledger, 3)
    if row_first:
        archiver.shelver.follow()
    sender.tell()
    turn_until(archiver, kept=2)
    noted = select(DroppedEvidence.token)
    with Session(archiver.shelver.store.database.engine) as session:
        until(lambda: archiver.turn(0) or session.scalars(noted).all() or session.rollback())
    archiver.shelver.follow()
    rows = {panel.seq: panel.evidence_dropped for panel in archiver.shelver.store.panels()}
    assert rows == {2: None, 3: "no room in the pool"}
    assert (sender.dropped, archiver.lost) == (1, 0)  # counted once, where it was dropped


def test_pixels_that_were_gone_before_they_were_copied_are_noted_in_the_panels_row(place):
    sender, archiver = place.sender(), place.archiver()
    sender.send(trigger(1), "reject", [image_set(pixels(1, (2, 30, 40)))], None)
    [sent] = until(archiver.port.drain)
    place.pool.room(sent.message.frames[0].slot)[0] ^= 0xFF
    archiver._keep(sent)
    with Ledger(place.config.ledger, "cell_1") as ledger:
        closed(ledger, 1)
    archiver.shelver.finish()
    assert [panel.evidence_dropped for panel in archiver.shelver.store.panels()] == [
        "gone from the pool before it was copied"
    ]


def test_lost_pixels_that_a_locked_store_cannot_note_are_noted_later(place):
    archiver = place.archiver()
    with Ledger(place.config.ledger, "cell_1") as ledger:
        closed(ledger, 1)
    archiver.shelver.follow()
    holder = Holder(place)
    lost = Evidence(
        station="cell_1", token=token_of(1), seq=1, panel_id="p", reason="fault", cameras=(), frames=(), map=None
    )
    archiver._keep(received(lost.model_copy(update={"dropped": "no room in the pool"})))
    archiver.turn(0)
    assert "store" in archiver.shelver.alarms
    holder.let_go()
    archiver.turn(RETRY_NS + 1)
    assert [panel.evidence_dropped for panel in archiver.shelver.store.panels()] == ["no room in the pool"]
    assert archiver.shelver.notes == {}


def test_pixels_that_a_full_disk_did_not_take_are_noted_in_the_panels_row(place):
    sender, archiver = place.sender(), place.archiver()
    with Ledger(place.config.ledger, "cell_1") as ledger:
        closed(ledger, 1)
    archiver.shelver.follow()
    sender.send(trigger(1), "reject", [image_set(pixels(1, (2, 30, 40)))], None)
    with disk_of(1000):
        until(lambda: [archiver._keep(sent) for sent in archiver.port.drain()])
    archiver.turn(RETRY_NS + 1)
    assert [panel.evidence_dropped for panel in archiver.shelver.store.panels()] == ["the disk took no pictures"]
