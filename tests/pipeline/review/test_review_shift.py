"""The figures of a span of time, and what they are counted of."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from review_parts import NOON, OTHER, Station, keep, row, token_of

from pipeline.errors import UsageError
from pipeline.review.facts import Finding, Person, Role, Wish

EVE = Person(name="eve", role=Role.OPERATOR)
GOOD, DUST = Wish(finding=Finding.GOOD), Wish(finding=Finding.DEFECTIVE, code="dust")
HOUR = (NOON, NOON + timedelta(hours=1))


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    """Six panels: a pass, three rejects, two faults."""
    faults = [row(number, "REJECT", "LAMP") for number in (5, 6)]
    station = Station(tmp_path, [row(1), *(row(number, "REJECT") for number in (2, 3, 4)), *faults])
    yield station
    station.close()


def test_a_shifts_figures_say_what_they_are_counted_of(tmp_path):
    rows = [row(number) for number in range(90)] + [row(number, "REJECT") for number in range(90, 100)]
    station = Station(tmp_path, [*rows, row(100, "REJECT", "LAMP"), row(101, recipe=OTHER)])
    for number, wish in ((90, DUST), (91, DUST), (92, GOOD), (93, Wish(finding=Finding.DEFECTIVE))):
        station.desk.decide(EVE, token_of(number), wish)
    for number in (1, 2, 3):
        keep(station.line, station.store, number, "sample")
    keep(station.line, station.store, 90)
    station.store.note_dropped(token_of(4), "sample", "no room in the pool")
    station.desk.decide(EVE, token_of(1), DUST)
    station.desk.decide(EVE, token_of(2), GOOD)
    shift = station.desk.shift(*HOUR, "toy")
    assert (shift.panels, shift.passed, shift.rejected, shift.faulted) == (101, 90, 10, 1)
    assert (shift.reject_rate.k, shift.reject_rate.n) == (10, 100)
    assert (shift.overkill.k, shift.overkill.n, shift.undecided_rejects) == (1, 4, 6)
    assert (shift.escapes.k, shift.escapes.n, shift.undecided_sample, shift.sample_lost) == (1, 2, 1, 1)
    assert [(bar.name, bar.count) for bar in shift.causes] == [("DEFECT", 10), ("LAMP", 1)]
    assert [(bar.name, bar.count) for bar in shift.defect_types] == [("unclassified", 7), ("dust", 2)]
    assert sum(point.n for point in shift.p_chart) == 100 and shift.p_mean == 0.1
    minutes = station.desk.shift(NOON, NOON + timedelta(minutes=4), "toy").p_chart
    assert [(point.n, point.k, point.out) for point in minutes] == [(30, 0, False)] * 3 + [(10, 10, True)]
    assert shift.latency.panels == 101 and shift.latency.median_ms == 54.0
    first = shift.spots[0]
    assert (first.relative, first.x, first.y) == (True, 12 / 64, 23 / 48) and not shift.spots[1].relative
    assert {grey.channel for grey in shift.greys} == {"top_bright", "top_dark"}
    assert sum(grey.panels for grey in shift.greys) == 2 * 4
    assert station.desk.shift(*HOUR).panels == 102
    station.close()


def test_a_shift_without_panels_has_no_rates(station):
    empty = station.desk.shift(NOON - timedelta(hours=2), NOON - timedelta(hours=1))
    assert (empty.panels, empty.reject_rate.rate, empty.p_mean, empty.latency.median_ms) == (0, None, None, None)


@pytest.mark.parametrize("length", [timedelta(0), timedelta(hours=-1), timedelta(days=93)])
def test_a_span_that_is_none_is_refused(station, length):
    with pytest.raises(UsageError, match="until must be after since"):
        station.desk.shift(NOON, NOON + length)


def test_the_table_has_a_row_a_panel_and_no_formulas(station):
    station.store.add_panels([row(9, panel_id="=HYPERLINK(1)")], {})
    lines = station.desk.shift_csv(*HOUR).splitlines()
    assert len(lines) == 1 + 7 and lines[0].startswith("closed_at,station,product,panel_id")
    assert ",'=HYPERLINK(1)," in lines[-1]
