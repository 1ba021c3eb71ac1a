"""The plan: the same on every machine, and exact in its share."""

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from engines.errors import UsageError
from pipeline.simulation.defects import KINDS
from pipeline.simulation.plan import BLOCK, Plan

plans = st.builds(
    Plan,
    seed=st.integers(0, 2**40),
    defective_share=st.floats(0, 1),
    kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, unique=True).map(tuple),
    pool_good=st.integers(1, 9),
    pool_defective=st.integers(1, 4),
)


@given(plan=plans, index=st.integers(0, 2**32 - 2))
def test_equal_settings_give_an_equal_plan_in_any_order_of_asking(plan, index):
    twin = Plan.model_validate(plan.model_dump(mode="json"))
    twin.panel(index + 17)
    assert twin.panel(index) == plan.panel(index)


def test_another_process_computes_the_same():
    ask = "from pipeline.simulation.plan import Plan; print([Plan(seed=5).panel(i) for i in range(40)])"
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str([Plan(seed=5).panel(i) for i in range(40)])


@given(seed=st.integers(0, 1000), tenths=st.integers(0, 10), block=st.integers(0, 10_000))
def test_every_block_of_ten_has_its_exact_share(seed, tenths, block):
    plan = Plan(seed=seed, defective_share=tenths / 10)
    found = [plan.panel(block * BLOCK + place) for place in range(BLOCK)]
    assert sum(panel.kind is not None for panel in found) == tenths


@given(plan=plans, blocks=st.integers(1, 30))
def test_a_share_that_does_not_divide_is_exact_over_blocks(plan, blocks):
    found = sum(plan.panel(index).kind is not None for index in range(blocks * BLOCK))
    assert abs(found - plan.defective_share * blocks * BLOCK) < 1.01


@given(plan=plans)
def test_kinds_take_turns_and_every_panel_is_in_the_pool(plan):
    panels = [plan.panel(index) for index in range(200)]
    assert {panel.entry for panel in panels} <= set(plan.entries())
    counts = Counter(panel.kind for panel in panels if panel.kind)
    assert not counts or max(counts.values()) - min(counts[kind] for kind in plan.kinds) <= 1


@given(plan=plans, index=st.integers(0, 500))
def test_a_panel_says_its_defect_and_size(plan, index):
    panel = plan.panel(index)
    assert (panel.defect is None) == (panel.kind is None) == (panel.size_px == 0)
    if panel.defect:
        low, high = KINDS[panel.defect.kind].sizes_px
        assert low <= panel.size_px <= high and panel.defect.kind == panel.kind


def test_places_of_the_defective_ones_change_from_block_to_block():
    plan = Plan(seed=1)
    places = {tuple(i for i in range(BLOCK) if plan.panel(b * BLOCK + i).kind) for b in range(20)}
    assert len(places) > 5


def test_wrong_settings_and_indices_are_refused():
    with pytest.raises(ValidationError, match="no defect kind 'crack'"):
        Plan(kinds=("crack",))
    with pytest.raises(ValidationError):
        Plan(defective_share=1.5)
    with pytest.raises(UsageError, match="count from 0"):
        Plan().panel(-1)
