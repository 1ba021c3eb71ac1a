"""Another recipe takes over while panels are in flight: each is announced, judged and closed by its trigger's."""

from dataclasses import replace

import pytest
from handshake_parts import BAD, EXPECTED, GIVE_UP_MS, NEW, OTHER, OTHER_NO, RECIPE_NO, Desk

from pipeline.handshake import reopen
from pipeline.messages import Fault, Outcome
from pipeline.plcs import ACK_PASSED

PASSED, MISMATCH = (Outcome.PASS, None), (Outcome.REJECT, Fault.MISMATCH)


@pytest.mark.parametrize("after", ["trigger", "sets", "verdict"])
def test_a_panel_in_flight_is_judged_by_the_recipe_of_its_trigger(after):
    desk = Desk()
    token = desk.trigger(1)
    if after == "trigger":
        desk.switch(OTHER)
    desk.capture(token)
    if after == "sets":
        desk.switch(OTHER)
    desk.judge(token)
    if after == "verdict":
        desk.switch(OTHER)
    desk.ack(1, ACK_PASSED)
    assert desk.written() == [PASSED]
    [final], [trigger] = desk.finals(), desk.routed()
    assert (trigger.recipe, final.recipe, final.engine) == (EXPECTED.recipe, EXPECTED.recipe, EXPECTED.engine)
    assert desk.writes()[0].result.engine_hash16 == int(EXPECTED.engine[:4], 16)


@pytest.mark.parametrize(("first", "said"), [("panel", NEW), ("swap", {})])
def test_a_verdict_of_the_other_recipe_passes_no_panel(first, said):
    desk = Desk()
    token = desk.trigger(1) if first == "panel" else ""
    desk.switch(OTHER)
    token = token or desk.trigger(1)
    desk.capture(token)
    desk.judge(token, **said)
    assert desk.written() == [MISMATCH]


@pytest.mark.parametrize("wrong", [{}, BAD])
def test_nor_is_its_reject_a_product_defect(wrong):
    desk = Desk()
    token = desk.trigger(1)
    desk.switch(OTHER)
    desk.capture(token)
    desk.judge(token, **NEW | wrong)
    assert desk.written() == [MISMATCH]


def test_the_triggers_after_a_swap_are_the_new_recipes_and_those_of_other_numbers_are_not():
    desk = Desk()
    third = replace(OTHER, recipe="recipe-c")
    desk.switch(third)
    desk.trigger(1)
    desk.trigger(2, recipe_no=OTHER_NO)
    assert [trigger.recipe for trigger in desk.routed()] == ["recipe-c", OTHER.recipe]


def test_a_swap_is_a_record_of_both_recipes_and_engines():
    desk = Desk()
    desk.switch(OTHER)
    assert desk.records("recipe") == [{"number": RECIPE_NO, "from": vars(EXPECTED), "to": vars(OTHER)}]


def test_a_number_that_nothing_answered_to_before_is_recorded_so():
    desk = Desk()
    desk.switch(OTHER, number=9)
    assert [record["from"] for record in desk.records("recipe")] == [None]
    desk.trigger(1, recipe_no=9)
    assert desk.routed()[0].recipe == OTHER.recipe


def test_there_and_back_between_two_panels():
    desk = Desk()
    for seq, expected, said in ((1, EXPECTED, {}), (2, OTHER, NEW), (3, EXPECTED, {})):
        desk.switch(expected)
        token = desk.trigger(seq)
        desk.capture(token)
        desk.judge(token, **said)
    assert desk.written() == [PASSED] * 3


def test_every_trigger_names_what_it_is_to_be_judged_by():
    desk = Desk()
    desk.trigger(1)
    desk.switch(OTHER)
    desk.trigger(2)
    desk.trigger(3, recipe_no=9)
    named = [(record["recipe"], record["calibration"], record["engine"]) for record in desk.records("trigger")]
    assert named == [tuple(vars(each)[name] for name in NEW) for each in (EXPECTED, OTHER)] + [("", "", "")]


@pytest.mark.parametrize("kept", [NEW, {}, {"recipe": "", "calibration": "", "engine": ""}])
def test_a_panel_that_a_crash_left_open_is_closed_under_its_triggers_recipe(kept):
    """The new bridge knows `EXPECTED`; what an older ledger does not say stays unsaid."""
    desk = Desk()
    record = {"token": "a" * 32, "seq": 1, "panel_id": "P1", "recipe_no": RECIPE_NO, **kept}
    desk.state = reopen(desk.state, [record], 0)
    desk.wait(GIVE_UP_MS)
    [final] = desk.finals()
    assert (final.fault, final.recipe, final.engine) == (Fault.CRASH, kept.get("recipe", ""), kept.get("engine", ""))
