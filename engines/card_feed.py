"""Panels past the host: raw frames to the card, one launch that gathers a batch there, network, small results back.

Frames that lie in pinned memory, as a registered ring's do, are not copied on the host. Batches alternate between the
network's lanes, so that one is copied while the other is computed. What leaves the card are scores and maps of low
resolution; masks are made of these on the host, for rejects alone.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines import kernels, preprocess
from engines.errors import DeviceError
from engines.feeding import Batch, Outputs
from engines.gather import Gather, Pieces
from engines.lanes import Memory
from engines.preprocess import LIVING_BLOCKS, ROW, THREADS
from engines.recipe import Resize
from engines.runtimes import CardNetwork, Lane
from engines.station import StationCalibration


@dataclass(eq=False)
class Raw:
    """A panel as the kernel takes it; see `engines.gather.Pieces`. `specks`: its channels that live must stay so."""

    host: Pieces
    frames: NDArray
    corners: Sequence[tuple[int, int]]
    specks: bool
    corrected: bool
    slot: "Slot | None" = None

    def __post_init__(self) -> None:
        self.size = self.host.size

    def __len__(self) -> int:
        return len(self.corners)

    def fill(self, number: int, row: NDArray[np.float32]) -> None:
        self.host.fill(number, row)

    def joined(self, maps: Sequence[NDArray[np.float32]]) -> Any:
        return self.host.joined(maps)


@dataclass(eq=False)
class Slot:
    """Room for one panel on the card; `ready` is the event behind which it is there, `lane` who queued that."""

    pixels: int
    living: int
    room: int
    staged: NDArray | None = None
    ready: Any = None
    lane: Lane | None = None


@dataclass(eq=False)
class Table:
    """A lane's rows: in pinned memory, on the card, with the kernel's counters and the golden tile."""

    lane: Lane
    rows: NDArray
    on_card: int
    seen: int
    done: int
    golden: int
    tile: NDArray | None = None


@dataclass(eq=False)
class CardFeed:
    """See `engines.feeding.Feed`."""

    network: CardNetwork
    gather: Gather
    calibration: StationCalibration
    dtype: str
    kept: Path | None = None
    _free: list[Slot] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.depth, self.copied_ns = len(self.network.lanes), 0
        self._device = self.network.device
        self._memory = Memory(self._device)
        self._top = np.float32(np.iinfo(self.dtype).max)
        self._scale = preprocess.scale_of(self.dtype)
        self._planes = self.gather.shape[0]
        code = kernels.cubin(self._device.card.arch, kept=self.kept)
        with self._device.current():
            self._gathers = self._device.function(code, preprocess.kernel_name(self.dtype, "float32"))
            self._shows = self._device.function(code, f"living_{self.dtype}")
            self._tables = [self._table(lane) for lane in self.network.lanes]
            self._blank = self._zeros(int(np.prod(self.gather.shape)) * 4, "an empty row")
            self._gain = self._gain_on_card()
        self._next = cycle(self._tables)

    def pieces(self, frames: NDArray, corrected: bool = False) -> Raw:
        host = self.gather.pieces(frames)
        if isinstance(self.gather.geometry, Resize):
            return self._whole(host, frames, corrected)
        return Raw(host, frames, host.corners(), True, corrected)  # type: ignore[attr-defined]

    def golden(self, frames: NDArray) -> Raw:
        frames = self.calibration.apply(frames)
        host = self.gather.golden(frames)
        if isinstance(self.gather.geometry, Resize):
            return self._whole(host, frames, True)
        return Raw(host, host.whole(self.gather.shape[1:]), [(0, 0)], True, True)  # type: ignore[attr-defined]

    def start(self, batch: Batch) -> tuple[Table, int]:
        table = next(self._next)
        with self._device.current():
            for pieces in {id(pieces): pieces for pieces, _, _ in batch.rows}.values():
                self._bring(pieces, table.lane)
            self._fill(table, batch)
            self._launch(table, len(batch))
        return table, len(batch)

    def finish(self, started: tuple[Table, int]) -> Outputs:
        table, rows = started
        with self._device.current():
            return table.lane.finish(rows)

    def release(self, gathered: Sequence[Pieces]) -> None:
        for pieces in gathered:
            if isinstance(pieces, Raw) and pieces.slot is not None:
                self._free.append(pieces.slot)
                pieces.slot = None

    def blank(self, rows: int) -> None:
        table = next(self._next)
        with self._device.current():
            table.rows[: len(table.rows)] = self._finished(self._blank)
            self._launch(table, rows)
        self.finish((table, rows))

    def pin(self, memory: NDArray) -> None:
        with suppress(DeviceError):  # then its frames are copied once more, which costs time and nothing else
            self._device.register(memory)

    def device_copies_ms(self, panels: Sequence[NDArray], calls: Sequence[int]) -> Mapping[str, float]:
        lane = self._tables[0].lane
        brought = [self.pieces(panel) for panel in panels]
        with self._device.current():
            slots = [self._slot(each.frames.nbytes) for each in brought]
            sources = [self._source(slot, each.frames) for slot, each in zip(slots, brought, strict=True)]
            found = {
                "device_in": _took_ms(lane, lambda: _copy_in(lane, slots, sources)),
                "device_out": _took_ms(lane, lambda: _copy_out(lane, calls)),
            }
        self._free += slots
        return found

    def close(self) -> None:
        if not self._device.lost:
            with self._device.current():
                self._memory.free()

    def _whole(self, host: Pieces, frames: NDArray, corrected: bool) -> Raw:
        """A panel that is resized: the light is corrected before, on the host, unless its size is the network's."""
        if frames.shape[1:] != self.gather.shape[1:]:
            frames = self.gather.resized(frames if corrected else self.calibration.apply(frames))
            corrected = True
        return Raw(host, frames, [(0, 0)], False, corrected)

    def _bring(self, pieces: Pieces, lane: Lane) -> None:
        """Queue a panel's way to the card; it is there for what the lane does next."""
        assert isinstance(pieces, Raw)
        slot = pieces.slot
        if slot is not None:
            if slot.lane is not lane:
                lane.stream.follow(slot.ready)
            return
        slot = pieces.slot = self._slot(pieces.frames.nbytes)
        lane.stream.copy_in(slot.pixels, self._source(slot, pieces.frames))
        if pieces.specks:
            self._look(slot, pieces, lane)
        slot.ready, slot.lane = lane.stream.mark(slot.ready), lane

    def _look(self, slot: Slot, pieces: Raw, lane: Lane) -> None:
        """Which channels live is asked of the whole panel, once."""
        lane.stream.fill_zero(slot.living, self._planes)
        gain, count = np.uint64(0 if pieces.corrected else self._gain), np.int64(pieces.frames[0].size)
        arguments = np.uint64(slot.pixels), gain, np.uint64(slot.living), count, self._top
        lane.stream.launch(self._shows, (LIVING_BLOCKS, self._planes, 1), (THREADS, 1, 1), *arguments)

    def _source(self, slot: Slot, frames: NDArray) -> NDArray:
        """The frames where the card can read them by itself."""
        if frames.flags.c_contiguous and self._device.is_pinned(frames):
            return frames
        if slot.staged is None or slot.staged.size < frames.size:
            slot.staged = self._device.pinned((frames.size,), self.dtype)
        began_ns = time.monotonic_ns()
        staged = slot.staged[: frames.size].reshape(frames.shape)
        staged[:] = frames
        self.copied_ns += time.monotonic_ns() - began_ns
        return staged

    def _slot(self, count: int) -> Slot:
        fitting = [slot for slot in self._free if slot.room >= count]
        if fitting:
            self._free.remove(fitting[0])
            return fitting[0]
        pixels, living = self._memory.take(count, "a panel"), self._memory.take(4 * self._planes, "a panel")
        return Slot(pixels, living, count)

    def _fill(self, table: Table, batch: Batch) -> None:
        table.rows[:] = self._finished(self._blank if batch.at is None else table.golden)
        if batch.at is not None and not (table.tile is batch.tile and not _changes(batch.tile)):
            table.lane.stream.copy_in(table.golden, np.ascontiguousarray(batch.tile))
            table.tile = batch.tile
        for pieces, number, row in batch.rows:
            table.rows[row] = self._entry(pieces, number)

    def _entry(self, pieces: Pieces, number: int) -> tuple:
        """A row of the kernel's table, in the order of `ROW`."""
        assert isinstance(pieces, Raw) and pieces.slot is not None
        slot, (top, left) = pieces.slot, pieces.corners[number]
        gain, living = 0 if pieces.corrected else self._gain, slot.living if pieces.specks else 0
        return slot.pixels, gain, 0, living, *pieces.frames.shape[1:], top, left

    @staticmethod
    def _finished(address: int) -> tuple:
        return 0, 0, address, 0, 0, 0, 0, 0

    def _launch(self, table: Table, rows: int) -> None:
        lane = table.lane
        computed = lane.captured(rows)
        lane.stream.copy_in(table.on_card, table.rows[:computed])
        pointers = (np.uint64(each) for each in (table.on_card, lane.input, table.seen, table.done))
        sizes = (np.int32(each) for each in self.gather.shape)
        grid = preprocess.grid_of(computed, self.gather.shape)
        lane.stream.launch(self._gathers, grid, (THREADS, 1, 1), *pointers, *sizes, self._top, self._scale)
        lane.enqueue(rows)

    def _table(self, lane: Lane) -> Table:
        rows, take = lane.max_batch, self._memory.take
        counters = 4 * rows * self._planes
        seen, done = self._zeros(counters, "counters"), self._zeros(counters, "counters")
        golden = take(int(np.prod(self.gather.shape)) * 4, "the golden tile")
        return Table(lane, self._device.pinned((rows,), ROW), take(rows * ROW.itemsize, "rows"), seen, done, golden)

    def _zeros(self, count: int, what: str) -> int:
        address, stream = self._memory.take(count, what), self.network.lanes[0].stream
        stream.fill_zero(address, count // 4)
        stream.wait("clearing memory")
        return address

    def _gain_on_card(self) -> int:
        """Address of the flat-field; 0 where the light is taken as it is."""
        gain = self.calibration.gain
        if gain is None:
            return 0
        address, stream = self._memory.take(gain.nbytes, "the flat-field"), self.network.lanes[0].stream
        stream.copy_in(address, np.ascontiguousarray(gain, np.float32))
        stream.wait("copying the flat-field")
        return address


def _copy_in(lane: Lane, slots: Sequence[Slot], sources: Sequence[NDArray]) -> None:
    for slot, source in zip(slots, sources, strict=True):
        lane.stream.copy_in(slot.pixels, source)


def _copy_out(lane: Lane, calls: Sequence[int]) -> None:
    for rows in calls:
        lane.copy_out(lane.captured(rows))  # what pads a batch is copied too


def _took_ms(lane: Lane, work: Callable[[], None]) -> float:
    """What the card itself spent on what `work` queues."""
    began = lane.stream.mark(timed=True)
    work()
    ended = lane.stream.mark(timed=True)
    lane.stream.wait("timing copies")
    return float(ended.time_since(began))


def _changes(tile: NDArray | None) -> bool:
    return tile is not None and tile.flags.writeable


@contextmanager
def opened(
    network: CardNetwork, gather: Gather, calibration: StationCalibration, dtype: str, kept: Path | None
) -> Iterator[CardFeed]:
    """A feed for a network on a card.

    Raises:
        EngineError: the kernels do not compile.
        DeviceError: the card refused something.
    """
    feed = CardFeed(network, gather, calibration, dtype, kept)
    try:
        yield feed
    finally:
        feed.close()
