"""A bridge that looks at the PLC too late must not pass a panel on its neighbour's pictures.

An edge is known to lie between two looks, and its time is taken to be that of the second. A takt late, and always so,
the next panel's exposures lie where this one's should: counters and windows agree, and everything is one panel off.
"""

from dataclasses import replace

import pytest
from handshake_parts import MS, RECIPE_NO, TERMS, Desk
from hypothesis import given
from hypothesis import strategies as st

from pipeline.association import Confirmed, FrameSeen, Paired, Rearm, Result, Rules, State, Tick, TriggerSeen, step
from pipeline.messages import Fault, Outcome
from pipeline.open_panels import Route, Terms, Write
from pipeline.plcs import ACK_PASSED, SlotSeen

CHANNELS, EXPOSURE_MS = 2, 1.5
EARLY_MS, AFTER_MS, NEAREST_MS = 10, 2, 13  # the rule: the first two together stay below the third
APART = replace(TERMS, early_ns=100 * MS, exposure_ns=200 * MS, takt_ns=350 * MS)
RULES = Rules(CHANNELS, EARLY_MS * MS, AFTER_MS * MS, 20 * MS, 5 * MS)


def placed(desk: Desk, gap_ms: float) -> list:
    desk.gap_ms = gap_ms
    desk.slots[1] = SlotSeen(1, "P1", RECIPE_NO, 1000, 0, 0)
    return desk.look()


def test_a_trigger_that_may_be_older_than_an_exposure_may_be_early_is_a_reject_at_once() -> None:
    actions = placed(Desk(), 100.1)
    assert not [action for action in actions if isinstance(action, Route)]
    written = [(action.outcome, action.fault) for action in actions if isinstance(action, Write)]
    assert written == [(Outcome.REJECT, Fault.ASSOCIATION)]


def test_one_that_is_just_young_enough_is_inspected() -> None:
    assert [action for action in placed(Desk(), 100) if isinstance(action, Route)]


def pairs(lags_ms: list[float], spacings_ms: list[float], lost: set[tuple[int, int]], muted: set[int]) -> dict:
    """Panel -> the panels whose frames it got, as a capture pairs them that was just armed; confirmed ones alone.

    `lost` frames are neither exposed nor counted; of `muted` panels the trigger's message is lost.
    """
    edges, at = [], 1000.0
    for spacing in spacings_ms:
        at += spacing
        edges.append(at)
    events: list[tuple[float, int, int]] = []  # ms, panel, channel; channel -1 is the trigger
    for panel, (edge, lag) in enumerate(zip(edges, lags_ms, strict=True)):
        if panel not in muted:
            events.append((edge + lag, panel, -1))
        events += [(edge + (c + 1) * EXPOSURE_MS, panel, c) for c in range(CHANNELS) if (panel, c) not in lost]
    events += [(1000.0 + ms, -1, 0) for ms in range(int(edges[-1]) - 900)]
    return _paired(sorted(events), edges)


def _paired(events: list[tuple[float, int, int]], edges: list[float]) -> dict[int, list[int]]:
    state, shown, sets, confirmed = State(RULES, tainted=True), [], {}, set()
    for now_ms, panel, channel in events:
        results: list[Result]
        if panel < 0:
            state, results = step(state, Tick(round(now_ms * MS)))
        elif channel < 0:
            state, results = step(state, TriggerSeen(str(panel), panel, round(now_ms * MS)))
        else:
            shown.append(panel)
            exposed_ns = round((edges[panel] + channel * EXPOSURE_MS) * MS)
            state, results = step(state, FrameSeen(len(shown) - 1, exposed_ns))
        for result in results:
            match result:
                case Paired(token, index):
                    sets[int(token)] = shown[index * CHANNELS : (index + 1) * CHANNELS]
                case Confirmed(token):
                    confirmed.add(int(token))
                case Rearm():
                    shown = []
    return {panel: frames for panel, frames in sets.items() if panel in confirmed}


def test_a_steady_lag_of_a_takt_shifts_every_panel_which_is_why_such_triggers_are_refused() -> None:
    """The first panel's frames came before the camera was armed; from there on each gets the next one's."""
    lost = {(0, channel) for channel in range(CHANNELS)}
    shifted = pairs([17.8] * 12, [18.0] * 12, lost, set())
    assert any(frames == [panel + 1] * CHANNELS for panel, frames in shifted.items())


@pytest.mark.parametrize("panels", [10])
@given(data=st.data())
def test_seen_in_time_no_panel_gets_a_frame_of_another(panels: int, data: st.DataObject) -> None:
    lags = data.draw(st.lists(st.floats(0, EARLY_MS), min_size=panels, max_size=panels))
    spacings = data.draw(st.lists(st.floats(NEAREST_MS, 30), min_size=panels, max_size=panels))
    spots = st.tuples(st.integers(0, panels - 1), st.integers(0, CHANNELS - 1))
    lost, muted = data.draw(st.sets(spots, max_size=6)), data.draw(st.sets(st.integers(0, panels - 1), max_size=3))
    for panel, frames in pairs(lags, spacings, lost, muted).items():
        assert frames == [panel] * CHANNELS


# --- panels that follow nearer than the line is laid out for ---


def apart(gap_ms: float, ms: float, next_gap_ms: float, terms: Terms = APART) -> Desk:
    """Two triggers seen `ms` apart, each by a look that came so long after the look before it."""
    desk = Desk(terms, gap_ms=gap_ms)
    desk.trigger(1)
    desk.now_ns, desk.gap_ms = round(ms * MS), next_gap_ms
    desk.trigger(2)
    return desk


@pytest.mark.parametrize(
    ("gap_ms", "ms", "next_gap_ms", "near"),
    [
        (0, 300, 0, True),  # within the takt, and the windows meet
        (0, 301, 0, False),  # within the takt, but the windows do not meet
        (50, 299, 0, True),
        (51, 299, 0, False),  # may be a whole takt apart
        (100, 260, 60, False),
        (100, 260, 61, True),  # may have come while the other's exposures last, though a whole takt may lie between
        (5, 5, 5, True),
    ],
)
def test_panels_whose_windows_overlap_within_the_takt_are_rejects_both(gap_ms, ms, next_gap_ms, near):
    desk = apart(gap_ms, ms, next_gap_ms)
    assert [panel.fault for panel in desk.state.panels] == [Fault.ASSOCIATION if near else None] * 2
    assert [trigger.seq for trigger in desk.routed()] == ([1] if near else [1, 2])


def test_a_pass_that_is_written_when_the_next_panel_follows_too_near_is_doubted():
    desk = Desk(APART)
    desk.inspected(1)
    desk.trigger(2)
    assert desk.written() == [(Outcome.PASS, None), (Outcome.REJECT, Fault.ASSOCIATION)]
    desk.ack(1, ACK_PASSED)
    assert desk.outcomes() == [(1, Outcome.PASS, Fault.ASSOCIATION, True)]


def test_what_follows_too_near_is_a_reject_though_the_panel_before_is_over():
    desk = Desk(APART)
    desk.inspected(1)
    desk.ack(1, ACK_PASSED)
    desk.trigger(2)
    assert [(panel.seq, panel.fault) for panel in desk.state.panels] == [(2, Fault.ASSOCIATION)]
    assert desk.outcomes() == [(1, Outcome.PASS, None, True)]


@pytest.mark.parametrize(("ms", "fault"), [(199, Fault.ASSOCIATION), (200, None)])
def test_a_panel_that_stood_there_at_the_very_first_look_is_a_neighbour_too(ms, fault):
    desk = Desk(APART)
    desk.state = replace(desk.state, last_seq=None, newest=None)
    desk.gap_ms = 10**6
    desk.trigger(4)
    desk.now_ns, desk.gap_ms = ms * MS, 0
    desk.trigger(5)
    assert [panel.fault for panel in desk.state.panels] == [fault]


@pytest.mark.parametrize("panels", [8])
@given(data=st.data())
def test_however_near_panels_follow_none_that_may_pass_gets_a_frame_of_another(
    panels: int, data: st.DataObject
) -> None:
    """A PLC that keeps to no takt at all, seen by looks that take their time."""
    some = st.lists(st.floats(0, EARLY_MS), min_size=panels, max_size=panels)
    spacings = data.draw(st.lists(st.floats(0.1, 30), min_size=panels, max_size=panels))
    lags, befores = data.draw(some), data.draw(some)
    spots = st.tuples(st.integers(0, panels - 1), st.integers(0, CHANNELS - 1))
    lost = data.draw(st.sets(spots, max_size=6))
    desk = Desk(replace(TERMS, early_ns=EARLY_MS * MS, exposure_ns=AFTER_MS * MS, takt_ns=NEAREST_MS * MS))
    edge, seen = 1000.0, 0.0
    for panel in range(panels):
        edge += spacings[panel]
        seen = max(seen, edge + lags[panel])
        lags[panel] = seen - edge
        desk.now_ns, desk.gap_ms = round(seen * MS), lags[panel] + befores[panel]
        desk.trigger(panel + 1)
    refused = set(range(panels)) - {trigger.seq - 1 for trigger in desk.routed()}
    may_pass = {panel.seq - 1 for panel in desk.state.panels if not panel.fault} - refused  # others are closed already
    for panel, frames in pairs(lags, spacings, lost, refused).items():
        assert panel not in may_pass or frames == [panel] * CHANNELS
