"""A disk that stays full: what waits for it is bounded, and every trigger and outcome is counted all the same."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_parts import counted, lines_of, panel, rewrite
from test_ledger import disk_of

from pipeline.errors import LedgerError
from pipeline.ledger import GENESIS, Ledger, ledger_files, line_hash
from pipeline.messages import Fault, Outcome
from pipeline.owed import size_of, within
from pipeline.recount import newest, recount
from pipeline.verify import verified

MOST = 4_000
WALL = "2026-03-01T00:00:00+00:00"


def owing(ledger: Ledger, seqs: range, fault: Fault | None = Fault.LEDGER) -> int:
    """Panels that come and go while nothing can be written; the most records that waited."""
    most = 0
    for seq in seqs:
        token = f"{seq:032x}"
        steps: list[tuple[str, dict[str, Any]]] = [
            ("trigger", {"panel_id": f"p{seq}"}),
            ("verdict", {"outcome": "REJECT", "defects": [{"x": 1}] * 5}),
            ("intent", {"outcome": "REJECT", "fault": fault}),
            ("outcome", {"outcome": "REJECT", "fault": fault}),
        ]
        for step, what in steps:
            with pytest.raises(LedgerError, match="no panel passes until"):
                ledger.record(step, token=token, seq=seq, **what)
        most = max(most, ledger.owed)
    return most


def test_what_a_full_disk_is_owed_is_bounded_and_adds_up_once_there_is_room(tmp_path):
    with Ledger(tmp_path, "cell_1", MOST) as ledger:
        panel(ledger, 1)
        panel(ledger, 2, None)
        with disk_of(ledger_files(tmp_path)[0].stat().st_size):
            with pytest.raises(LedgerError):
                ledger.record("outcome", token=f"{2:032x}", seq=2, outcome=Outcome.REJECT, fault=Fault.LEDGER)
            some, more = owing(ledger, range(3, 100)), owing(ledger, range(100, 500), None)
        assert some < 50 and more < 50
        panel(ledger, 500)
        panel(ledger, 501, None)
    count = counted(tmp_path)
    assert (count.first_broken, count.triggers, count.passed, count.rejected) == (None, 501, 2, 400)
    assert count.faults == {"LEDGER": 1 + 97} and list(count.open) == [f"{501:032x}"]
    assert count.folded > 400 and count.left_out > 800
    figures = verified(tmp_path, anchored=False)
    assert (figures["intact"], figures["folded"], figures["left_out"]) == (True, count.folded, count.left_out)
    assert newest(tmp_path).last_seq == 501
    [note] = [record for line in lines_of(tmp_path) if (record := json.loads(line))["step"] == "folded"]
    assert (note["first_seq"], note["last_seq"]) == (3, 2 + count.folded)  # the oldest, and none between them is left


def test_a_short_time_without_room_loses_no_detail(tmp_path):
    with Ledger(tmp_path, "cell_1", MOST) as ledger:
        panel(ledger, 1)
        with disk_of(ledger_files(tmp_path)[0].stat().st_size):
            owing(ledger, range(2, 6))
        panel(ledger, 6)
    count = counted(tmp_path)
    assert (count.intact, count.triggers, count.folded, count.left_out) == (True, 6, 0, 0)
    assert sum(json.loads(line)["step"] == "verdict" for line in lines_of(tmp_path)) == 4


def closed_panel(seq: int, passed: bool, fault: Fault | None) -> list[dict[str, Any]]:
    outcome = Outcome.PASS if passed else Outcome.REJECT
    about = {"token": f"{seq:032x}", "seq": seq}
    return [
        {"step": "trigger", **about},
        {"step": "intent", "outcome": outcome, "fault": fault, **about},
        {"step": "outcome", "outcome": outcome, "fault": fault, **about},
    ]


PANEL = st.tuples(st.booleans(), st.sampled_from([None, Fault.LATE, Fault.LEDGER]), st.booleans())


@given(st.lists(PANEL, max_size=30), st.integers(0, 3000), st.integers(0, 40))
def test_leaving_out_and_folding_change_no_count_and_no_open_panel(panels, most_bytes, again_at):
    """An open panel keeps its intent as well."""
    records: list[dict[str, Any]] = []
    for seq, (passed, fault, closed) in enumerate(panels):
        records += closed_panel(seq, passed, fault)[: 3 if closed else 2]
        if seq == again_at:
            records = within(records, most_bytes, WALL)
    bounded = within(records, most_bytes, WALL)
    before, after = (recount(chain(part)) for part in (records, bounded))
    for name in ("triggers", "passed", "rejected", "faults"):
        assert getattr(before, name) == getattr(after, name), name
    intents = [{token: record.get("intent") for token, record in count.open.items()} for count in (before, after)]
    assert intents[0] == intents[1]
    assert after.intact
    assert after.passed == sum(passed for passed, fault, closed in panels if closed and not fault)
    assert after.faults == Counter(fault.value for _, fault, closed in panels if closed and fault)
    rejects = [record for record in bounded if record["step"] == "outcome" and record["outcome"] == Outcome.REJECT]
    left = [record for record in bounded if record["step"] != "folded"]
    assert sum(map(size_of, left)) <= most_bytes or not rejects
    passes = {record["token"] for record in bounded if record["step"] == "outcome"} - {r["token"] for r in rejects}
    assert len(passes) == sum(passed for passed, _, closed in panels if closed)


def chain(records: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    lines, previous = [], GENESIS
    for number, record in enumerate(records):
        line = json.dumps({"n": number, **record, "prev": previous}).encode()
        previous = line_hash(line)
        lines.append((f"x:{number + 1}", line))
    return lines


@pytest.mark.parametrize(
    "change",
    [{"rejected": 4}, {"triggers": -1}, {"faults": {"NO": 3}}, {"faults": []}, {"left_out": None}, {"left_out": True}],
)
def test_a_folded_record_that_does_not_add_up_is_no_record(change):
    good = {"step": "folded", "triggers": 3, "rejected": 3, "faults": {}, "left_out": 2}
    assert recount(chain([good])).triggers == 3 and recount(chain([good])).intact
    assert recount(chain([good | change])).first_broken == "x:1: not a record"


def test_a_folded_record_changed_afterwards_is_named(tmp_path):
    with Ledger(tmp_path, "cell_1", MOST) as ledger:
        panel(ledger, 1)
        with disk_of(ledger_files(tmp_path)[0].stat().st_size):
            owing(ledger, range(2, 100), None)
        panel(ledger, 100)
    lines = lines_of(tmp_path)
    [at] = [place for place, line in enumerate(lines) if b'"step":"folded"' in line]
    record = json.loads(lines[at])
    record |= {"triggers": record["triggers"] - 1, "rejected": record["rejected"] - 1}
    lines[at] = json.dumps(record, separators=(",", ":")).encode() + b"\n"
    rewrite(tmp_path, lines)
    broken = counted(tmp_path).first_broken
    assert broken is not None and broken.endswith(f":{at + 2}: does not follow the record before it")
