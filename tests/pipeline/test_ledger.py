"""The ledger's writer: a chain that goes on over days, crashes and full disks."""

import json
import os
import resource
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from ledger_parts import counted, lines_of, panel, rewrite, written

from pipeline import ledger as ledger_module
from pipeline.errors import LedgerError
from pipeline.ledger import Ledger, ledger_files, lines_since, next_number, read_lines
from pipeline.messages import Fault, Outcome
from pipeline.recount import newest, recount


class Clock:
    """A wall clock that the test sets."""

    today = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)

    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return cls.today


@pytest.fixture
def wall(monkeypatch) -> type[Clock]:
    monkeypatch.setattr(ledger_module, "datetime", Clock)
    monkeypatch.setattr(Clock, "today", datetime(2026, 3, 1, 23, 59, tzinfo=UTC))
    return Clock


# --- the chain ---


def test_a_clean_ledger_adds_up(tmp_path):
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 1)
        panel(ledger, 2, Outcome.REJECT)
        panel(ledger, 3, Outcome.REJECT, Fault.LATE)
        panel(ledger, 4, Outcome.REJECT, Fault.LATE)
        panel(ledger, 5, Outcome.PASS, Fault.CONFLICT)  # passed, but not because it was found good
        panel(ledger, 6, None)
    count = counted(tmp_path)
    assert (count.intact, count.triggers, count.passed, count.rejected) == (True, 6, 1, 1)
    assert count.faults == {"LATE": 2, "CONFLICT": 1}
    assert list(count.open) == [f"{6:032x}"] and count.last_seq == 6
    assert count.outcomes[5]["outcome"] == "PASS"


def test_every_line_holds_the_hash_of_the_line_before_it(tmp_path):
    """Recomputed here with nothing of ours."""
    lines = written(tmp_path)
    previous = "0" * 64
    for number, line in enumerate(lines):
        record = json.loads(line)
        assert (record["n"], record["prev"], record["station"]) == (number, previous, "cell_1")
        previous = sha256(line.rstrip(b"\n")).hexdigest()
    assert json.loads(lines[0])["step"] == "file" and json.loads(lines[0])["format"] == 1


def test_a_record_is_in_the_file_when_record_returns(tmp_path):
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 1)
        assert counted(tmp_path).passed == 1


def test_it_goes_on_where_the_last_process_ended(tmp_path):
    for seq in (1, 2, 3):
        with Ledger(tmp_path, "cell_1") as ledger:
            panel(ledger, seq)
    count = counted(tmp_path)
    assert (count.intact, count.passed, count.records) == (True, 3, 10)
    assert next_number(tmp_path) == 10


def test_an_open_panel_keeps_what_was_about_to_be_written(tmp_path):
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 1, None)
        ledger.record("intent", token=f"{1:032x}", seq=1, outcome=Outcome.PASS, fault=None)
    assert counted(tmp_path).open[f"{1:032x}"]["intent"] == "PASS"


def test_a_new_day_is_a_new_file_in_the_same_chain(tmp_path, wall):
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 1)
        wall.today = datetime(2026, 3, 2, 0, 1, tzinfo=UTC)
        panel(ledger, 2)
    with Ledger(tmp_path, "cell_1") as ledger:
        wall.today = datetime(2026, 3, 3, 0, 1, tzinfo=UTC)
        panel(ledger, 3)
    assert [file.name for file in ledger_files(tmp_path)] == [f"2026-03-0{day}.jsonl" for day in (1, 2, 3)]
    assert all(json.loads(file.read_bytes().splitlines()[0])["step"] == "file" for file in ledger_files(tmp_path))
    assert counted(tmp_path).intact and counted(tmp_path).passed == 3
    assert recount(read_lines(ledger_files(tmp_path)[1:]), whole=False).passed == 2
    assert [json.loads(line)["n"] for _, line in lines_since(tmp_path, 6)] == list(range(6, 12))


def test_a_clock_set_back_stays_in_the_open_file(tmp_path, wall):
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 1)
        wall.today = datetime(2026, 2, 1, tzinfo=UTC)
        panel(ledger, 2)
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 3)
    assert len(ledger_files(tmp_path)) == 1 and counted(tmp_path).intact


def test_what_is_no_number_becomes_null_wherever_it_stands(tmp_path):
    with Ledger(tmp_path, "cell_1") as ledger:
        nan, inf = float("nan"), float("inf")
        ledger.record("state", score=nan, limit=-inf, defects=({"peak": inf, "x": 1},), terms={"a": {"mm": nan}})
    record = json.loads(lines_of(tmp_path)[-1], parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert (record["score"], record["limit"], record["terms"]) == (None, None, {"a": {"mm": None}})
    assert record["defects"] == [{"peak": None, "x": 1}]


# --- crashes ---


@pytest.mark.parametrize("kept", [1, 20, -2])
def test_a_torn_last_line_is_named_and_the_ledger_goes_on(tmp_path, kept):
    lines = written(tmp_path)
    rewrite(tmp_path, [*lines[:-1], lines[-1][:kept]])
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 9)
    count = counted(tmp_path)
    assert count.first_broken is not None and count.first_broken.endswith(f"jsonl:{len(lines)}: not a record")
    assert count.outcomes.keys() == {1, 2, 3, 9}
    assert [json.loads(line)["n"] for line in lines_of(tmp_path)[len(lines) :]] == [
        len(lines) + ahead for ahead in range(3)
    ]


def test_a_line_that_lacks_only_its_end_is_whole(tmp_path):
    lines = written(tmp_path)
    rewrite(tmp_path, [*lines[:-1], lines[-1].rstrip(b"\n")])
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 9)
    assert counted(tmp_path).intact


def test_a_crash_between_a_new_days_file_and_its_first_line_breaks_nothing(tmp_path, wall):
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 1)
    (tmp_path / "2026-03-02.jsonl").touch()
    wall.today = datetime(2026, 3, 2, 0, 1, tzinfo=UTC)
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 2)
    assert counted(tmp_path).intact and counted(tmp_path).passed == 2


# --- what cannot be written ---


@contextmanager
def disk_of(size: int):
    """No file of this process grows beyond `size` bytes meanwhile: the next write is cut off there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 1, 150])
def test_a_full_disk_loses_no_record_once_there_is_room_again(tmp_path, room):
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 1)
        panel(ledger, 2, None)
        [file] = ledger_files(tmp_path)
        before = file.read_bytes()
        with disk_of(file.stat().st_size + room):
            for what in ({"step": "trigger", "seq": 3}, {"step": "outcome", "seq": 2}):
                with pytest.raises(LedgerError, match="no panel passes until") as error:
                    ledger.record(
                        what["step"], token=f"{what['seq']:032x}", seq=what["seq"], outcome="REJECT", fault="LEDGER"
                    )
                assert "\n" not in str(error.value)
        assert file.read_bytes() == before  # half a record would spoil the next one
        ledger.record("outcome", token=f"{3:032x}", seq=3, outcome="REJECT", fault="LEDGER")
    count = counted(tmp_path)
    assert (count.intact, count.triggers, count.passed, count.open) == (True, 3, 1, {})
    assert count.faults == {"LEDGER": 2}


def test_a_new_day_that_cannot_be_opened_leaves_other_files_alone(tmp_path, wall):
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 1)
        wall.today = datetime(2026, 3, 2, 0, 1, tzinfo=UTC)
        (tmp_path / "2026-03-02.jsonl").mkdir()
        for _ in range(2):
            with pytest.raises(LedgerError, match="no panel passes until"):
                ledger.record("state", event="x")
            with (tmp_path / "other").open("wb") as other:  # it would get the number of a file closed by mistake
                other.write(b"mine")
                assert os.fstat(other.fileno()).st_size >= 0
        (tmp_path / "2026-03-02.jsonl").rmdir()
        panel(ledger, 2)
    count = counted(tmp_path)
    assert count.intact and count.passed == 2
    assert (tmp_path / "other").read_bytes() == b"mine"


@pytest.mark.parametrize("what", ["folder is a file", "last file is a folder"])
def test_a_ledger_that_cannot_be_opened_is_one_line(tmp_path, what):
    folder = tmp_path / "ledger"
    if what == "folder is a file":
        folder.parent.joinpath("ledger").write_text("x" * 10)
        folder = folder / "inside"
    else:
        (folder / "2099-01-01.jsonl" / "x").mkdir(parents=True)
    with pytest.raises(LedgerError) as error, Ledger(folder, "cell_1") as ledger:
        ledger.record("state")
    assert "\n" not in str(error.value) and error.value.exit_status == 3


def test_a_missing_first_file_is_seen(tmp_path, wall):
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 1)
        wall.today = datetime(2026, 3, 2, 0, 1, tzinfo=UTC)
        panel(ledger, 2)
    ledger_files(tmp_path)[0].unlink()
    assert counted(tmp_path).first_broken == "2026-03-02.jsonl:1: does not follow the record before it"


def test_a_start_reads_the_ledgers_end_alone_and_finds_what_is_open(tmp_path, monkeypatch):
    with Ledger(tmp_path, "cell_1") as ledger:
        for seq in range(200):
            ledger.record("trigger", token=f"{seq:032x}", seq=seq, panel_id="p", recipe_no=1)
            if seq != 198:
                ledger.record("outcome", token=f"{seq:032x}", seq=seq, outcome="PASS", fault=None)
    monkeypatch.setattr("pipeline.ledger.TAIL_BYTES", 2_000)
    count = newest(tmp_path)
    assert count.records < 20
    assert [record["seq"] for record in count.open.values()] == [198]
    assert count.last_seq == 199
    assert next_number(tmp_path) == 1 + 200 + 199
    with Ledger(tmp_path, "cell_1") as ledger:
        ledger.record("state", event="later")
    assert recount(read_lines(ledger_files(tmp_path))).intact
