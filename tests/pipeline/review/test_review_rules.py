"""What findings of several people come to, the plant's classes, shares with intervals, cursors; no store."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.rates import interval
from pipeline.errors import ConfigError, UsageError
from pipeline.review import codes, cursors
from pipeline.review.facts import Finding, Standing, State, Vote
from pipeline.review.intervals import control_limits, pareto, share
from pipeline.review.standing import standing

GOOD, DEFECTIVE, LAB = Finding.GOOD, Finding.DEFECTIVE, Finding.LAB


def vote(n: int, by: str, finding: Finding, code: str = "", *, undone: bool = False) -> Vote:
    at = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=n)
    return Vote(n=n, by=by, at=at, finding=finding, code=code, comment="", undone=undone)


# --- standing ---


def test_one_person_settles_it_and_may_change_his_mind():
    assert standing([], two_persons=False) == Standing()
    said = standing([vote(1, "eve", DEFECTIVE, "dust"), vote(2, "eve", GOOD)], two_persons=False)
    assert (said.state, said.finding, said.code, said.votes) == (State.DONE, GOOD, "", 1)


def test_what_was_undone_does_not_count():
    votes = [vote(1, "eve", DEFECTIVE, "dust"), vote(2, "eve", GOOD, undone=True)]
    assert standing(votes, two_persons=False).finding is DEFECTIVE
    assert standing([vote(1, "eve", GOOD, undone=True)], two_persons=False) == Standing()


def test_two_persons_must_agree_and_a_third_decides_where_they_do_not():
    first, second, third = vote(1, "eve", GOOD), vote(2, "tom", DEFECTIVE, "dent"), vote(3, "ann", DEFECTIVE, "dust")
    assert standing([first], two_persons=True).state is State.HALF
    assert standing([first, second], two_persons=True).state is State.DISPUTED
    settled = standing([first, second, third], two_persons=True)
    assert (settled.state, settled.finding, settled.code) == (State.DONE, DEFECTIVE, "dust")


def test_one_person_is_not_two_however_often_he_says_it():
    said = standing([vote(n, "eve", GOOD) for n in range(5)], two_persons=True)
    assert (said.state, said.finding, said.votes) == (State.HALF, None, 1)


@pytest.mark.parametrize("two_persons", [True, False])
def test_what_goes_to_the_lab_stays_open(two_persons):
    said = standing([vote(1, "eve", GOOD), vote(2, "tom", GOOD), vote(3, "ann", LAB)], two_persons=two_persons)
    assert (said.state, said.finding) == (State.LAB, None)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(Finding), st.booleans()), max_size=6), st.booleans())
def test_nothing_is_settled_but_by_as_many_as_it_takes(said, two_persons):
    votes = [vote(n, by, finding, undone=undone) for n, (by, finding, undone) in enumerate(said)]
    found = standing(votes, two_persons=two_persons)
    assert (found.state is State.DONE) == (found.finding is not None)
    newest = {one.by: one.finding for one in votes if not one.undone}
    if found.finding:
        assert list(newest.values()).count(found.finding) >= 1 + two_persons
    for shuffled in list(permutations(votes))[:6]:
        assert standing(shuffled, two_persons=two_persons) == found


# --- classes ---

TREE = """
[[codes]]
code = "SCR"
text = "scratch"
key = "1"
[[codes.under]]
code = "SCR-POL"
text = "scratch in the polariser"
[[codes]]
code = "DST"
text = "dust"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "codes.toml"
    path.write_text(text)
    return path


def test_the_plants_tree_is_read_and_a_class_means_those_below_it(tmp_path):
    tree = codes.read(written(tmp_path, TREE))
    assert [(one.code, one.key) for one in codes.flat(tree)] == [("SCR", "1"), ("SCR-POL", ""), ("DST", "")]
    assert codes.below(tree, "SCR") == ["SCR", "SCR-POL"]
    assert codes.below(tree, "retired") == ["retired"]


def test_without_a_file_there_is_a_small_tree_with_keys():
    assert [one.key for one in codes.read(None)] == list("123456789")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("codes = 3", "codes"),
        ("codes = []", "codes"),
        ("not toml", "not a TOML file"),
        (TREE + '[[codes]]\ncode = "SCR"\ntext = "again"', "code 'SCR' stands there twice"),
        (TREE + '[[codes]]\ncode = "X"\ntext = "x"\nkey = "1"', "key '1' stands there twice"),
        ('[[codes]]\ncode = "../x"\ntext = "x"', "code"),
        ('[[codes]]\ncode = "good"\ntext = "x"', "no defect class"),
        ('[[codes]]\ncode = "x"\ntext = "x"\nkye = "1"', "did you mean 'key'"),
    ],
)
def test_a_tree_that_cannot_be_used_is_one_line(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said) as error:
        codes.read(written(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_tree_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        codes.read(tmp_path / "none.toml")


# --- shares ---


def test_a_share_has_the_interval_of_every_other_count():
    found = share(3, 200)
    assert (found.rate, found.lower95, found.upper95) == (3 / 200, *interval(3, 200))


def test_a_share_of_nothing_has_no_rate():
    nothing = share(0, 0)
    assert (nothing.rate, nothing.lower95, nothing.upper95) == (None, None, None)


def test_control_limits_are_three_sigma_within_0_and_1():
    assert control_limits(0.1, 900) == pytest.approx((0.07, 0.13))
    assert control_limits(0.01, 10)[0] == 0.0


def test_a_pareto_begins_with_the_largest_and_ends_at_all():
    bars = pareto({"b": 1, "a": 1, "c": 8}, {"c": "see"})
    assert [(bar.name, bar.text) for bar in bars] == [("c", "see"), ("a", "a"), ("b", "b")]
    assert [bar.cumulative for bar in bars] == [0.8, 0.9, 1.0]
    assert pareto({}, {}) == []


# --- cursors ---


@given(st.integers(-9, 9), st.text(st.characters(codec="ascii", min_codepoint=1), max_size=40))
def test_a_cursor_comes_back_as_it_was(number, text):
    assert cursors.unpacked(cursors.packed(number, text), int, str) == [number, text]


@given(st.text(max_size=60))
def test_whatever_is_no_cursor_is_refused_in_one_line(text):
    with pytest.raises(UsageError, match="cursor"):
        cursors.unpacked(text, int, str, str)


@pytest.mark.parametrize("parts", [(1, "a"), ("1", "a", "b"), (1 << 70, "a", "b"), (1, "a\x00", "b"), (True, "a", "b")])
def test_a_cursor_of_another_list_is_refused(parts):
    with pytest.raises(UsageError, match="cursor"):
        cursors.unpacked(cursors.packed(*parts), int, str, str)
