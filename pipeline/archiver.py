"""Archiver: evidence to the spool at once, compressed when there is time; the store filled by following the ledger."""

import json
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.bus import Bus, Received
from pipeline.config import LineConfig
from pipeline.evidence import POOL
from pipeline.frames import Reader, digest_of
from pipeline.ledger import ledger_files
from pipeline.log import logger
from pipeline.messages import Evidence, Frames
from pipeline.stage import Life
from pipeline.store import Store

LOG = logger("archiver")
TURN_MS = 20
FOLLOW_NS = 200_000_000
MAP = "map"
ROW = ("token", "seq", "panel_id", "outcome", "fault", "acknowledged", "score", "limit", "latency_ms")
HASHES = ("recipe", "calibration", "engine")


def main(config: LineConfig, part: str, life: Life, bus: Bus) -> None:
    """Keep evidence and follow the ledger until asked to stop; what came before that is kept."""
    store = Store(config.state)
    archiver = Archiver(config, bus, store)
    try:
        while not life.stopping:
            bus.poll(0 if archiver.spooled else TURN_MS)
            archiver.turn(time.monotonic_ns())
            life.tell("ready", counters=archiver.counters())
        archiver.finish()
    finally:
        store.close()


@dataclass
class Archiver:
    """What the archiver holds between two turns of its loop."""

    config: LineConfig
    bus: Bus
    store: Store
    reader: Reader = field(default_factory=Reader)
    kept: int = 0
    lost: int = 0
    spooled: list[Path] = field(default_factory=list)
    _followed_ns: int = 0

    def __post_init__(self) -> None:
        self.port = self.bus.pull(self.config.socket("evidence"), "evidence")
        self.spool, self.archive = self.config.state / "spool", self.config.state / "evidence"
        self.spool.mkdir(parents=True, exist_ok=True)
        self.archive.mkdir(parents=True, exist_ok=True)
        self.follower = Follower(self.config.ledger, self.store.marks())
        for part in self.spool.glob("*.part"):  # its pixels died with the process that was copying them
            shutil.rmtree(part)
        self.spooled = sorted(self.spool.iterdir())
        self.channels = {camera.name: camera.channels for camera in self.config.cameras}

    def turn(self, now_ns: int) -> None:
        """Evidence first; one set is compressed a turn, so that new evidence never waits long."""
        for received in self.port.drain():
            self._keep(received)
        if now_ns - self._followed_ns > FOLLOW_NS:
            self._followed_ns = now_ns
            self.follow()
        if self.spooled:
            self._compress(self.spooled.pop(0))

    def finish(self) -> None:
        """Everything that has arrived, to the disk and the store."""
        for received in self.port.drain():
            self._keep(received)
        while self.spooled:
            self._compress(self.spooled.pop(0))
        self.follow()

    def counters(self) -> dict[str, int | float]:
        return {"kept": self.kept, "lost": self.lost, "spooled": len(self.spooled), "rows": self.follower.rows}

    def follow(self) -> None:
        """Bring the store up to the ledger's end."""
        while True:
            rows, marks = self.follower.read()
            if not marks:
                return
            self.store.add_panels([row_of(record) for record in rows], marks)

    def _keep(self, received: Received) -> None:
        """Copy a panel's pixels out of the pool into the spool."""
        evidence = received.message
        if not isinstance(evidence, Evidence):
            return
        part = self.spool / f"{evidence.token}.part"
        try:
            self._spool(evidence, part)
        except OSError as error:
            LOG.error("evidence lost", extra={"token": evidence.token, "why": str(error)})
            shutil.rmtree(part, ignore_errors=True)
            self.lost += 1

    def _spool(self, evidence: Evidence, part: Path) -> None:
        part.mkdir(exist_ok=True)
        named = [
            *zip(evidence.cameras, evidence.frames, strict=False),
            *([(MAP, evidence.map)] if evidence.map else []),
        ]
        saved = [self._save(part / f"{name}.npy", frames) for name, frames in named]
        whole = all(saved) and len(evidence.cameras) == len(evidence.frames)
        (part / "evidence.json").write_text(json.dumps({"token": evidence.token, "reason": evidence.reason}))
        done = self.spool / evidence.token
        part.rename(done)
        self.kept, self.lost = self.kept + whole, self.lost + (not whole)
        self.spooled.append(done)
        self.store.put_picture(evidence.token, evidence.reason, os.fspath(done), compressed=False)

    def _save(self, path: Path, frames: Frames) -> bool:
        held = self.reader.hold(frames, ())
        if held is None:
            LOG.error("evidence gone", extra={"file": path.name, "pool": POOL})
            return False
        np.save(path, held.pixels)
        intact = digest_of(held.pixels.data.cast("B")) == frames.digest and held.intact()
        held.release()
        if not intact:  # another panel's pixels, or some of both
            path.unlink()
        return intact

    def _compress(self, spooled: Path) -> None:
        """Lossless pictures, one per channel, and the map; then the spool's copy goes."""
        try:
            self._archive(spooled)
        except OSError as error:
            LOG.error(
                "evidence stays in the spool until the next start", extra={"token": spooled.name, "why": str(error)}
            )

    def _archive(self, spooled: Path) -> None:
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
        self.store.put_picture(about["token"], about["reason"], os.fspath(done), compressed=True)
        gone = spooled.rename(spooled.with_name(f"{spooled.name}.part"))  # never half a folder under its own name
        shutil.rmtree(gone)


def write_channels(folder: Path, camera: str, names: tuple[str, ...], pixels: NDArray) -> None:
    """pixels [C, H, W] as `<camera>_<channel>.png`, bit for bit.

    Raises:
        OSError: a picture cannot be written.
    """
    for index, frame in enumerate(pixels):
        name = names[index] if index < len(names) else str(index)
        path = folder / f"{camera}_{name}.png"
        if not cv2.imwrite(os.fspath(path), frame, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            raise OSError(f"{path} cannot be written: is the disk full?")


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """A ledger's outcome record as a row of the store."""
    row = {name: record.get(name) for name in (*ROW, *HASHES)}
    extra = {"station": record["station"], "closed_at": record["wall"]}
    return row | extra | {"defects": record.get("defects", []), "timing": record.get("timing")}


class Follower:
    """Reads the ledger's outcomes from where the store left off; a line still being written waits."""

    def __init__(self, folder: Path, marks: dict[str, int]) -> None:
        self._folder = folder
        self._offsets = {name: value for name, value in marks.items() if name.endswith(".jsonl")}
        self.rows = 0

    def read(self, most_bytes: int = 4_000_000) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """New outcome records and the new offsets; no offsets when there is nothing new."""
        for file in ledger_files(self._folder):
            offset = self._offsets.get(file.name, 0)
            if file.stat().st_size > offset:
                with file.open("rb") as stream:
                    stream.seek(offset)
                    data = stream.read(most_bytes)
                whole = data[: data.rfind(b"\n") + 1]
                if whole:
                    self._offsets[file.name] = offset + len(whole)
                    rows = [record for line in whole.splitlines() if (record := _outcome(line))]
                    self.rows += len(rows)
                    return rows, {file.name: self._offsets[file.name]}
        return [], {}


def _outcome(line: bytes) -> dict[str, Any] | None:
    if b'"step":"outcome"' not in line:
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None
