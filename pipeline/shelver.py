"""Brings what was spooled into the archive and the store, follows the ledger, and tidies up; in its own time.

Nothing here is lost while the store is away: spooled panels, ledger and notes wait on disk or in memory, and are tried
again.
"""

import os
import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import audit, shelf, tidying
from pipeline.anchors import anchor_of
from pipeline.config import LineConfig
from pipeline.disk import to_disk
from pipeline.errors import StoreError, TaktError
from pipeline.follower import Follower, row_of
from pipeline.keys import machine_key
from pipeline.known_recipes import recipes_at
from pipeline.log import logger
from pipeline.metrics import Metrics
from pipeline.store import Store
from pipeline.store.places import place_of

LOG = logger("shelver")
FOLLOW_NS = 200_000_000
RETRY_NS = 3_000_000_000  # what cannot be entered is tried again after this
TIDY_NS = 60_000_000_000


@dataclass
class Shelver:
    """What it holds between two turns. `spooled` and `notes` are filled by the archiver's loop."""

    config: LineConfig
    metrics: Metrics = field(default_factory=Metrics)
    spooled: list[Path] = field(default_factory=list)
    notes: dict[str, tuple[str, str]] = field(default_factory=dict)  # token: reason, why it is lost; not in the store
    alarms: dict[str, str] = field(default_factory=dict)  # what cannot be kept now, and why
    put_off: list[Path] = field(default_factory=list)  # could not be compressed or entered into the store
    lost: int = 0
    tidied: int = 0
    follower: Follower | None = None  # there as soon as the store is
    _store: Store | None = None
    _known: set[str] = field(default_factory=set)  # recipes that the store knows
    _followed_ns: int = 0
    _tried_ns: int = 0
    _tidied_ns: int = 0

    def __post_init__(self) -> None:
        self.spool, self.archive = self.config.state / "spool", self.config.state / "evidence"
        self.spool.mkdir(parents=True, exist_ok=True)
        self.archive.mkdir(parents=True, exist_ok=True)
        for part in self.spool.glob("*.part"):  # its pixels died with the process that was copying them
            shutil.rmtree(part)
        self.spooled = sorted(folder for folder in self.spool.iterdir() if folder.is_dir())
        self.channels = {camera.name: camera.channels for camera in self.config.cameras}
        self._open()

    @property
    def store(self) -> Store:
        if self._store is None:
            raise StoreError(f"store: {self.alarms.get('store', 'is away')}")
        return self._store

    def turn(self, now_ns: int) -> None:
        """One set is compressed a turn."""
        if now_ns - self._tried_ns > RETRY_NS:
            self._tried_ns = now_ns
            self._try_again()
        if now_ns - self._followed_ns > FOLLOW_NS and "store" not in self.alarms:
            self._followed_ns = now_ns
            with self.metrics.timed("step_seconds", "follow"):
                self.follow()
        if self.notes and "store" not in self.alarms:
            self._enter_notes()
        if self.spooled:
            with self.metrics.timed("step_seconds", "compress"):
                self._compress(self.spooled.pop(0))
        elif now_ns - self._tidied_ns > TIDY_NS and "store" not in self.alarms:
            self._tidied_ns = now_ns
            self._tidy()

    def finish(self) -> None:
        """Everything that has arrived, to the disk and the store."""
        while self.spooled:
            self._compress(self.spooled.pop(0))
        self.follow()
        self._enter_notes()

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def counters(self) -> dict[str, int | float]:
        follower, waiting = self.follower, [*self.spooled, *self.put_off]
        return {
            "spooled": len(waiting),
            "spool_age_s": _age_s(waiting),
            "rows": follower.rows if follower else 0,
            "anchors": follower.anchors if follower else 0,
            "tidied": self.tidied,
        }

    def follow(self) -> None:
        """Bring the store up to the ledger's end; what it does not take now is read again later."""
        follower = self.follower
        while follower is not None:
            place = follower.place()
            try:
                rows, marks = follower.read()
                if not marks:
                    return self._well("store")
                self._store_rows(rows, marks)
            except (StoreError, OSError) as error:
                follower.return_to(place)
                return self._alarm("store", str(error))
        return None

    # --- the store ---

    def _open(self) -> None:
        """A store that is away is tried again; the spool takes what comes meanwhile."""
        try:
            self._store = Store(place_of(self.config), self.config.station)
            self.follower = Follower(self.config.ledger, self._store.marks())
            self._known = self._store.recipes()
        except (StoreError, OSError) as error:
            self.close()
            self._store = None
            return self._alarm("store", str(error))
        if self._store.migrated.backup:
            LOG.info("store migrated", extra={"backup": self._store.migrated.backup})
        return self._well("store")

    def _try_again(self) -> None:
        """Does the store take rows again? Then what was put off follows."""
        if self._store is None:
            self._open()
        self.follow()
        if "store" not in self.alarms:
            self.spooled += self.put_off
            self.put_off = []

    def _store_rows(self, rows: list[dict[str, Any]], marks: dict[str, int]) -> None:
        anchors = [anchor_of(row) for row in rows if row["step"] == "anchor"]
        if anchors:  # the store must never vouch for records that a power cut can still take away
            for name in marks:
                to_disk(self.config.ledger / name)
        outcomes = [row_of(row) for row in rows if row["step"] == "outcome"]
        self._learn({row["recipe"] for row in outcomes} - {""})
        self.store.add_panels(outcomes, marks, anchors)

    def _learn(self, recipes: set[str]) -> None:
        """What the store does not know yet of recipes; one that lies nowhere now is asked for once."""
        for new, manifest in recipes_at(self.config, recipes - self._known).items():
            self.store.add_recipe(new, str(manifest.get("product", "")), manifest)
        self._known |= recipes

    def _enter_notes(self) -> None:
        try:
            for token, (reason, why) in list(self.notes.items()):
                self.store.note_dropped(token, reason, why)
                self.notes.pop(token, None)
        except StoreError as error:
            self._alarm("store", str(error))

    # --- pictures ---

    def _compress(self, spooled: Path) -> None:
        """Lossless pictures, one per channel, and the map; then the spool's copy goes."""
        try:
            if not self._shelve(spooled):
                self.put_off.append(spooled)
            self._well("pictures")
        except OSError as error:
            self._alarm("pictures", f"{error}: free the disk; evidence waits in the spool")
            self.put_off.append(spooled)
        except (ValueError, KeyError) as error:  # torn by a power cut: no try will mend it
            LOG.error("evidence in the spool is broken", extra={"folder": os.fspath(spooled), "why": str(error)})
            self.lost += 1

    def _shelve(self, spooled: Path) -> bool:
        """False: the store does not know of the pictures yet, so the spool's copy stays."""
        facts = shelf.put(spooled, self.archive, self.channels)
        if not self._enter(facts):
            return False
        gone = spooled.rename(spooled.with_name(f"{spooled.name}.part"))  # never half a folder under its own name
        shutil.rmtree(gone)
        return True

    def _enter(self, facts: shelf.Facts) -> bool:
        """Tell the store where a panel's pictures are; one that failed a moment ago is not asked."""
        if "store" in self.alarms:
            return False
        more = {"station": self.config.station, "compressed": True, "lossless": True}
        try:
            self.store.put_picture(**facts, **more)
        except StoreError as error:
            self._alarm("store", str(error))
            return False
        return True

    def _tidy(self) -> None:
        try:
            written = audit.Audit(
                self.store.database, self.config.station, machine_key(self.config.state), self.config.state
            )
            self.tidied += tidying.tidy(written, self.config.archive.keep, datetime.now(UTC))
            self._well("tidying")
        except (TaktError, OSError) as error:
            self._alarm("tidying", f"pictures cannot be deleted by policy: {error}")

    # --- alarms ---

    def _alarm(self, what: str, why: str) -> None:
        if what not in self.alarms:
            LOG.error("cannot be kept now", extra={"what": what, "why": why})
        self.alarms[what] = why

    def _well(self, what: str) -> None:
        if self.alarms.pop(what, None):
            LOG.info("can be kept again", extra={"what": what})


def _age_s(waiting: list[Path]) -> float:
    """Since the oldest of them was spooled."""
    times = []
    for folder in waiting[:1] + waiting[-1:]:
        try:
            times.append(folder.stat().st_mtime)
        except OSError:  # it has just been archived
            continue
    return round(max(time.time() - min(times), 0.0), 1) if times else 0.0
