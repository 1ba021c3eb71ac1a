"""All panels that are ready go through the network together."""

from collections.abc import Callable

from harness import Line, assert_accounted

PATIENT = {"window_ms": 5000, "stall_ms": 5000}


def _tokens(line: Line, step: str) -> set[str]:
    return {record["token"] for record in line.records(step)}


def test_k_waiting_panels_cost_one_network_call(start: Callable[..., Line]) -> None:
    """The inspector is held until the camera has delivered k sets; the PLC has four slots, so k is at most four."""
    conveyor = {"settings": {"takt_ms": 100, "window_ms": 5000, "panels": 16}}
    line = start(timing=PATIENT, conveyor=conveyor)
    for waiting in (2, 3, 4):
        line.until_decided(len(line.rows()) + 1)
        with line.frozen("inspector"):
            before = _tokens(line, "trigger")  # what came earlier may be half done
            line.until(lambda b=before, k=waiting: len(_tokens(line, "captured") - b) >= k, f"{waiting} sets")
            held = _tokens(line, "captured") - before
        line.until(lambda h=held: h <= _tokens(line, "verdict"), "their verdicts")
        sizes = {record["batch"] for record in line.records("verdict") if record["token"] in held}
        assert len(sizes) == 1
        assert sizes.pop() >= waiting
    line.until_finished()
    calls = round(sum(1 / record["batch"] for record in line.records("verdict")))
    line.until(lambda: line.supervisor.counter("inspector", "panels") == 16, "the last count")
    assert line.supervisor.counter("inspector", "network_calls") == calls < 16
    assert assert_accounted(line.config).faults == {}
