"""Follows a ledger as its writer goes on: outcomes as rows of the store, each with the steps before it."""

import json
from pathlib import Path
from typing import Any

from pipeline.ledger import ledger_files

ROW = ("token", "seq", "panel_id", "outcome", "fault", "acknowledged", "score", "limit", "latency_ms")
HASHES = ("recipe", "calibration", "engine")
STEPS = ("trigger", "captured", "verdict", "written", "ack")
MOST_OPEN = 1_000  # panels whose outcome is awaited; far more than a line has open
Record = dict[str, Any]


def row_of(record: Record) -> Record:
    """A ledger's outcome record as a row of the store."""
    row = {name: record.get(name) for name in (*ROW, *HASHES)}
    extra = {"station": record["station"], "closed_at": record["wall"], "panel_id": _printable(record["panel_id"])}
    return (
        row | extra | {"defects": record.get("defects", []), **{name: record.get(name) for name in ("timing", "steps")}}
    )


def _printable(text: str) -> str:
    """No database takes a bar code with a NUL in it."""
    return text.replace("\x00", "")


class Follower:
    """Reads the ledger's outcomes and anchors from where the store left off; a line still being written waits."""

    def __init__(self, folder: Path, marks: dict[str, int]) -> None:
        self._folder = folder
        self._offsets = {name: value for name, value in marks.items() if name.endswith(".jsonl")}
        self._steps: dict[str, Record] = {}  # of open panels; lost with the process, and then not shown
        self.rows = self.anchors = 0

    def place(self) -> tuple[dict[str, int], int, int]:
        return dict(self._offsets), self.rows, self.anchors

    def return_to(self, place: tuple[dict[str, int], int, int]) -> None:
        """Read again from there."""
        self._offsets, self.rows, self.anchors = dict(place[0]), *place[1:]

    def read(self, most_bytes: int = 4_000_000) -> tuple[list[Record], dict[str, int]]:
        """New records of both kinds and the new offsets; no offsets when there is nothing new.

        An outcome's `steps` are the times of the steps before it, as far as this process has read them.
        """
        for file in ledger_files(self._folder):
            offset = self._offsets.get(file.name, 0)
            if file.stat().st_size > offset:
                with file.open("rb") as stream:
                    stream.seek(offset)
                    data = stream.read(most_bytes)
                whole = data[: data.rfind(b"\n") + 1]
                if whole:
                    self._offsets[file.name] = offset + len(whole)
                    records = [record for line in whole.splitlines() if (record := self._wanted(line))]
                    self.rows += sum(record["step"] == "outcome" for record in records)
                    self.anchors += sum(record["step"] == "anchor" for record in records)
                    return records, {file.name: self._offsets[file.name]}
        return [], {}

    def _wanted(self, line: bytes) -> Record | None:
        try:
            record = json.loads(line)
            if record["step"] in STEPS:
                self._note(record)
        except (ValueError, KeyError, TypeError):
            return None
        if record["step"] == "outcome":
            steps = self._steps.get(str(record.get("token")))
            return record | {"steps": steps} if steps else record
        return record if record["step"] == "anchor" else None

    def _note(self, record: Record) -> None:
        """The time of a step; of several cameras the last one's counts."""
        if record["token"] not in self._steps and len(self._steps) >= MOST_OPEN:
            self._steps.pop(next(iter(self._steps)))
        steps = self._steps.setdefault(record["token"], {})
        steps[record["step"]] = record["wall"]
        if record["step"] == "ack":
            steps["ack_code"] = record["code"]
