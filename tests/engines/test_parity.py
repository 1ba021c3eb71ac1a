"""An engine is certified only where its verdicts are the reference's; each of these faults is planted, none gets by."""

import re
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import planted
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_recipe import limits

from engines import recipe as recipes
from engines.cache import Cache, Choice
from engines.certifying import Workshop
from engines.parity import PanelProof, _batches, judge
from engines.recipe import Recipe

DEMO = Path(__file__).parents[2] / "pipeline" / "demo" / "recipe"
SIGNATURE = "signed"


@cache
def demo() -> Recipe:
    return recipes.load(DEMO)


def workshop(folder: Path) -> Workshop:
    """Signs with a word."""
    cache = Cache(folder / "engines", lambda text, signature: signature == SIGNATURE)
    return Workshop(cache, lambda text: SIGNATURE, "2026-01-01T00:00:00+00:00")


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[planted.Fault], None]:
    return lambda fault: monkeypatch.setitem(sys.modules, planted.NAME, planted.runtime(fault))


def panel(name: str, reference: float, *scores: float, defective: bool = False, map_error: float = 0.0) -> PanelProof:
    seen = scores or (reference,)
    return PanelProof(
        name=name,
        defective=defective,
        reference=reference,
        lowest=min(seen),
        highest=max(seen),
        rows=0.0,
        repeat=0.0,
        map_error=map_error,
    )


def test_the_engine_that_the_recipe_was_taught_with_is_granted(tmp_path, plant):
    plant(planted.none)
    built = workshop(tmp_path).build(demo(), Choice("planted", "fp32", 1, 1))
    found = built.certificate
    assert found.granted and not found.reason and not found.flipped
    assert len(found.panels) == 16 and found.score_error is not None and found.score_error < 1e-4
    assert found.nearest_margin == min(abs(one.score - demo().manifest.limits.image) for one in demo().golden)
    assert all(one.rows == one.repeat == 0 for one in found.panels)  # row by row, on a CPU


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (planted.swapped_channels, "otherwise|off by"),
        (planted.missing_normalisation, "otherwise|off by|finite"),
        (planted.fp16_overflow, "no finite score"),
        (planted.row_dependent, "otherwise|off by"),
        (planted.row_for_row, "the map of"),
        (planted.uncovered_tile, "no finite score"),
        (planted.unrepeatable(), "otherwise|off by"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_an_engine_with_a_fault_is_refused(tmp_path, plant, fault, said):
    plant(fault)
    found = workshop(tmp_path).build(demo(), Choice("planted", "fp32", 1, 1)).certificate
    assert not found.granted
    assert re.search(said, found.reason), found.reason


def test_the_row_beside_the_largest_batch_which_the_golden_defect_takes_is_proven_too(tmp_path, plant):
    plant(planted.wrong_from_row(1))
    assert not workshop(tmp_path).build(demo(), Choice("planted", "fp32", 1, 1)).certificate.granted


def test_rows_that_no_batch_has_are_not_asked_for(tmp_path, plant):
    plant(planted.wrong_from_row(2))
    assert workshop(tmp_path).build(demo(), Choice("planted", "fp32", 1, 1)).certificate.granted


@given(st.integers(1, 20), st.integers(1, 9))
def test_every_panel_is_seen_at_every_batch_size_and_every_row_is_taken(count, largest):
    panels = list(range(count))
    batches = list(_batches(panels, largest))  # type: ignore[arg-type]
    for size in range(1, largest + 1):
        of_size = [batch for batch in batches if len(batch) == size]
        assert set().union(*of_size) == set(panels)
        assert len(of_size) == -(-count // size)
    assert Counter(map(len, batches)).keys() == set(range(1, largest + 1))


def test_a_recipe_without_golden_panels_cannot_be_certified():
    good, bad = panel("good_0", 0.4), panel("defect_0", 0.6, defective=True)
    assert judge([good, bad], limits(image=0.5)).granted
    for lacking in ([], [good], [bad]):
        assert "lacks golden panels" in judge(lacking, limits(image=0.5)).reason


def test_a_map_that_is_off_is_refused_although_the_scores_are_right():
    found = judge([panel("good_0", 0.4, map_error=0.3), panel("defect_0", 0.6, defective=True)], limits(image=0.5))
    assert found.reason.startswith("the map of good_0 is off by 30%")


def test_a_score_below_the_lower_bound_flips_a_good_panel():
    found = judge([panel("good_0", 0.4, 0.1), panel("defect_0", 0.6, defective=True)], limits(image=0.5, low=0.2))
    assert found.flipped == ("good_0",)


scores = st.floats(0.01, 1.0)


@given(st.lists(st.tuples(scores, st.floats(-0.2, 0.2)), min_size=1, max_size=6), st.floats(0.2, 0.8))
def test_what_is_granted_keeps_every_verdict_with_room_to_spare(panels, limit):
    proofs = [panel(f"p{n}", ref, ref + off, ref, defective=ref > limit) for n, (ref, off) in enumerate(panels)]
    found = judge(proofs, limits(image=limit, low=-1.0))
    if found.granted:
        nearest = min(abs(one.reference - limit) for one in proofs)
        assert all(one.error() < nearest / 4 for one in proofs)
        assert not found.flipped and found.nearest_margin == nearest
    elif found.flipped:
        assert any(
            (score <= limit) != (one.reference <= limit) for one in proofs for score in (one.lowest, one.highest)
        )
