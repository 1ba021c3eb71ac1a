"""The ledger: one JSON record a line and a step, each holding the hash of the line before it.

One file a day, which opens with the last hash of the file before. Nothing is ever changed; a record is written
to the operating system before the step it announces, and not flushed to the disk before a PLC write.
`recount` trusts no process of the line: it reads the lines alone.
"""

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.anchors import Anchor, anchor_of
from pipeline.errors import LedgerError
from pipeline.messages import Fault, Outcome

FORMAT = 1
GENESIS = "0" * 64
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
    "anchor",
)


def line_hash(line: bytes) -> str:
    """SHA-256 of one record's bytes without the line end."""
    return sha256(line.rstrip(b"\n")).hexdigest()


@dataclass
class Count:
    """What the records say. `faults` and `rejected` are disjoint; `open` has a trigger and no outcome yet."""

    records: int = 0
    triggers: int = 0
    passed: int = 0
    rejected: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    intact: bool = True
    first_broken: str | None = None
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[int, dict[str, Any]] = field(default_factory=dict)  # by the PLC's sequence
    last_seq: int | None = None  # of the newest trigger
    first: int | None = None  # number of the first record, where it is one
    broken_at: int | None = None  # how many lines stand before the first broken one
    anchors: list[Anchor] = field(default_factory=list)
    hashes: dict[int, str] = field(default_factory=dict)  # of the records before anchors, by number

    @property
    def balanced(self) -> bool:
        """triggers = passed + rejected by inspection + rejected by named fault."""
        return self.triggers == self.passed + self.rejected + sum(self.faults.values())


class Ledger:
    """The writer; one process writes a ledger."""

    def __init__(self, folder: Path, station: str) -> None:
        self._folder, self._station = folder, station
        self._descriptor = -1
        self._day = ""
        self._number, self._previous = 0, GENESIS
        self._owed: deque[dict[str, Any]] = deque()  # could not be written yet; nothing passes meanwhile
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

        Raises:
            LedgerError: it cannot be written now, and will be with the next one; nothing may pass until it is.
        """
        now = datetime.now(UTC)
        self._owed.append({"step": step, "wall": _wall(now), **_finite(what)})
        self._catch_up(now)

    def catch_up(self) -> None:
        """Write what could not be written before.

        Raises:
            LedgerError: it still cannot.
        """
        self._catch_up(datetime.now(UTC))

    def anchor(self, sign: Callable[[bytes], str]) -> None:
        """Append what `sign` makes of the count of records and the hash of the last one.

        Raises:
            LedgerError: it cannot be written now; other than a record it is not owed, since it would be wrong later.
        """
        now = datetime.now(UTC)
        self._catch_up(now)
        anchor = Anchor(self._station, _wall(now), self._number, self._previous)
        self._append({"step": "anchor", "wall": anchor.wall, "signature": sign(anchor.text())})

    def _catch_up(self, now: datetime) -> None:
        self._open(now)
        while self._owed:
            self._append(self._owed[0])
            self._owed.popleft()

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
        data = filled[-1].read_bytes()
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
    return _next_of(filled[-1].read_bytes()) if filled else 0


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


def recount(
    lines: Iterable[tuple[str, bytes]],
    *,
    whole: bool = True,
    taken_over: Iterable[dict[str, Any]] = (),
    anchors: Iterable[Anchor] = (),
) -> Count:
    """Re-hash the chain and count triggers and outcomes.

    `whole`: the first line must be the ledger's first. `taken_over` are triggers from before the first line that
    were open then: they count as if they stood here. The hashes that `anchors` speak of are kept for `anchors.check`.
    """
    wanted = {anchor.records - 1 for anchor in anchors}
    count = Count()
    for record in taken_over:
        _count(count, record)
    previous, number = GENESIS if whole else None, 0 if whole else None
    for place, line in lines:
        count.records += 1
        record = _parsed(line)
        problem = _broken(record, previous, number)
        if problem is None and record is not None:
            problem = _count(count, record)
            if record["step"] == "anchor" and previous is not None:
                count.anchors.append(anchor_of(record))
                count.hashes[record["n"] - 1] = previous
        if problem and count.intact:
            count.intact, count.first_broken = False, f"{place}: {problem}"
            count.broken_at = count.records - 1
        previous = line_hash(line)
        number = None if record is None else int(record["n"]) + 1
        if record is not None and record["n"] in wanted:
            count.hashes.setdefault(record["n"], previous)
        if record is not None and count.records == 1:
            count.first = record["n"]
    if count.intact and not count.balanced and not count.open:
        count.intact, count.first_broken = False, "the counts do not add up"
    return count


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and {"n", "step", "prev"} <= record.keys() and isinstance(record["n"], int)
    return record if known and _complete(record) else None


def _complete(record: dict[str, Any]) -> bool:
    """What is counted has the fields that counting needs."""
    if record["step"] == "anchor":
        return all(isinstance(record.get(name), str) for name in ("station", "wall", "prev", "signature"))
    if record["step"] not in ("trigger", "intent", "outcome"):
        return isinstance(record["step"], str) and isinstance(record.get("format", 0), int)
    named = isinstance(record.get("token"), str) and isinstance(record.get("seq"), int)
    if record["step"] == "trigger":
        return named
    return named and record.get("outcome") in tuple(Outcome) and record.get("fault") in (None, *Fault)


def _broken(record: dict[str, Any] | None, previous: str | None, number: int | None) -> str | None:
    if record is None:
        return "not a record"
    if previous is not None and record["prev"] != previous:
        return "does not follow the record before it"
    if number is not None and record["n"] != number:
        return f"is number {record['n']}, expected {number}"
    if record["step"] not in STEPS:
        return f"unknown step {record['step']!r}"
    if record["step"] == "file" and record.get("format", 0) > FORMAT:
        return f"format {record['format']} is newer than {FORMAT}: update takt"
    return None


def _count(count: Count, record: dict[str, Any]) -> str | None:
    """Add one record; what it says must be possible."""
    if record["step"] == "trigger":
        count.triggers += 1
        if record["token"] in count.open:
            return "the same trigger twice"
        count.open[record["token"]] = record
        count.last_seq = record["seq"]
        return None
    if record["step"] == "intent" and record["token"] in count.open:
        count.open[record["token"]]["intent"] = record["outcome"]
    if record["step"] != "outcome":
        return None
    if count.open.pop(record["token"], None) is None:
        return "an outcome without an open trigger"
    count.outcomes[record["seq"]] = record
    if record.get("fault"):
        count.faults[Fault(record["fault"]).value] += 1
    elif record["outcome"] == Outcome.PASS:
        count.passed += 1
    else:
        count.rejected += 1
    return None
