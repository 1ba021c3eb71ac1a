"""What a derived graph changed, told from the answers of the same panels."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.derivation import Answer, auroc, change

LIMIT = 1.0


def answer(name: str, defective: bool, score: float, cells: Sequence[float] = (0.0, 1.0)) -> Answer:
    margin = score - LIMIT if defective else LIMIT - score
    return Answer(name, defective, score <= LIMIT, score, margin, np.array([cells], np.float32))


def test_errors_flips_and_margins_are_told() -> None:
    before = [answer("a", False, 0.5), answer("b", False, 0.9), answer("c", True, 1.2), answer("d", True, 2.0)]
    after = [
        answer("a", False, 0.6),
        answer("b", False, 1.1),
        answer("c", True, 1.2, (0.0, 0.75)),
        answer("d", True, 2),
    ]
    found = change(before, after)
    assert found.panels == 4 and found.flipped == ("b",) and found.nearest == "b"
    assert found.score_error == pytest.approx(0.2)
    assert found.score_error_relative == pytest.approx(0.2 / 0.9)
    assert found.map_error == pytest.approx(0.25)
    assert found.nearest_margin == pytest.approx(0.1)
    assert (found.margin_before, found.margin_after) == (pytest.approx(0.1), pytest.approx(-0.1))
    assert found.auroc_before == found.auroc_after == 1.0


def test_the_same_answers_change_nothing() -> None:
    answers = [answer("a", False, 0.5), answer("c", True, 1.2)]
    found = change(answers, answers)
    assert found.score_error == found.map_error == 0 and not found.flipped
    assert found.margin_before == found.margin_after


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=30))
def test_auroc_is_the_share_of_pairs_in_order(labelled: list[tuple[bool, int]]) -> None:
    answers = [answer("x", defective, float(score)) for defective, score in labelled]
    pairs = [(b, g) for defective, b in labelled if defective for other, g in labelled if not other]
    expected = sum((b > g) + 0.5 * (b == g) for b, g in pairs) / len(pairs) if pairs else None
    assert auroc(answers) == (None if expected is None else pytest.approx(expected))
