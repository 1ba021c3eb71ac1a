"""The trigger wire: like a cable, it keeps nothing for who is not there."""

import tempfile
import time
from pathlib import Path

import pytest

from pipeline.simulation.wire import Listener, Pulse, listening, pulse


@pytest.fixture
def path():
    with tempfile.TemporaryDirectory(prefix="wire") as folder:
        yield Path(folder) / "w"


def test_a_pulse_reaches_every_listener(path):
    other = path.with_name("x")
    with listening(path) as one, listening(other) as two:
        assert pulse([path, other], 7, 99) == 2
        assert one.wait(1000) == two.wait(1000) == Pulse(7, 99)


def test_a_pulse_that_nobody_waits_for_is_lost(path):
    assert pulse([path], 1, 1) == 0
    with listening(path) as listener:
        assert listener.wait(0) is None


def test_waiting_ends_in_time(path):
    with listening(path) as listener:
        start = time.monotonic()
        assert listener.wait(20) is None
        assert 0.015 <= time.monotonic() - start < 1


def test_draining_forgets_what_came(path):
    with listening(path) as listener:
        for panel in range(5):
            pulse([path], panel, panel)
        listener.drain()
        pulse([path], 9, 9)
        assert listener.wait(1000) == Pulse(9, 9)


def test_a_wire_left_by_a_dead_process_is_taken_over(path):
    path.touch()
    with listening(path):
        assert pulse([path], 1, 1) == 1
    assert not path.exists()


def test_a_place_that_is_not_there_is_an_error_and_leaves_nothing_open(path):
    with pytest.raises(OSError):
        Listener(path.parent / "nowhere" / "w")
