"""The recount trusts no process: whatever was touched is named, and nothing stops the count."""

import json
import random
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_parts import counted, panel, rewrite, written

from pipeline.ledger import Ledger
from pipeline.messages import Fault, Outcome
from pipeline.recount import newest, recount

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


OLD, NEW = ({"recipe": f"recipe-{one}", "calibration": "flat", "engine": f"engine-{one}"} for one in "ab")
START = {"step": "start", "terms": {"1": OLD | {"limit": 0.5}}}
SWAP = {"step": "recipe", "number": 1, "from": OLD, "to": NEW}
BY_OLD, BY_NEW = (TRIGGER | {"recipe_no": 1} | each for each in (OLD, NEW))


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([START, BY_OLD, SWAP, OUTCOME | OLD], None),
        ([START, SWAP, BY_NEW, OUTCOME | NEW], None),
        ([START, SWAP, {**SWAP, "from": NEW, "to": OLD}, BY_OLD, OUTCOME | OLD], None),
        ([START, SWAP, START, BY_OLD, OUTCOME | OLD], None),
        ([BY_NEW, SWAP, OUTCOME | NEW], None),
        ([START, TRIGGER, OUTCOME], None),
        ([START, TRIGGER | {"recipe_no": 9, "recipe": "", "calibration": "", "engine": ""}], None),
        ([START, BY_OLD, SWAP, OUTCOME | NEW], "f:4: an outcome of another recipe or engine than its trigger's"),
        ([START, BY_OLD, OUTCOME | OLD | {"engine": "engine-b"}], "f:3: an outcome of another recipe or engine"),
        ([START, BY_OLD, OUTCOME], "f:3: an outcome of another recipe or engine than its trigger's"),
        ([START, SWAP, BY_OLD], "f:3: a trigger for a recipe or engine that was not in force"),
        ([START, BY_NEW], "f:2: a trigger for a recipe or engine that was not in force"),
        ([START, BY_OLD | {"recipe_no": 9}], "f:2: a trigger for a recipe or engine that was not in force"),
        ([START, SWAP, SWAP], "f:3: a swap from a recipe that was not in force"),
        ([START, SWAP | {"from": None}], "f:2: a swap from a recipe that was not in force"),
        ([START, SWAP | {"number": 2, "from": None}], None),
        ([START, SWAP | {"to": None}], "f:2: a swap of nothing that can be followed"),
        ([START, SWAP | {"from": "recipe-a"}], "f:2: a swap of nothing that can be followed"),
        ([START, SWAP | {"number": "1"}], "f:2: a swap of nothing that can be followed"),
    ],
)
def test_every_outcome_is_by_the_recipe_in_force_at_its_trigger(records, says):
    broken = recount(forged(*records)).first_broken
    assert broken == says if says is None else str(broken).startswith(says)


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


def test_what_each_slot_showed_is_known_after_a_start(tmp_path):
    """The newest trigger of each slot and, until the PLC has decided, its token; skipped numbers stood in no slot."""
    with Ledger(tmp_path, "cell_1") as ledger:
        for seq, token in ((1, "a"), (2, "b"), (5, "c"), (6, "d")):
            ledger.record("trigger", token=token, seq=seq)
        ledger.record("trigger", token="missed-3-0", seq=3, skipped=True)
        for seq, token, known in ((1, "a", True), (2, "b", False), (6, "d", True), (5, "c", False)):
            ledger.record("outcome", token=token, seq=seq, outcome="REJECT", fault=None, acknowledged=known)
    assert newest(tmp_path).shown == {1: (5, "c"), 2: (6, "")}
