"""Archiver: evidence to the spool at once, compressed when there is time; the store filled by following the ledger."""

import json
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.anchors import anchor_of
from pipeline.bus import Bus, Received
from pipeline.config import LineConfig
from pipeline.disk import save_array, to_disk, try_room, write_channels
from pipeline.errors import StoreError
from pipeline.evidence import POOL, pool_shape
from pipeline.frames import Reader, digest_of
from pipeline.ledger import ledger_files
from pipeline.log import logger
from pipeline.messages import Evidence, Frames
from pipeline.metrics import Metrics, Reading
from pipeline.stage import Life
from pipeline.store import Store

LOG = logger("archiver")
TURN_MS = 20
FOLLOW_NS = 200_000_000
RETRY_NS = 3_000_000_000  # what cannot be kept is tried again after this
MAP = "map"
MOST_NOTES = 10_000  # of lost evidence, that wait for the store
GONE = "gone from the pool before it was copied"
NO_DISK = "the disk took no pictures"
ROW = ("token", "seq", "panel_id", "outcome", "fault", "acknowledged", "score", "limit", "latency_ms")
HASHES = ("recipe", "calibration", "engine")


def main(config: LineConfig, part: str, life: Life, bus: Bus) -> None:
    """Keep evidence and follow the ledger until asked to stop; what came before that is kept."""
    archiver = _opened(config, life, bus)
    if archiver is None:
        return
    try:
        while not life.stopping:
            bus.poll(0 if archiver.spooled else TURN_MS)
            archiver.turn(time.monotonic_ns())
            life.tell(*archiver.health(), archiver.counters())
        archiver.finish()
    finally:
        archiver.store.close()


def _opened(config: LineConfig, life: Life, bus: Bus) -> "Archiver | None":
    """The archiver once its store and folders can be opened; panels go on meanwhile. None: stopped before that."""
    while not life.stopping:
        try:
            archiver = Archiver(config, bus, Store(config.state), life.metrics)
            life.metrics.read(archiver.reading)
            return archiver
        except (StoreError, OSError) as error:
            life.tell("error", str(error))
            bus.poll(TURN_MS)
    return None


@dataclass
class Archiver:
    """What the archiver holds between two turns of its loop."""

    config: LineConfig
    bus: Bus
    store: Store
    metrics: Metrics = field(default_factory=Metrics)
    reader: Reader = field(default_factory=Reader)
    kept: int = 0
    lost: int = 0
    spooled: list[Path] = field(default_factory=list)
    alarms: dict[str, str] = field(default_factory=dict)  # what cannot be kept now, and why
    put_off: list[Path] = field(default_factory=list)  # could not be compressed or entered into the store
    notes: dict[str, tuple[str, str]] = field(default_factory=dict)  # token: reason, why it is lost; not in the store
    _followed_ns: int = 0
    _tried_ns: int = 0

    def __post_init__(self) -> None:
        self.spool, self.archive = self.config.state / "spool", self.config.state / "evidence"
        self.spool.mkdir(parents=True, exist_ok=True)
        self.archive.mkdir(parents=True, exist_ok=True)
        self.follower = Follower(self.config.ledger, self.store.marks())
        for part in self.spool.glob("*.part"):  # its pixels died with the process that was copying them
            shutil.rmtree(part)
        self.spooled = sorted(folder for folder in self.spool.iterdir() if folder.is_dir())
        self.channels = {camera.name: camera.channels for camera in self.config.cameras}
        self.port = self.bus.pull(self.config.socket("evidence"), "evidence")

    def turn(self, now_ns: int) -> None:
        """Evidence first; one set is compressed a turn, so that new evidence never waits long."""
        for received in self.port.drain():
            with self.metrics.timed("step_seconds", "spool"):
                self._keep(received)
        if now_ns - self._tried_ns > RETRY_NS:
            self._tried_ns = now_ns
            self._try_again()
        if now_ns - self._followed_ns > FOLLOW_NS and "store" not in self.alarms:
            self._followed_ns = now_ns
            with self.metrics.timed("step_seconds", "follow"):
                self.follow()
        if self.spooled:
            with self.metrics.timed("step_seconds", "compress"):
                self._compress(self.spooled.pop(0))

    def finish(self) -> None:
        """Everything that has arrived, to the disk and the store."""
        for received in self.port.drain():
            self._keep(received)
        while self.spooled:
            self._compress(self.spooled.pop(0))
        self.follow()

    def health(self) -> tuple[str, str]:
        """An alarm stops nothing here; the bridge holds the line only where the settings require evidence."""
        return ("error", "; ".join(self.alarms.values())) if self.alarms else ("ready", "")

    def counters(self) -> dict[str, int | float]:
        return {
            "kept": self.kept,
            "lost": self.lost,
            "spooled": len(self.spooled) + len(self.put_off),
            "rows": self.follower.rows,
            "anchors": self.follower.anchors,
            "messages_dropped": self.port.dropped.total(),
        }

    def reading(self) -> Reading:
        """What a scrape finds."""
        return {**self.counters(), "archive_alarm": bool(self.alarms)}

    def follow(self) -> None:
        """Bring the store up to the ledger's end; what it does not take now is read again later."""
        while True:
            place = self.follower.place()
            try:
                rows, marks = self.follower.read()
                if not marks:
                    break
                self._store_rows(rows, marks)
            except (StoreError, OSError) as error:
                self.follower.return_to(place)
                return self._alarm("store", str(error))
        return self._well("store")

    def _store_rows(self, rows: list[dict[str, Any]], marks: dict[str, int]) -> None:
        anchors = [anchor_of(row) for row in rows if row["step"] == "anchor"]
        if anchors:  # the store must never vouch for records that a power cut can still take away
            for name in marks:
                to_disk(self.config.ledger / name)
        self.store.add_panels([row_of(row) for row in rows if row["step"] == "outcome"], marks, anchors)

    def _alarm(self, what: str, why: str) -> None:
        if what not in self.alarms:
            LOG.error("cannot be kept now", extra={"what": what, "why": why})
        self.alarms[what] = why

    def _well(self, what: str) -> None:
        if self.alarms.pop(what, None):
            LOG.info("can be kept again", extra={"what": what})

    def _try_again(self) -> None:
        """Is there room for a panel's evidence, and does the store take rows again? Then what was put off follows."""
        slots, size = pool_shape(self.config)
        try:
            try_room(self.spool / ".room", size * slots // self.config.archive.slots)
        except OSError as error:
            return self._alarm("evidence", f"{self.spool}: {error.strerror}: free the disk; evidence is being lost")
        self._well("evidence")
        self.follow()
        if "store" not in self.alarms:
            self.spooled += self.put_off
            self.put_off = []
            self._enter_notes()
        return None

    def _keep(self, received: Received) -> None:
        """Copy a panel's pixels out of the pool into the spool."""
        evidence = received.message
        if not isinstance(evidence, Evidence):
            return None
        if not set(evidence.cameras) <= self.channels.keys():  # a camera's name becomes a file's
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
        if len(self.notes) < MOST_NOTES:
            self.notes[evidence.token] = (evidence.reason, why)
        if "store" not in self.alarms:
            self._enter_notes()

    def _enter_notes(self) -> None:
        try:
            for token, (reason, why) in list(self.notes.items()):
                self.store.note_dropped(token, reason, why)
                del self.notes[token]
        except StoreError as error:
            self._alarm("store", str(error))

    def _spool(self, evidence: Evidence, part: Path) -> None:
        part.mkdir(exist_ok=True)
        named = [
            *zip(evidence.cameras, evidence.frames, strict=False),
            *([(MAP, evidence.map)] if evidence.map else []),
        ]
        saved = [self._save(part / f"{name}.npy", frames) for name, frames in named]
        whole = all(saved) and len(evidence.cameras) == len(evidence.frames)
        about = evidence.model_dump(include={"token", "seq", "panel_id", "reason"})
        (part / "evidence.json").write_text(json.dumps(about))
        done = self.spool / evidence.token
        part.rename(done)
        self.kept, self.lost = self.kept + whole, self.lost + (not whole)
        self.spooled.append(done)
        if not whole:
            self._note(evidence, GONE)
        self._enter(evidence.token, evidence.reason, done, compressed=False)

    def _enter(self, token: str, reason: str, folder: Path, *, compressed: bool) -> bool:
        """Tell the store where a panel's pictures are; one that failed a moment ago is not asked."""
        if "store" in self.alarms:
            return False
        try:
            self.store.put_picture(token, reason, os.fspath(folder), compressed=compressed)
        except StoreError as error:
            self._alarm("store", str(error))
            return False
        return True

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

    def _compress(self, spooled: Path) -> None:
        """Lossless pictures, one per channel, and the map; then the spool's copy goes."""
        try:
            if not self._archive(spooled):
                self.put_off.append(spooled)
            self._well("pictures")
        except OSError as error:
            self._alarm("pictures", f"{error}: free the disk; evidence waits in the spool")
            self.put_off.append(spooled)
        except (ValueError, KeyError) as error:  # torn by a power cut: no try will mend it
            LOG.error("evidence in the spool is broken", extra={"folder": os.fspath(spooled), "why": str(error)})
            self.lost += 1

    def _archive(self, spooled: Path) -> bool:
        """False: the store does not know of the pictures yet, so the spool's copy stays."""
        about = json.loads((spooled / "evidence.json").read_text())
        part, done = self.archive / f"{spooled.name}.part", self.archive / spooled.name
        part.mkdir(exist_ok=True)
        for path in sorted(spooled.glob("*.npy")):
            if path.stem == MAP:
                np.savez_compressed(part / "map.npz", map=np.load(path).view(np.float16)[0])
            else:
                write_channels(part, path.stem, self.channels.get(path.stem, ()), np.load(path))
        (part / "evidence.json").write_text(json.dumps(about))
        if done.exists():  # the last process ended between the two
            shutil.rmtree(part)
        else:
            part.rename(done)
        if not self._enter(about["token"], about["reason"], done, compressed=True):
            return False
        gone = spooled.rename(spooled.with_name(f"{spooled.name}.part"))  # never half a folder under its own name
        shutil.rmtree(gone)
        return True


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """A ledger's outcome record as a row of the store."""
    row = {name: record.get(name) for name in (*ROW, *HASHES)}
    extra = {"station": record["station"], "closed_at": record["wall"]}
    return row | extra | {"defects": record.get("defects", []), "timing": record.get("timing")}


class Follower:
    """Reads the ledger's outcomes and anchors from where the store left off; a line still being written waits."""

    def __init__(self, folder: Path, marks: dict[str, int]) -> None:
        self._folder = folder
        self._offsets = {name: value for name, value in marks.items() if name.endswith(".jsonl")}
        self.rows = self.anchors = 0

    def place(self) -> tuple[dict[str, int], int, int]:
        return dict(self._offsets), self.rows, self.anchors

    def return_to(self, place: tuple[dict[str, int], int, int]) -> None:
        """Read again from there."""
        self._offsets, self.rows, self.anchors = dict(place[0]), *place[1:]

    def read(self, most_bytes: int = 4_000_000) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """New records of both kinds and the new offsets; no offsets when there is nothing new."""
        for file in ledger_files(self._folder):
            offset = self._offsets.get(file.name, 0)
            if file.stat().st_size > offset:
                with file.open("rb") as stream:
                    stream.seek(offset)
                    data = stream.read(most_bytes)
                whole = data[: data.rfind(b"\n") + 1]
                if whole:
                    self._offsets[file.name] = offset + len(whole)
                    rows = [record for line in whole.splitlines() if (record := _wanted(line))]
                    self.rows += sum(record["step"] == "outcome" for record in rows)
                    self.anchors += sum(record["step"] == "anchor" for record in rows)
                    return rows, {file.name: self._offsets[file.name]}
        return [], {}


def _wanted(line: bytes) -> dict[str, Any] | None:
    if b'"step":"outcome"' not in line and b'"step":"anchor"' not in line:
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None
