"""The second opinion on a storm: what the PLC did, held against the plan and against the marks in the pictures.

It believes the PLC's own record, the plan of what lay below the cameras, and the printed mark in every kept picture;
the pictures' folder says which trigger they are of. It knows nothing of ledger, store, verdicts or hand-shake, and an
import contract keeps it so.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.simulation import watermark
from pipeline.simulation.plan import Plan
from pipeline.simulation.watermark import Mark

ACK_PASSED, ACK_REJECTED = 1, 2
MOST_NAMED = 100
Marks = dict[tuple[str, int], Mark | None]  # camera and channel -> what the picture says; missing: no picture
Row = dict[str, Any]


@dataclass(frozen=True)
class Kept:
    """The pictures of one panel, as the line named them."""

    token: str
    seq: int
    panel_id: str
    marks: Marks


@dataclass
class Findings:
    """What is wrong, and how much could be checked. `wrong` names the first findings of every kind."""

    triggers: int = 0
    difference: int = 0  # triggers without exactly one decision, and decisions without a trigger
    wrong_pass: int = 0  # passed and defective, or pictures that are not wholly the panel's own
    mixed_sets: int = 0  # passed or rejected by inspection on pictures of something else
    passed: int = 0
    rejected: int = 0  # by inspection
    defective: int = 0
    good: int = 0
    passes_seen: int = 0  # passed panels whose pictures were kept and read
    sets_seen: int = 0  # sets passed or rejected by inspection of which that is true
    unlabelled: int = 0  # kept pictures whose labels do not name one panel of the record
    faults: Counter[int] = field(default_factory=Counter)  # by the PLC's fault number; 0: its own window
    in_flight: Counter[int] = field(default_factory=Counter)  # panels open at a trigger, itself included
    wrong: list[str] = field(default_factory=list)

    def name(self, text: str) -> None:
        if len(self.wrong) < MOST_NAMED:
            self.wrong.append(text)


class Checker:
    """Fed with rows and pictures as they come, asked at the end."""

    def __init__(self, plan: Plan, cameras: Mapping[str, Sequence[str]]) -> None:
        self._plan, self._cameras = plan, cameras
        self._expected = [(camera, channel) for camera, names in cameras.items() for channel in range(len(names))]
        self._triggered: list[Row] = []
        self._decided: dict[int, list[Row]] = {}
        self._kept: dict[str, Kept] = {}  # by token: a set that is stored again after a crash is one set

    @property
    def triggers(self) -> int:
        return len(self._triggered)

    def triggered(self, rows: Iterable[Row]) -> None:
        """Rows of the PLC's retentive memory, in order."""
        self._triggered += rows

    def decided(self, rows: Iterable[Row]) -> None:
        """Rows of its record."""
        for row in rows:
            if "seq" in row:
                self._decided.setdefault(row["seq"], []).append(row)

    def decisions(self) -> Iterator[Row]:
        """The first decision of every panel."""
        return (rows[0] for rows in self._decided.values())

    def look(self, folder: Path) -> None:
        """Read a folder of kept pictures, `evidence.json` and `<camera>_<channel>.png`.

        Raises:
            OSError, ValueError, KeyError: its `evidence.json` cannot be read.
        """
        about = json.loads((folder / "evidence.json").read_text())
        marks: Marks = {}
        for camera, names in self._cameras.items():
            for channel, name in enumerate(names):
                path = folder / f"{camera}_{name}.png"
                if path.exists():
                    marks[camera, channel] = _mark(path)
        self._kept[folder.name] = Kept(folder.name, int(about["seq"]), str(about["panel_id"]), marks)

    def findings(self) -> Findings:
        """Everything so far."""
        found = Findings(triggers=len(self._triggered))
        self._check_decisions(found)
        by_seq = self._by_seq(found)
        for seq, rows in self._decided.items():
            self._check_panel(found, rows[0], by_seq.get(seq, []))
        found.in_flight = self._in_flight()
        return found

    def _check_decisions(self, found: Findings) -> None:
        memory = Counter(row["seq"] for row in self._triggered)
        for seq in memory.keys() | self._decided.keys():
            decisions = [row for row in self._decided.get(seq, []) if row["ack_code"] in (1, 2, 3)]
            if memory[seq] != 1 or len(decisions) != 1:
                found.difference += 1
                found.name(f"trigger {seq}: {memory[seq]} times triggered, {len(decisions)} times decided")

    def _by_seq(self, found: Findings) -> dict[int, list[Kept]]:
        """Kept sets by trigger; one whose two labels do not agree with the PLC's could be anybody's."""
        by_seq: dict[int, list[Kept]] = {}
        for kept in self._kept.values():
            rows = self._decided.get(kept.seq, [])
            if len(rows) == 1 and rows[0]["panel_id"] == kept.panel_id:
                by_seq.setdefault(kept.seq, []).append(kept)
            else:
                found.unlabelled += 1
        return by_seq

    def _check_panel(self, found: Findings, row: Row, kept: list[Kept]) -> None:
        planned, passed = self._plan.panel(row["panel"]), row["ack_code"] == ACK_PASSED
        inspected = passed or (row["ack_code"] == ACK_REJECTED and row["fault"] == 0)
        found.good, found.defective = found.good + (planned.kind is None), found.defective + bool(planned.kind)
        found.passed, found.rejected = found.passed + passed, found.rejected + (inspected and not passed)
        if not inspected:
            found.faults[row["fault"] if row["ack_code"] == ACK_REJECTED else 0] += 1
            return
        mixed = any(self._foreign(one, row["panel"]) for one in kept)
        whole = all(set(one.marks) == set(self._expected) for one in kept)
        found.sets_seen += bool(kept)
        found.passes_seen += passed and bool(kept)
        if mixed:
            found.mixed_sets += 1
            found.name(f"trigger {row['seq']}, panel {row['panel']}: its pictures say {_said(kept)}")
        if passed and (planned.kind or mixed or not whole):
            found.wrong_pass += 1
            why = planned.kind or ("other pictures" if mixed else "pictures are missing")
            found.name(f"trigger {row['seq']}, panel {row['panel']}: passed, {why}")

    @staticmethod
    def _foreign(kept: Kept, panel: int) -> bool:
        return any(mark != Mark(panel, channel) for (_, channel), mark in kept.marks.items())

    def _in_flight(self) -> Counter[int]:
        """Panels between trigger and decision at the moment of each trigger."""
        ends = {
            seq: rows[0]["trigger_ns"] + int((rows[0]["latency_ms"] or 0) * 1e6) for seq, rows in self._decided.items()
        }
        counted: Counter[int] = Counter()
        newest = [(row["trigger_ns"], ends.get(row["seq"], row["trigger_ns"])) for row in self._triggered]
        for number, (start_ns, _) in enumerate(newest):
            counted[1 + sum(end_ns > start_ns for _, end_ns in newest[max(number - 8, 0) : number])] += 1
        return counted


def _mark(path: Path) -> Mark | None:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    is_frame = picture is not None and picture.ndim == 2 and picture.dtype == np.uint8
    return watermark.read(np.asarray(picture, np.uint8)) if is_frame else None


def _said(kept: list[Kept]) -> str:
    return ", ".join(
        f"{camera} {channel}: {mark and f'panel {mark.panel} channel {mark.channel}'}"
        for one in kept
        for (camera, channel), mark in sorted(one.marks.items())
    )
