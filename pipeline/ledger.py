"""The ledger: one JSON record a line and a step, each holding the hash of the line before it.

One file a day, which opens with the last hash of the file before. Nothing is ever changed; a record is written
to the operating system before the step it announces, and not flushed to the disk before a PLC write.
`recount` reads them again.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.anchors import Anchor
from pipeline.errors import LedgerError
from pipeline.owed import size_of, within

FORMAT = 1
GENESIS = "0" * 64
MOST_OWED_BYTES = 16_000_000  # of records that wait for the disk; some four times that in memory
TAIL_BYTES = 4_000_000  # some 1,500 panels: no panel stays open for as long as that takes
STEPS = (
    "file",
    "start",
    "trigger",
    "routed",
    "captured",
    "verdict",
    "intent",
    "written",
    "ack",
    "outcome",
    "state",
    "recipe",
    "anchor",
    "folded",
)


def line_hash(line: bytes) -> str:
    """SHA-256 of one record's bytes without the line end."""
    return sha256(line.rstrip(b"\n")).hexdigest()


class Ledger:
    """The writer; one process writes a ledger."""

    def __init__(self, folder: Path, station: str, most_owed_bytes: int = MOST_OWED_BYTES) -> None:
        self._folder, self._station = folder, station
        self._descriptor = -1
        self._day = ""
        self._number, self._previous = 0, GENESIS
        self._owed: deque[dict[str, Any]] = deque()  # could not be written yet; nothing passes meanwhile
        self._most_owed_bytes = self._fold_at = most_owed_bytes
        self._owed_bytes = 0
        try:
            self._resume()
        except OSError as error:
            raise self._unwritable(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def record(self, step: str, **what: Any) -> None:
        """Append one record, behind those that could not be written before.

        Of what waits for longer than memory lasts, details are left out and the oldest closed panels are counted alone.

        Raises:
            LedgerError: it cannot be written now, and will be with the next one; nothing may pass until it is.
        """
        now = datetime.now(UTC)
        self._owed.append({"step": step, "wall": _wall(now), "at_ns": time.monotonic_ns(), **_finite(what)})
        try:
            self._catch_up(now)
        except LedgerError:
            self._bound(_wall(now))
            raise

    @property
    def owed(self) -> int:
        """Records that could not be written yet."""
        return len(self._owed)

    def anchor(self, sign: Callable[[bytes], str]) -> None:
        """Append what `sign` makes of the count of records and the hash of the last one.

        Raises:
            LedgerError: it cannot be written now; other than a record it is not owed, since it would be wrong later.
        """
        now = datetime.now(UTC)
        self._catch_up(now)
        anchor = Anchor(self._station, _wall(now), self._number, self._previous)
        self._append({"step": "anchor", "wall": anchor.wall, "signature": sign(anchor.text())})

    def _bound(self, wall: str) -> None:
        """Keep what is owed within its bytes; about half of them stay filled, so that this is seldom done."""
        self._owed_bytes += size_of(self._owed[-1])
        if self._owed_bytes <= self._fold_at:
            return
        if sum(map(size_of, self._owed)) > self._fold_at:  # some of it may have been written since
            self._owed = deque(within(self._owed, self._most_owed_bytes // 2, wall))
        self._owed_bytes = sum(map(size_of, self._owed))
        self._fold_at = max(self._most_owed_bytes, 2 * self._owed_bytes)

    def _catch_up(self, now: datetime) -> None:
        self._open(now)
        while self._owed:
            self._append(self._owed[0])
            self._owed.popleft()
        self._owed_bytes = 0

    def _open(self, now: datetime) -> None:
        day = max(f"{now:%Y-%m-%d}", self._day)  # a wall clock set back stays in the open file
        if day == self._day and self._descriptor >= 0:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{day}.jsonl"
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        except OSError as error:
            raise self._unwritable(error) from None
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._day, self._descriptor = day, opened
        if os.fstat(self._descriptor).st_size == 0:
            self._owed.appendleft({"step": "file", "wall": _wall(now), "format": FORMAT})

    def _append(self, body: dict[str, Any]) -> None:
        record = {"n": self._number, "station": self._station, **body, "prev": self._previous}
        line = json.dumps(record, separators=(",", ":"), default=str).encode()
        try:
            size = os.fstat(self._descriptor).st_size
            if os.write(self._descriptor, line + b"\n") != len(line) + 1:
                os.ftruncate(self._descriptor, size)  # half a record must not spoil the next one
                raise LedgerError(f"ledger {self._folder}: the disk is full: no panel passes until it is not")
        except OSError as error:
            raise self._unwritable(error) from None
        self._number, self._previous = self._number + 1, line_hash(line)

    def _unwritable(self, error: OSError) -> LedgerError:
        return LedgerError(f"ledger {self._folder}: {error.strerror}: no panel passes until it can be written")

    def _resume(self) -> None:
        """Go on behind the last whole record; a line torn by a crash is ended, and stays visible as broken."""
        files = ledger_files(self._folder)
        if not files:
            return
        self._day = files[-1].stem
        filled = [file for file in files if file.stat().st_size]  # a crash may leave a new day's file empty
        if not filled:
            return
        data = tail(filled[-1])
        if not data.endswith(b"\n"):
            with filled[-1].open("ab") as torn:
                torn.write(b"\n")
        self._previous = line_hash(data.rstrip(b"\n").rpartition(b"\n")[2])
        self._number = _next_of(data)


def _wall(now: datetime) -> str:
    return now.isoformat(timespec="microseconds")


def _next_of(data: bytes) -> int:
    """The number behind a file's last line; lines that are no records count as one each."""
    broken = 0
    for line in reversed(data.splitlines()):
        number = _number_of(line, -2)
        if number >= 0:
            return number + broken
        broken += 1
    return broken


def _finite(value: Any) -> Any:
    """JSON has no nan and no infinity: null, wherever it stands."""
    match value:
        case float():
            return value if isfinite(value) else None
        case dict():
            return {key: _finite(part) for key, part in value.items()}
        case list() | tuple():
            return [_finite(part) for part in value]
        case _:
            return value


def _number_of(line: bytes, guess: int) -> int:
    try:
        return int(json.loads(line)["n"]) + 1
    except (ValueError, KeyError, TypeError):
        return guess + 1


def ledger_files(path: Path) -> list[Path]:
    """The ledger's files in order; `path` is its folder or one file."""
    return [path] if path.is_file() else sorted(path.glob("*.jsonl"))


def next_number(folder: Path) -> int:
    """The number that the ledger's next record will have."""
    filled = [file for file in ledger_files(folder) if file.stat().st_size]
    return _next_of(tail(filled[-1])) if filled else 0


def tail(file: Path) -> bytes:
    """The last whole lines of a file, `TAIL_BYTES` of them at most."""
    with file.open("rb") as stream:
        left_out = max(file.stat().st_size - TAIL_BYTES, 0)
        stream.seek(left_out)
        data = stream.read()
    return data.partition(b"\n")[2] if left_out else data


def lines_since(folder: Path, number: int) -> Iterator[tuple[str, bytes]]:
    """The lines from record `number` on; files that end before it are not read."""
    files = ledger_files(folder)
    starts = [_first_number(file) for file in files]
    ends = [*starts[1:], number + 1]
    wanted = [file for file, end in zip(files, ends, strict=False) if end > number]
    for place, line in read_lines(wanted):
        if _number_of(line, number) > number:
            yield place, line


def _first_number(file: Path) -> int:
    with file.open("rb") as stream:
        return _number_of(stream.readline(), -1) - 1


def read_lines(files: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Every line with its place, as `file:line`."""
    for file in files:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                yield f"{file.name}:{number}", line
