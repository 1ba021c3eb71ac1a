"""The review station as a process of the line; it waits for everybody else's share of the processor."""

import os

import cv2

from pipeline.bus import Bus
from pipeline.config import LineConfig
from pipeline.errors import StoreError
from pipeline.review.desk import Desk
from pipeline.review.live import Watch
from pipeline.review.serving import Served
from pipeline.stage import Life

TURN_MS = 100
NICE = 19  # the last in turn: people wait gladly for a line's p99


def main(config: LineConfig, part: str, life: Life, bus: Bus) -> None:
    """Serve until asked to stop; a store that is not there yet is waited for."""
    os.nice(NICE)
    cv2.setNumThreads(1)
    desk = Desk(config)
    desk.watch = Watch(config, bus)
    try:
        if not _until_there(desk, life, bus):
            return
        with Served(config, desk) as served:
            while not life.stopping:
                bus.poll(TURN_MS)
                desk.watch.turn()
                served.check()
                life.tell("ready", served.address)
    finally:
        desk.close()


def _until_there(desk: Desk, life: Life, bus: Bus) -> bool:
    """True once the store answers; the archiver makes it. Meanwhile the line runs."""
    while not life.stopping:
        try:
            desk.pulse()
            return True
        except StoreError as error:
            life.tell("waiting", str(error))
            bus.poll(TURN_MS)
    return False
