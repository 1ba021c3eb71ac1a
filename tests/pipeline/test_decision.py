"""`proves` alone: each of its conditions is needed, whoever calls it."""

import pytest
from handshake_parts import CAMERAS, EXPECTED, INSPECTOR, KNOWN, MS, OTHER, RECIPE_NO, TERMS, digest_of, verdict

from pipeline.decision import belongs, decide, proves, result
from pipeline.frames import combined_digest
from pipeline.messages import Fault, Outcome
from pipeline.open_panels import Panel
from pipeline.plcs import REJECT_CODE, SlotSeen

TOKEN = "0" * 32
SETS = tuple((camera, digest_of(TOKEN, camera)) for camera in CAMERAS)


def panel(**changes) -> Panel:
    """One of the recipe number's own terms, unless `expected` says otherwise."""
    seen = SlotSeen(1, "panel-1", changes.pop("recipe_no", RECIPE_NO), 1000, 0, 0)
    known = {"inspector": INSPECTOR, "captured": SETS, "expected": KNOWN.get(seen.recipe_no)} | changes
    return Panel(1, seen, TOKEN, edge_ns=0, deadline_ns=960 * MS, **known)


def test_the_complete_inspection_of_this_panel_proves_it():
    assert proves(verdict(TOKEN), panel(), TERMS)


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": Outcome.REJECT},
        {"fault": Fault.ENGINE},
        {"token": "1" * 32},
        {"station": "cell_2"},
        {"inspector": "inspector_2"},
        {"recipe": "recipe-b"},
        {"calibration": "calibration-b"},
        {"engine": EXPECTED.engine[:-1]},
        {"digest": combined_digest([digest for _, digest in SETS[::-1]])},
        {"score": float("nan")},
        {"score": float("-inf")},
        {"score": 0.6},
        {"limit": float("nan")},
    ],
    ids=str,
)
def test_each_part_of_the_proof_is_needed(changes):
    assert not proves(verdict(TOKEN).model_copy(update=changes), panel(), TERMS)


@pytest.mark.parametrize("changes", [{"recipe_no": 9}, {"captured": SETS[:1]}, {"captured": ()}], ids=str)
def test_a_panel_of_which_something_is_unknown_is_not_proven(changes):
    assert not proves(verdict(TOKEN), panel(**changes), TERMS)


def test_a_verdict_of_this_panel_belongs_to_it_whatever_it_says():
    assert belongs(verdict(TOKEN, outcome=Outcome.REJECT, score=0.9), panel(), TERMS, EXPECTED)
    assert not belongs(verdict("1" * 32), panel(), TERMS, EXPECTED)


def test_a_panel_is_held_to_the_terms_of_its_trigger_whatever_its_number_means_now():
    """`TERMS` say that the number is `EXPECTED`'s; this one was triggered before that took over."""
    before = panel(expected=OTHER)
    theirs = verdict(TOKEN, recipe=OTHER.recipe, calibration=OTHER.calibration, engine=OTHER.engine)
    assert proves(theirs, before, TERMS) and not proves(verdict(TOKEN), before, TERMS)
    bad = theirs.model_copy(update={"outcome": Outcome.REJECT, "score": 0.9})
    assert decide(panel(expected=OTHER, verdict=bad), TERMS, 0) == (Outcome.REJECT, None)
    assert decide(panel(verdict=bad), TERMS, 0) == (Outcome.REJECT, Fault.MISMATCH)


def test_a_reject_of_a_panel_whose_recipe_nobody_knows_is_no_product_defect():
    unknown = panel(recipe_no=9, verdict=verdict(TOKEN, outcome=Outcome.REJECT))
    assert decide(unknown, TERMS, 0) == (Outcome.REJECT, Fault.MISMATCH)


def test_the_digest_does_not_depend_on_which_camera_reported_first():
    assert proves(verdict(TOKEN), panel(captured=SETS[::-1]), TERMS)


def test_a_fault_wins_over_a_proof_and_over_the_clock():
    spoiled = panel(verdict=verdict(TOKEN), fault=Fault.CAMERA)
    assert decide(spoiled, TERMS, 0) == decide(spoiled, TERMS, 10**12) == (Outcome.REJECT, Fault.CAMERA)


def test_there_is_nothing_to_say_while_there_is_something_to_wait_for():
    assert decide(panel(), TERMS, 0) is None
    assert decide(panel(verdict=verdict(TOKEN), captured=SETS[:1]), TERMS, 0) is None


def test_a_reject_for_an_unknown_recipe_can_be_written():
    written = result(panel(recipe_no=9), Outcome.REJECT, Fault.RECIPE, 5 * MS)
    assert (written.code, written.fault, written.recipe_echo, written.engine_hash16) == (REJECT_CODE, 11, 9, 0)


@pytest.mark.parametrize(
    "said",
    [{"score": 1e9, "limit": float("inf")}, {"score": 0.6, "limit": 0.7}, {"score": 0.05}, {"score": -5.0}],
    ids=str,
)
def test_the_inspectors_own_limit_proves_nothing(said):
    """The bridge knows the recipe's bounds from the recipe: a score outside them is no pass, whatever is said of it."""
    assert not proves(verdict(TOKEN).model_copy(update=said), panel(), TERMS)
