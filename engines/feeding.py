"""How panels reach a network: by the host, row by row into one batch, or past it, see `engines.card_feed`."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.gather import Gather, Pieces
from engines.station import StationCalibration

Row = tuple[Pieces, int, int]  # a panel's pieces, which of them, and in which row of the batch it goes
Outputs = Mapping[str, NDArray]
Item = TypeVar("Item")
Started = TypeVar("Started")
Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class Batch:
    """One call of the network: pieces and, in row `at`, the finished tile [C, h, w] that is golden; None: none is."""

    rows: Sequence[Row]
    at: int | None = None
    tile: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.rows) + (self.at is not None)


class Feed(Protocol):
    """Used by one thread. At most `depth` batches are under way; they are finished in the order of their start.

    `copied_ns` counts what the host has spent since it was made on copies of frames: into the batch, where it lies in
    host memory, else into memory that the card can read.
    """

    depth: int
    copied_ns: int

    def pieces(self, frames: NDArray, corrected: bool = False) -> Pieces:
        """A panel's frames [C, H, W] as rows; `corrected`: the flat-field is not applied to them."""
        ...

    def golden(self, frames: NDArray) -> Pieces:
        """A golden panel's frames, see `engines.gather.Gather.golden`."""
        ...

    def start(self, batch: Batch) -> Any:
        """Hand a batch to the network.

        Raises:
            EngineError: the runtime failed.
        """
        ...

    def finish(self, started: Any) -> Outputs:
        """Wait for it; what it gives is overwritten by the next but `depth` - 1 batches."""
        ...

    def release(self, gathered: Sequence[Pieces]) -> None:
        """These panels are done with."""
        ...

    def blank(self, rows: int) -> None:
        """Run a batch of empty rows."""
        ...

    def pin(self, memory: NDArray) -> None:
        """Frames will come out of this memory, which stays where it is as long as the process lives."""
        ...

    def device_copies_ms(self, panels: Sequence[NDArray], calls: Sequence[int]) -> Mapping[str, float]:
        """How long the device takes for the copies of a batch alone, by its own clock; empty on the host.

        `device_in`: the raw frames of `panels` to it; `device_out`: maps and scores back, of so many rows a call.
        """
        ...


class HostFeed:
    """One batch in host memory; see `Feed`. `run` is the network's, asked anew each time."""

    depth = 1

    def __init__(
        self, run: Callable[[NDArray], Outputs], gather: Gather, calibration: StationCalibration, rows: int
    ) -> None:
        self._run, self._gather, self._calibration = run, gather, calibration
        self._batch = np.zeros((rows, *gather.shape), np.float32)
        self.copied_ns = 0

    def pieces(self, frames: NDArray, corrected: bool = False) -> Pieces:
        return self._gather.pieces(frames if corrected else self._calibration.apply(frames))

    def golden(self, frames: NDArray) -> Pieces:
        return self._gather.golden(self._calibration.apply(frames))

    def start(self, batch: Batch) -> Outputs:
        began_ns = time.monotonic_ns()
        if batch.at is not None:
            self._batch[batch.at] = batch.tile
        for pieces, number, row in batch.rows:
            pieces.fill(number, self._batch[row])
        self.copied_ns += time.monotonic_ns() - began_ns
        return self._run(self._batch[: len(batch)])

    def finish(self, started: Outputs) -> Outputs:
        return started

    def release(self, gathered: Sequence[Pieces]) -> None:
        pass

    def blank(self, rows: int) -> None:
        self._run(self._batch[:rows])

    def pin(self, memory: NDArray) -> None:
        pass

    def device_copies_ms(self, panels: Sequence[NDArray], calls: Sequence[int]) -> Mapping[str, float]:
        return {}


def overlapped(
    start: Callable[[Item], Started], finish: Callable[[Started], Answer], items: Sequence[Item], depth: int
) -> Iterator[Answer]:
    """Each item started and finished in order, with at most `depth` under way; none is left so where one fails."""
    under_way: deque[Started] = deque()
    try:
        for item in items:
            if len(under_way) == depth:
                yield finish(under_way.popleft())
            under_way.append(start(item))
        while under_way:
            yield finish(under_way.popleft())
    finally:
        for started in under_way:
            with suppress(EngineError):
                finish(started)
