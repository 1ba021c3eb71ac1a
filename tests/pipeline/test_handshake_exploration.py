"""Every state that three panels can come to, breadth first: no PASS without its proof, one outcome for each trigger.

`handshake_world` says what is checked at every transition. What is regular is unlimited, with duplicates and messages
that come late; what goes wrong is counted, and so many such things happen in one course as `mishaps` says: wrong
recipe, another panel's pixels, conflict, camera fault, nobody reached, slow loop, restart before or between intent and
result, link lost at rest or in writing, ledger lost, a verdict by the recipe of before or after a swap, stop, no
inspector, heartbeat lost, no acknowledgement.
"""

import pytest
from handshake_messages import WRONG
from handshake_walk import explored
from handshake_world import UNIT, place

ONE, TWO = ("top",), ("top", "side")
EACH_SLOT, ONE_SLOT, ANEW = (
    (0, 1, 2),
    (0, 4, 5),
    (0, 0xFFFF_FF01, 0xFFFF_FF02),
)  # the second leaves numbers out, and takes a slot twice
ONE_EACH = (("recipe",), ("neighbour",), ("engine",))
ALL = (tuple(WRONG),) * 3


def walk(cameras, seqs, wrong, mishaps, *, least_states, takt_ns=0, swaps=0):
    states, transitions = explored(place(cameras, seqs, wrong[: len(seqs)], mishaps, takt_ns, swaps))
    print(f"{len(seqs)} panels, {len(cameras)} cameras, {mishaps} mishaps: {states} states, {transitions} transitions")  # noqa: T201
    assert states >= least_states  # a world in which less can happen proves less


@pytest.mark.parametrize(
    ("cameras", "seqs", "mishaps", "least_states"), [(ONE, EACH_SLOT, 0, 500), (ONE, EACH_SLOT[:2], 1, 3_000)]
)
def test_panels_in_flight(cameras, seqs, mishaps, least_states):
    walk(cameras, seqs, ONE_EACH, mishaps, least_states=least_states)


@pytest.mark.parametrize(
    ("cameras", "seqs", "mishaps", "least_states"),
    [
        pytest.param(ONE, ONE_SLOT, 1, 5_000, marks=pytest.mark.slow),
        (TWO, EACH_SLOT, 0, 3_000),
        pytest.param(TWO, EACH_SLOT[:2], 1, 5_000, marks=pytest.mark.slow),
    ],
)
def test_panels_in_flight_with_two_cameras_and_in_one_slot(cameras, seqs, mishaps, least_states):
    walk(cameras, seqs, ONE_EACH, mishaps, least_states=least_states)


@pytest.mark.parametrize(("mishaps", "least_states"), [(0, 500), (1, 3_000)])
def test_a_plc_that_counts_anew_below_its_last_number(mishaps, least_states):
    walk(ONE, ANEW if mishaps == 0 else ANEW[1:], ONE_EACH, mishaps, least_states=least_states)


def test_panels_that_follow_too_near_are_rejects_both():
    walk(ONE, EACH_SLOT, ONE_EACH, 0, least_states=500, takt_ns=UNIT)
    walk(ONE, EACH_SLOT[:2], ONE_EACH, 1, least_states=1_000, takt_ns=UNIT)


@pytest.mark.parametrize("seqs", [(0,), (0, 4)])
def test_one_slot_with_two_things_wrong_of_every_kind(seqs):
    walk(ONE, seqs, ALL, 2, least_states=1_000)


@pytest.mark.parametrize(
    ("seqs", "mishaps", "swaps", "least_states"),
    [
        (EACH_SLOT[:2], 0, 2, 2_000),
        pytest.param(EACH_SLOT, 0, 1, 3_000, marks=pytest.mark.slow),
        ((0, 4), 1, 1, 2_000),
    ],
)
def test_another_recipe_takes_over_between_any_two_events(seqs, mishaps, swaps, least_states):
    """The right verdict is that of the trigger's recipe; of the other one, it is one of the things that go wrong."""
    walk(ONE, seqs, ONE_EACH, mishaps, least_states=least_states, swaps=swaps)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("cameras", "seqs", "mishaps", "least_states"),
    [
        (ONE, EACH_SLOT, 1, 50_000),
        (TWO, EACH_SLOT, 1, 60_000),
        (TWO, EACH_SLOT[:2], 2, 60_000),
        (ONE, EACH_SLOT, 2, 200_000),
        (ONE, ONE_SLOT, 2, 50_000),
    ],
)
def test_three_panels_in_flight_with_more_wrong(cameras, seqs, mishaps, least_states):
    walk(cameras, seqs, ALL, mishaps, least_states=least_states)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("seqs", "mishaps", "swaps"), [(EACH_SLOT[:2], 1, 2), (EACH_SLOT, 1, 1)])
def test_another_recipe_takes_over_with_more_wrong(seqs, mishaps, swaps):
    walk(ONE, seqs, ONE_EACH, mishaps, least_states=20_000, swaps=swaps)
