"""The ledger: a chain that goes on over days, crashes and full disks, and a recount that names what was touched."""

import json
import os
import random
import resource
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import ledger as ledger_module
from pipeline.errors import LedgerError
from pipeline.ledger import Ledger, ledger_files, lines_since, next_number, read_lines, recount
from pipeline.messages import Fault, Outcome


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


def panel(ledger: Ledger, seq: int, outcome: Outcome | None = Outcome.PASS, fault: Fault | None = None) -> None:
    """What the bridge records of a panel; without an outcome the panel stays open."""
    token = f"{seq:032x}"
    ledger.record("trigger", token=token, seq=seq, panel_id=f"p{seq}", recipe_no=1, edge_ns=seq)
    if outcome is not None:
        ledger.record("intent", token=token, seq=seq, outcome=outcome, fault=fault)
        ledger.record("outcome", token=token, seq=seq, outcome=outcome, fault=fault, score=0.1)


def counted(folder: Path):
    return recount(read_lines(ledger_files(folder)))


def lines_of(folder: Path) -> list[bytes]:
    return [line for _, line in read_lines(ledger_files(folder))]


def rewrite(folder: Path, lines: list[bytes]) -> None:
    [file] = ledger_files(folder)
    file.write_bytes(b"".join(lines))


def written(folder: Path, panels: int = 4) -> list[bytes]:
    """A ledger of some panels, the last one still open; its lines."""
    with Ledger(folder, "cell_1") as ledger:
        for seq in range(1, panels):
            panel(ledger, seq, Outcome.PASS if seq % 2 else Outcome.REJECT, Fault.LATE if seq % 4 == 2 else None)
        panel(ledger, panels, None)
    return lines_of(folder)


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


# --- recount ---


def _swapped(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]


def _changed(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], lines[at].replace(b'"station":"cell_1"', b'"station":"cell_2"'), *lines[at + 1 :]]


TOUCHED = {
    "deleted": (lambda lines, at: [*lines[:at], *lines[at + 1 :]], 0),
    "doubled": (lambda lines, at: [*lines[: at + 1], *lines[at:]], 1),
    "reordered": (_swapped, 0),
    "changed": (_changed, 1),  # the next one's hash shows it
    "cut off": (lambda lines, at: [*lines[:at], lines[at][: len(lines[at]) // 2] + b"\n", *lines[at + 1 :]], 0),
    "emptied": (lambda lines, at: [*lines[:at], b"\n", *lines[at + 1 :]], 0),
    "put in": (lambda lines, at: [*lines[:at], lines[0], *lines[at:]], 0),
    "joined": (lambda lines, at: [*lines[:at], lines[at].rstrip(b"\n") + lines[at + 1], *lines[at + 2 :]], 0),
}


@pytest.mark.parametrize("how", TOUCHED)
@pytest.mark.parametrize("at", [1, 3, 7])
def test_a_touched_record_is_named(tmp_path, how, at):
    lines = written(tmp_path)
    touch, later = TOUCHED[how]
    rewrite(tmp_path, touch(lines, at))
    count = counted(tmp_path)
    assert not count.intact
    assert count.first_broken is not None
    assert count.first_broken.split(": ")[0].endswith(f".jsonl:{at + 1 + later}")


def test_a_missing_first_file_is_seen(tmp_path, wall):
    with Ledger(tmp_path, "cell_1") as ledger:
        panel(ledger, 1)
        wall.today = datetime(2026, 3, 2, 0, 1, tzinfo=UTC)
        panel(ledger, 2)
    ledger_files(tmp_path)[0].unlink()
    assert counted(tmp_path).first_broken == "2026-03-02.jsonl:1: does not follow the record before it"


FIELDS = ["n", "step", "token", "seq", "outcome", "fault", "prev", "station"]
JUNK = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=2), st.booleans())


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> list[bytes]:
    return written(tmp_path_factory.mktemp("ledger"), panels=6)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_change_of_a_record_escapes_or_stops_the_count(lines, data):
    """All but the last record, whose hash nobody holds yet."""
    at = data.draw(st.integers(0, len(lines) - 2))
    record = json.loads(lines[at])
    field = data.draw(st.sampled_from([name for name in FIELDS if name in record]))
    junk = data.draw(JUNK)
    if data.draw(st.booleans()):
        del record[field]
    elif record[field] == junk:
        return
    else:
        record[field] = junk
    touched = [*lines[:at], json.dumps(record, separators=(",", ":")).encode() + b"\n", *lines[at + 1 :]]
    count = recount((f"f:{number}", line) for number, line in enumerate(touched, 1))
    assert not count.intact
    assert count.first_broken is not None and count.first_broken.split(":")[1] in (str(at + 1), str(at + 2))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_changed_byte_escapes_or_stops_the_count(lines, data):
    text = bytearray(b"".join(lines[:-1]))
    place = data.draw(st.integers(0, len(text) - 2))
    text[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[place]))
    split = (bytes(text) + lines[-1]).splitlines(keepends=True)
    assert not recount((f"f:{number}", line) for number, line in enumerate(split, 1)).intact


@pytest.mark.parametrize(
    "noise", [b"[" * 100_000, b"\xff\xfe", b"null", b"[1]", b'{"n":"1","step":"trigger","prev":""}']
)
def test_what_is_no_record_is_named_and_counting_goes_on(lines, noise):
    count = recount((f"f:{number}", line) for number, line in enumerate([*lines[:4], noise + b"\n", *lines[4:]], 1))
    assert count.first_broken == "f:5: not a record"
    assert count.outcomes.keys() >= {1, 3, 4, 5}


def forged(*records: dict) -> list[tuple[str, bytes]]:
    """A chain that holds, whatever it says: who can write the file can compute the hashes."""
    lines, previous = [], "0" * 64
    for number, record in enumerate(records):
        line = json.dumps({"n": number, "station": "s", **record, "prev": previous}).encode() + b"\n"
        previous = sha256(line.rstrip(b"\n")).hexdigest()
        lines.append((f"f:{number + 1}", line))
    return lines


TRIGGER = {"step": "trigger", "token": "a", "seq": 1}
OUTCOME = {"step": "outcome", "token": "a", "seq": 1, "outcome": "PASS", "fault": None}


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([OUTCOME], "f:1: an outcome without an open trigger"),
        ([TRIGGER, OUTCOME, OUTCOME], "f:3: an outcome without an open trigger"),
        ([TRIGGER, TRIGGER], "f:2: the same trigger twice"),
        ([TRIGGER, OUTCOME | {"token": "b"}], "f:2: an outcome without an open trigger"),
        ([TRIGGER, OUTCOME | {"fault": "BAD_LUCK"}], "f:2: not a record"),
        ([TRIGGER, OUTCOME | {"outcome": "MAYBE"}], "f:2: not a record"),
        ([TRIGGER, OUTCOME | {"n": 5}], "f:2: is number 5, expected 1"),
        ([{"step": "gossip"}], "f:1: unknown step 'gossip'"),
        ([{"step": "file", "format": 2}], "f:1: format 2 is newer than 1: update takt"),
    ],
)
def test_a_chain_that_holds_but_says_what_cannot_be_is_broken(records, says):
    assert recount(forged(*records)).first_broken == says


@given(
    st.lists(st.tuples(st.sampled_from(list(Outcome)), st.none() | st.sampled_from(list(Fault))), max_size=12),
    st.integers(),
)
@settings(max_examples=40, deadline=None)
def test_every_trigger_is_in_exactly_one_sum(tmp_path_factory, ends, seed):
    folder = tmp_path_factory.mktemp("sums")
    with Ledger(folder, "cell_1") as ledger:
        for seq in range(len(ends)):
            panel(ledger, seq, None)
        order = list(enumerate(ends))
        random.Random(seed).shuffle(order)
        for seq, (outcome, fault) in order:
            ledger.record("outcome", token=f"{seq:032x}", seq=seq, outcome=outcome, fault=fault)
    count = counted(folder)
    assert count.intact and count.balanced and not count.open
    assert count.triggers == len(ends) == count.passed + count.rejected + count.faults.total()
    assert count.passed == sum(end == (Outcome.PASS, None) for end in ends)
