"""Exposures: their instants and counts, whatever goes wrong on purpose."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.simulation.shutter import Faults, Shutter
from pipeline.simulation.wire import Pulse


class Pulses:
    """A source with a list instead of a wire."""

    def __init__(self, *pulses: Pulse) -> None:
        self.waiting = list(pulses)

    def wait(self, timeout_ms: float) -> Pulse | None:
        return self.waiting.pop(0) if self.waiting else None

    def drain(self) -> None:
        self.waiting.clear()


def train(panels: int, apart_ms: float = 10.0) -> list[Pulse]:
    """Pulses of the past, so that every exposure is ready."""
    start_ns = time.monotonic_ns() - int((panels + 10) * apart_ms * 1e6)
    return [Pulse(n, start_ns + int(n * apart_ms * 1e6)) for n in range(panels)]


def shots(shutter: Shutter) -> list:
    found = []
    while shot := shutter.next(0):
        found.append(shot)
    return found


def test_channels_are_exposed_one_after_the_other_from_the_edge():
    pulses = train(1)
    found = shots(Shutter(Pulses(*pulses), 3, exposure_ms=2.0))
    edge_ns = pulses[0].edge_ns
    assert [shot.exposed_ns - edge_ns for shot in found] == [0, 2_000_000, 4_000_000]
    assert [shot.ready_ns - shot.exposed_ns for shot in found] == [2_000_000] * 3


def test_a_frame_is_ready_when_its_exposure_ends():
    start_ns = time.monotonic_ns()
    shutter = Shutter(Pulses(Pulse(0, start_ns)), 1, exposure_ms=40.0)
    assert shutter.next(5) is None
    assert shutter.pending
    shot = shutter.next(2000)
    assert shot is not None and time.monotonic_ns() - start_ns >= 40_000_000


def test_a_pulse_while_busy_is_ignored_and_counted():
    start_ns = time.monotonic_ns() - 10**9
    shutter = Shutter(Pulses(Pulse(0, start_ns), Pulse(1, start_ns + 3_000_000)), 2, exposure_ms=2.0)
    assert [shot.panel for shot in shots(shutter)] == [0, 0]
    assert shutter.ignored == 1


def test_arming_counts_from_0_and_forgets():
    source = Pulses(*train(2))
    shutter = Shutter(source, 2, exposure_ms=1.0)
    assert shutter.next(0) is not None
    shutter.arm()
    assert shots(shutter) == []
    source.waiting = train(1)
    assert [shot.counter for shot in shots(shutter)] == [0, 1]


@pytest.mark.parametrize(
    ("faults", "counted"),
    [
        (Faults(drop_frames=((1, 0),)), [0, 1, 3, 4, 5]),
        (Faults(miss_exposures=((1, 0),)), [0, 1, 2, 3, 4]),
        (Faults(extra_frames=((1, 0),)), [0, 1, 2, 3, 4, 5, 6]),
        (Faults(fail_at=((1, 0),)), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_what_goes_wrong_on_purpose_is_seen_in_the_counter(faults, counted):
    found = shots(Shutter(Pulses(*train(3)), 2, 1.0, faults))
    assert [shot.counter for shot in found] == counted
    assert [(shot.panel, shot.channel) for shot in found if shot.fails] == list(faults.fail_at)


spots = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=5, unique=True).map(tuple)


@given(drop=spots, miss=spots, extra=spots)
def test_counters_never_repeat_and_exposures_never_overlap(drop, miss, extra):
    faults = Faults(drop_frames=drop, miss_exposures=miss, extra_frames=extra)
    found = shots(Shutter(Pulses(*train(6)), 4, 1.0, faults))
    assert all(a.counter < b.counter and a.ready_ns <= b.exposed_ns for a, b in pairwise(found))
    missed = len(miss)
    doubled = len(set(extra) - set(miss))
    lost = sum(2 if spot in extra else 1 for spot in set(drop) - set(miss))
    assert len(found) == 24 - missed + doubled - lost


def test_a_discarded_panel_stays_counted_and_the_next_is_whole():
    shutter = Shutter(Pulses(*train(2)), 3, 1.0)
    assert shutter.next(0) is not None
    shutter.discard(0)
    assert [(shot.panel, shot.counter) for shot in shots(shutter)] == [(1, 3), (1, 4), (1, 5)]
