"""What the PLC remembers: one JSON line for every panel, and which panels were on the conveyor.

`record` holds the decided panels and, at the end of a run, a line with the key "end". `record`.triggered is the
PLC's retentive memory: after a power cut it tells the last sequence and the panels that were under way.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pipeline.errors import PlcError
from pipeline.plcs import ACK_PASSED, SLOTS

Row = dict[str, Any]
LOST = {"ack_code": 0, "acknowledged": False, "code": 0, "fault": 0, "latency_ms": None, "reason": "PLC restarted"}


@dataclass(frozen=True)
class Remembered:
    """What a new process takes over from the last one's record."""

    last_seq: int | None
    run: tuple[Row, ...]  # decided or lost since the last "end"
    latest: tuple[Row, ...]  # the last ones of all, whose acknowledgements are still in the slots

    @property
    def panels(self) -> int:
        """Physical panels that this run has placed already."""
        return max((row["panel"] + 1 for row in self.run), default=0)

    def counts(self) -> Counter[str]:
        """Decisions of this run: passed, rejected, lost."""
        return Counter(outcome(row["ack_code"]) for row in self.run)


def outcome(ack_code: int) -> str:
    """The counter that an acknowledgement belongs to."""
    if ack_code == 0:
        return "lost"
    return "passed" if ack_code == ACK_PASSED else "rejected"


class PanelRecord:
    """The open record; every line is on its way to the disk when a call returns."""

    def __init__(self, decided: TextIO, triggered: TextIO) -> None:
        self._decided, self._triggered = decided, triggered

    def triggered(self, row: Row) -> None:
        """A panel is on the conveyor."""
        _append(self._triggered, row)

    def decided(self, row: Row) -> None:
        """A panel left the conveyor; or, with the key "end", the run is over."""
        _append(self._decided, row)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[PanelRecord, Remembered]]:
    """The record, and what is remembered; panels that were under way are entered as lost.

    Raises:
        PlcError: the record cannot be written, or is none.
    """
    side = path.with_name(path.name + ".triggered")
    with contextlib.ExitStack() as files:
        with _usable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                side.unlink(missing_ok=True)
            rows, triggered = _rows(path), _rows(side)
            record = PanelRecord(*(files.enter_context(name.open("a")) for name in (path, side)))
        yield record, _remember(record, rows, triggered)


@contextlib.contextmanager
def _usable(path: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PlcError(f"the PLC's record {path} cannot be used ({error.strerror}); name another file") from error
    except ValueError as error:
        raise PlcError(f"{path} is no record of a simulated PLC; name another file") from error


def _remember(record: PanelRecord, rows: list[Row], triggered: list[Row]) -> Remembered:
    decided = {row["seq"] for row in rows if "seq" in row}
    lost = [row | LOST for row in triggered if row["seq"] not in decided]
    for row in lost:
        record.decided(row)
    ends = [number for number, row in enumerate(rows) if "end" in row]
    run = rows[ends[-1] + 1 :] if ends else rows
    latest = [row for row in rows if "seq" in row][-SLOTS:]
    return Remembered(triggered[-1]["seq"] if triggered else None, (*run, *lost), tuple(latest))


def _append(file: TextIO, row: Row) -> None:
    with _usable(file.name):
        file.write(json.dumps(row) + "\n")
        file.flush()


def _rows(path: Path) -> list[Row]:
    """All rows; a last line that was cut off by a power cut is taken away."""
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]
