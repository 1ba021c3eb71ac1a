"""Archiver: evidence to the spool at once; compressed, entered into the store and tidied up when there is time.

The spool is filled by the loop, the rest is done by a thread (`Shelver`): a store that is away or slow never keeps
evidence waiting in its pool, which is small.
"""

import json
import os
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bus import Bus, Received
from pipeline.config import LineConfig
from pipeline.disk import save_array, try_room
from pipeline.evidence import POOL, pool_shape
from pipeline.frames import Reader, digest_of
from pipeline.log import logger
from pipeline.messages import Evidence, Frames
from pipeline.metrics import Metrics, Reading
from pipeline.shelf import ABOUT, MAP
from pipeline.shelver import Shelver
from pipeline.stage import Life

LOG = logger("archiver")
TURN_MS = 20
NICE = 5  # of the thread that compresses: where cores are few, the next panel goes first
RETRY_NS = 3_000_000_000  # what cannot be kept is tried again after this
MOST_NOTES = 10_000  # of lost evidence, that wait for the store
STOP_S = 5.0
STUCK_S = 60.0  # more than any one turn of the shelver takes
GONE = "gone from the pool before it was copied"
NO_DISK = "the disk took no pictures"


def main(config: LineConfig, part: str, life: Life, bus: Bus) -> None:
    """Keep evidence and follow the ledger until asked to stop; what came before that is kept."""
    archiver = _opened(config, life, bus)
    if archiver is None:
        return
    thread = _Thread(archiver.shelver)
    try:
        while not life.stopping:
            bus.poll(TURN_MS)
            archiver.spool_turn(time.monotonic_ns())
            archiver.stuck = thread.check()
            life.tell(*archiver.health(), archiver.counters())
        thread.stop()
        archiver.finish()
    finally:
        archiver.shelver.close()


def _opened(config: LineConfig, life: Life, bus: Bus) -> "Archiver | None":
    """The archiver once its folders can be opened; panels go on meanwhile. None: stopped before that."""
    while not life.stopping:
        try:
            archiver = Archiver(config, bus, Shelver(config, life.metrics), life.metrics)
            life.metrics.read(archiver.reading)
            return archiver
        except OSError as error:
            life.tell("error", str(error))
            bus.poll(TURN_MS)
    return None


class _Thread:
    """Turns the shelver; what it raises ends the process as if it had come up in the loop."""

    def __init__(self, shelver: Shelver) -> None:
        self._shelver = shelver
        self._failed: Exception | None = None
        self._turned_s = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shelver", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + NICE)  # Linux: of this thread alone
        try:
            while not self._end.is_set():
                self._shelver.turn(time.monotonic_ns())
                self._turned_s = time.monotonic()
                self._end.wait(0 if self._shelver.spooled else TURN_MS / 1000)
        except Exception as error:
            self._failed = error

    def check(self) -> str:
        """What keeps it from going on; empty while nothing does."""
        if self._failed is not None:
            raise self._failed
        stuck = time.monotonic() - self._turned_s > STUCK_S
        return "the store or the archive's disk does not answer: see that it works; evidence waits" if stuck else ""

    def stop(self) -> None:
        self._end.set()
        self._thread.join(STOP_S)
        self.check()


@dataclass
class Archiver:
    """What the archiver's loop holds between two turns."""

    config: LineConfig
    bus: Bus
    shelver: Shelver
    metrics: Metrics = field(default_factory=Metrics)
    reader: Reader = field(default_factory=Reader)
    kept: int = 0
    lost: int = 0
    alarms: dict[str, str] = field(default_factory=dict)  # what cannot be spooled now, and why
    stuck: str = ""
    _tried_ns: int = 0

    def __post_init__(self) -> None:
        self.spool = self.shelver.spool
        self.port = self.bus.pull(self.config.socket("evidence"), "evidence")

    def turn(self, now_ns: int) -> None:
        """Both halves, one after the other."""
        self.spool_turn(now_ns)
        self.shelver.turn(now_ns)

    def spool_turn(self, now_ns: int) -> None:
        """All evidence that has come, out of the pool and onto the disk."""
        for received in self.port.drain():
            with self.metrics.timed("step_seconds", "spool"):
                self._keep(received)
        if now_ns - self._tried_ns > RETRY_NS:
            self._tried_ns = now_ns
            self._try_room()

    def finish(self) -> None:
        """Everything that has arrived, to the disk and the store."""
        for received in self.port.drain():
            self._keep(received)
        self.shelver.finish()

    def health(self) -> tuple[str, str]:
        """An alarm stops nothing here; the bridge holds the line only where the settings require evidence."""
        alarms = [*self.alarms.values(), *list(self.shelver.alarms.values()), *([self.stuck] if self.stuck else [])]
        return ("error", "; ".join(alarms)) if alarms else ("ready", "")

    def counters(self) -> dict[str, int | float]:
        return {
            "kept": self.kept,
            "lost": self.lost + self.shelver.lost,
            "messages_dropped": self.port.dropped.total(),
            **self.shelver.counters(),
        }

    def reading(self) -> Reading:
        """What a scrape finds."""
        return {**self.counters(), "archive_alarm": self.health()[0] == "error"}

    def _alarm(self, what: str, why: str) -> None:
        if what not in self.alarms:
            LOG.error("cannot be kept now", extra={"what": what, "why": why})
        self.alarms[what] = why

    def _try_room(self) -> None:
        """Is there room for a panel's evidence?"""
        slots, size = pool_shape(self.config)
        try:
            try_room(self.spool / ".room", size * slots // self.config.archive.slots)
        except OSError as error:
            return self._alarm("evidence", f"{self.spool}: {error.strerror}: free the disk; evidence is being lost")
        if self.alarms.pop("evidence", None):
            LOG.info("can be kept again", extra={"what": "evidence"})
        return None

    def _keep(self, received: Received) -> None:
        """Copy a panel's pixels out of the pool into the spool."""
        evidence = received.message
        if not isinstance(evidence, Evidence):
            return None
        if not set(evidence.cameras) <= self.shelver.channels.keys():  # a camera's name becomes a file's
            self.lost += 1
            return self.port.refuse(received, "evidence of a camera that is not in the line file")
        if evidence.dropped:
            return self._note(evidence, evidence.dropped)
        part = self.spool / f"{evidence.token}.part"
        try:
            self._spool(evidence, part)
        except OSError as error:
            self._alarm("evidence", f"{error}: free the disk; evidence is being lost")
            shutil.rmtree(part, ignore_errors=True)
            self.lost += 1
            self._note(evidence, NO_DISK)
        return None

    def _note(self, evidence: Evidence, why: str) -> None:
        """Pixels are lost: the panel's row in the store is to say so, now or once the store takes it."""
        if len(self.shelver.notes) < MOST_NOTES:
            self.shelver.notes[evidence.token] = (evidence.reason, why)

    def _spool(self, evidence: Evidence, part: Path) -> None:
        part.mkdir(exist_ok=True)
        named = [
            *zip(evidence.cameras, evidence.frames, strict=False),
            *([(MAP, evidence.map)] if evidence.map else []),
        ]
        saved = [self._save(part / f"{name}.npy", frames) for name, frames in named]
        whole = all(saved) and len(evidence.cameras) == len(evidence.frames)
        about = evidence.model_dump(include={"token", "seq", "panel_id", "reason"})
        (part / ABOUT).write_text(json.dumps(about))
        done = self.spool / evidence.token
        part.rename(done)
        self.kept, self.lost = self.kept + whole, self.lost + (not whole)
        if not whole:
            self._note(evidence, GONE)
        self.shelver.spooled.append(done)

    def _save(self, path: Path, frames: Frames) -> bool:
        held = self.reader.hold(frames, ())
        if held is None:
            LOG.error("evidence gone", extra={"file": path.name, "pool": POOL})
            return False
        save_array(path, held.pixels)
        intact = digest_of(held.pixels.data.cast("B")) == frames.digest and held.intact()
        held.release()
        if not intact:  # another panel's pixels, or some of both
            path.unlink()
        return intact
