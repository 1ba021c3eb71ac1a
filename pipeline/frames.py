"""Pixel carriers: a shared-memory ring on one host, ZeroMQ frames between hosts.

A slot holds one camera's image set of one panel. One process writes a ring; whoever is told a slot's number
and generation may read it and gives it back. States go free > writing > ready > in use > free. A slot whose
reader died comes back when its lease runs out, and is counted; a slot is never overwritten before that.
Python's own `SharedMemory` is not used: on 3.11 a process that merely attaches deletes the segment when it exits.
"""

import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from pipeline.bus import Tracker
from pipeline.errors import ConfigError, StageError
from pipeline.messages import Frames

SHARED = Path("/dev/shm")
PAGE = 4096
MAGIC, FORMAT = 0x7461_6B74_7269_6E67, 1
FREE, WRITING, READY, IN_USE = range(4)
GENERATION, STATE, LEASE, TOKEN_HIGH, TOKEN_LOW, BYTES, SUM_HIGH, SUM_LOW = range(8)
_ROW = 64  # one cache line per slot: no two slots share one


def digest_of(pixels: memoryview) -> str:
    """xxh3-128 of the pixels: 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(pixels)  # pyright: ignore[reportArgumentType]: its stubs want 3.12's Buffer


def combined_digest(digests: Sequence[str]) -> str:
    """One digest for all cameras' sets of a panel, in the order of the line file."""
    return digests[0] if len(digests) == 1 else xxhash.xxh3_128_hexdigest("".join(digests).encode())


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


def create_ring(name: str, slots: int, slot_bytes: int) -> None:
    """Reserve a ring's memory for good, or keep the one that is there if it has the same shape.

    Raises:
        ConfigError: the shared memory is too small for it.
    """
    path, size = SHARED / name, _pages(_ROW * (slots + 1)) + slots * _pages(slot_bytes)
    head = np.array([MAGIC, FORMAT, slots, _pages(slot_bytes)], "<u8").tobytes()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.fstat(descriptor).st_size != size or os.pread(descriptor, len(head), 0) != head:
            os.ftruncate(descriptor, 0)
            os.posix_fallocate(descriptor, 0, size)
            os.pwrite(descriptor, head, 0)
    except OSError as error:
        path.unlink(missing_ok=True)
        free_mb = _free_mb()
        raise ConfigError(
            f"ring {name} needs {size / 1e6:.0f} MB of shared memory, {free_mb:.0f} MB are free:"
            f" lower slots or slot_mb ({error.strerror})"
        ) from None
    finally:
        os.close(descriptor)


def _free_mb() -> float:
    stat = os.statvfs(SHARED)
    return stat.f_bavail * stat.f_frsize / 1e6


def remove_ring(name: str) -> None:
    """Give the memory back; the supervisor's last act."""
    (SHARED / name).unlink(missing_ok=True)


class Ring:
    """One process's view of a ring. The writer calls acquire and publish, readers claim and release."""

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            descriptor = os.open(SHARED / name, os.O_RDWR)
        except FileNotFoundError:
            raise StageError(f"ring {name} does not exist: start the line with takt run") from None
        try:
            self._memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        magic, form, slots, slot_bytes = (int(word) for word in np.frombuffer(self._memory, "<u8", 4))
        if magic != MAGIC or form != FORMAT:
            raise StageError(f"ring {name} has another format: stop every takt process of this station")
        self.slots, self.slot_bytes = slots, slot_bytes
        self.memory = np.frombuffer(self._memory, np.uint8)  # all of it, mapped as long as the process lives
        self._head = np.frombuffer(self._memory, "<u8", 8 * slots, offset=_ROW).reshape(slots, 8)
        self._data = _pages(_ROW * (slots + 1))
        self.reclaimed = 0

    def take_over(self) -> None:
        """A new writer: what the last one was writing is nobody's now."""
        self._head[self._head[:, STATE] == WRITING, STATE] = FREE

    def acquire(self, now_ns: int) -> int | None:
        """A free slot, now being written; None when there is none."""
        states = self._head[:, STATE]
        for slot in range(self.slots):
            if states[slot] == FREE or self._abandoned(slot, now_ns):
                self._head[slot, GENERATION] += np.uint64(1)
                self._head[slot, STATE] = WRITING
                return slot
        return None

    def _abandoned(self, slot: int, now_ns: int) -> bool:
        row = self._head[slot]
        if row[STATE] in (READY, IN_USE) and int(row[LEASE]) < now_ns:
            self.reclaimed += 1
            return True
        return False

    def room(self, slot: int, offset: int = 0) -> memoryview:
        """The slot's memory from `offset` on, writable."""
        start = self._data + slot * self.slot_bytes
        return memoryview(self._memory)[start + offset : start + self.slot_bytes]

    def publish(self, slot: int, token: str, size: int, digest: str, lease_ns: int) -> int:
        """Hand the slot to its reader until `lease_ns`; returns the generation to name in the message."""
        row = self._head[slot]
        row[TOKEN_HIGH], row[TOKEN_LOW] = int(token[:16], 16), int(token[16:], 16)
        row[SUM_HIGH], row[SUM_LOW] = int(digest[:16], 16), int(digest[16:], 16)
        row[BYTES], row[LEASE] = size, lease_ns
        row[STATE] = READY
        return int(row[GENERATION])

    def claim(self, slot: int, generation: int) -> bool:
        """Take a ready slot into use; False when it is no longer the one that the message named."""
        if not self.holds(slot, generation) or self._head[slot, STATE] != READY:
            return False
        self._head[slot, STATE] = IN_USE
        return True

    def generation(self, slot: int) -> int:
        """How often the slot was acquired; names what lies in it."""
        return int(self._head[slot, GENERATION])

    def holds(self, slot: int, generation: int) -> bool:
        """True while the slot still carries that generation; ask again after copying."""
        return slot < self.slots and self.generation(slot) == generation

    def release(self, slot: int, generation: int) -> None:
        """Give a slot back."""
        if self.holds(slot, generation):
            self._head[slot, STATE] = FREE

    def drop(self, slot: int) -> None:
        """The writer gives up what it was writing."""
        self._head[slot, STATE] = FREE

    def free(self) -> int:
        return int((self._head[:, STATE] == FREE).sum())


@dataclass(frozen=True)
class Held:
    """An image set in place. `pixels` [C, H, W] is valid until `release`; `intact` tells if it stayed the same."""

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    intact: Callable[[], bool]
    release: Callable[[], None]


class Carrier(Protocol):
    """How a filled slot reaches its reader."""

    def ship(self, slot: int, token: str, frames: Frames, lease_ns: int) -> tuple[Frames, tuple[memoryview, ...]]:
        """What goes into the message, and what travels behind it."""
        ...

    def sent(self, slot: int, tracker: Tracker | None) -> None:
        """The message is on its way; a carrier that sends pixels waits for ZeroMQ to be done with them."""
        ...

    def collect(self) -> None:
        """Free what has left since; call it at every turn, or a full ring stays full."""
        ...


@dataclass
class RingCarrier:
    """Same host: the message names the slot, the reader gives it back."""

    ring: Ring

    def ship(self, slot: int, token: str, frames: Frames, lease_ns: int) -> tuple[Frames, tuple[memoryview, ...]]:
        generation = self.ring.publish(slot, token, _size(frames), frames.digest, lease_ns)
        named = {"ring": self.ring.name, "slot": slot, "generation": generation}
        return frames.model_copy(update=named), ()

    def sent(self, slot: int, tracker: Tracker | None) -> None:
        pass

    def collect(self) -> None:
        pass


@dataclass
class FrameCarrier:
    """Another host: the pixels follow the message, uncopied; the slot is free once ZeroMQ let go of them."""

    ring: Ring
    pending: list[tuple[int, int, Tracker]] = field(default_factory=list)  # slot, generation

    def ship(self, slot: int, token: str, frames: Frames, lease_ns: int) -> tuple[Frames, tuple[memoryview, ...]]:
        self.ring.publish(slot, token, _size(frames), frames.digest, lease_ns)
        return frames, (self.ring.room(slot)[: _size(frames)],)

    def sent(self, slot: int, tracker: Tracker | None) -> None:
        if tracker is not None:
            self.pending.append((slot, self.ring.generation(slot), tracker))

    def collect(self) -> None:
        waiting = []
        for entry in self.pending:
            slot, generation, tracker = entry
            if tracker.done:  # asked once: ZeroMQ's thread may let go at any moment
                self.ring.release(slot, generation)  # not drop: the lease may have run out, and the slot be another's
            else:
                waiting.append(entry)
        self.pending = waiting


class Reader:
    """The receiving end of both carriers; attaches to rings as they are named, and tells of their memory."""

    def __init__(self, attached: Callable[[NDArray[np.uint8]], None] = lambda memory: None) -> None:
        self.attached = attached
        self._rings: dict[str, Ring] = {}

    def hold(self, frames: Frames, behind: Sequence[memoryview]) -> Held | None:
        """The image set a message speaks of, or None when its slot is gone or its size is wrong."""
        if not _size(frames) or len(frames.shape) != 3:
            return None
        if frames.ring is None:
            return self._loose(frames, behind)
        ring = self._ring(frames.ring)
        slot, generation = frames.slot or 0, frames.generation or 0
        if ring is None or _size(frames) > ring.slot_bytes or not ring.claim(slot, generation):
            return None
        pixels = _pixels(frames, ring.room(slot))
        return Held(pixels, lambda: ring.holds(slot, generation), lambda: ring.release(slot, generation))

    def _ring(self, name: str) -> Ring | None:
        if name not in self._rings and "/" not in name:
            with suppress(StageError, OSError, ValueError):  # a name that is none, or a file that is no ring
                self._rings[name] = Ring(name)
                self.attached(self._rings[name].memory)
        return self._rings.get(name)

    @staticmethod
    def _loose(frames: Frames, behind: Sequence[memoryview]) -> Held | None:
        if len(behind) != 1 or behind[0].nbytes != _size(frames):
            return None
        return Held(_pixels(frames, behind[0]), lambda: True, lambda: None)


def _size(frames: Frames) -> int:
    return prod(frames.shape) * np.dtype(frames.dtype).itemsize


def _pixels(frames: Frames, memory: memoryview) -> NDArray[np.uint8] | NDArray[np.uint16]:
    return np.frombuffer(memory[: _size(frames)], frames.dtype).reshape(frames.shape)
