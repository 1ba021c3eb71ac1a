"""Evidence: pixels of rejects, faults and sampled passes, copied out of the camera rings into a bounded pool."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.detector import Finding
from pipeline.bus import Bus
from pipeline.config import LineConfig
from pipeline.frames import Held, Ring, digest_of
from pipeline.messages import Evidence, Frames, ImageSet, Trigger
from pipeline.stages import inspectors

POOL = "evidence"
LEASE_NS = 60_000_000_000
MOST_UNTOLD = 10_000  # notes of dropped pixels that wait for the archiver
NO_ROOM = "no room in the pool"
GONE = "gone from the camera's ring before it was copied"
NOT_TAKEN = "the archiver did not take it"


def pool_shape(config: LineConfig) -> tuple[int, int]:
    """Slots and bytes per slot: one slot per camera's set and one for the anomaly map, for every panel kept."""
    largest_mb = max(camera.slot_mb for camera in config.cameras)
    return config.archive.slots * (len(config.cameras) + 1), int(largest_mb * 1e6)


def pool_of(config: LineConfig, inspector: str) -> str:
    """The ring of an inspector's pool: a ring has one writer."""
    return config.ring(POOL if inspector == inspectors(config)[0] else f"{POOL}-{inspector}")


def pools(config: LineConfig) -> list[str]:
    """The rings of all pools."""
    return [pool_of(config, inspector) for inspector in inspectors(config)]


class EvidenceSender:
    """The inspector's end. Never waits: what finds no room is dropped, counted, and told to the archiver later."""

    def __init__(self, config: LineConfig, bus: Bus, inspector: str) -> None:
        self._ring = Ring(pool_of(config, inspector))
        self._ring.take_over()
        # The archiver starts slower than the line and may come back later: until then evidence waits in the pool.
        self._port = bus.push(config.socket("evidence"), "evidence", keep=2 * config.archive.slots)
        self._untold: deque[Evidence] = deque(maxlen=MOST_UNTOLD)
        self.dropped = 0

    def send(
        self, trigger: Trigger, reason: str | None, sets: list[tuple[ImageSet, Held]], finding: Finding | None
    ) -> None:
        """Copy the pixels and tell the archiver; `reason` None keeps nothing."""
        if reason is None:
            return
        arrays = [held.pixels for _, held in sets]
        arrays += [finding.map.astype(np.float16).view(np.uint16)[None]] if finding else []
        kept = self._kept(trigger.token, arrays)
        if kept is None:
            self._drop(_about(trigger, reason, dropped=NO_ROOM))
            return
        if not all(held.intact() for _, held in sets):  # its lease ran out: it may be another panel's by now
            self._free(kept)
            self._drop(_about(trigger, reason, dropped=GONE))
            return
        cameras = tuple(sent.camera for sent, _ in sets)
        anomalies = kept[len(sets)] if finding else None
        evidence = _about(trigger, reason, cameras=cameras, frames=kept[: len(sets)], map=anomalies)
        if not self._port.send("evidence", evidence):
            self._drop(_about(trigger, reason, dropped=NOT_TAKEN))
            self._free(kept)

    def tell(self) -> None:
        """Tell the archiver whose pixels were dropped, as far as it takes that now."""
        while self._untold and self._port.send("evidence", self._untold[0]):
            self._untold.popleft()

    def _drop(self, note: Evidence) -> None:
        self.dropped += 1
        self._untold.append(note)

    def _kept(self, token: str, arrays: list[NDArray]) -> tuple[Frames, ...] | None:
        kept: list[Frames] = []
        for array in arrays:
            slot = self._ring.acquire(time.monotonic_ns())
            if slot is None or array.nbytes > self._ring.slot_bytes:
                self._free(kept)
                if slot is not None:
                    self._ring.drop(slot)
                return None
            kept.append(self._copied(slot, token, array))
        return tuple(kept)

    def _free(self, kept: Sequence[Frames]) -> None:
        for frames in kept:
            self._ring.drop(frames.slot or 0)

    def _copied(self, slot: int, token: str, array: NDArray) -> Frames:
        room = self._ring.room(slot)[: array.nbytes]
        np.copyto(np.frombuffer(room, array.dtype).reshape(array.shape), array)
        digest = digest_of(room)
        generation = self._ring.publish(slot, token, array.nbytes, digest, time.monotonic_ns() + LEASE_NS)
        shape = tuple(int(extent) for extent in array.shape)
        return Frames(
            shape=shape, dtype=str(array.dtype), digest=digest, ring=self._ring.name, slot=slot, generation=generation
        )


def _about(trigger: Trigger, reason: str, **what: Any) -> Evidence:
    """The message about a panel's pixels; without more, it has none."""
    panel = {"station": trigger.station, "token": trigger.token, "seq": trigger.seq, "panel_id": trigger.panel_id}
    return Evidence.model_validate({"cameras": (), "frames": (), "map": None, "reason": reason} | panel | what)
