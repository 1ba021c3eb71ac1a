"""The report of a storm: one line for people, and a page that needs nothing else. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

WIDTH_PX, HEIGHT_PX, COLUMNS = 1060, 180, 212
COLOURS = {"passed": "#5b9a68", "rejected": "#d8a23f", "fault": "#b9c3cc"}
STROKES = {"kill": "#b3261e", "stop": "#3b5b92", "hole": "#222222"}
STYLE = """\
body { font: 15px/1.4 Helvetica, Arial, sans-serif; color: #1b2733; max-width: 1100px; margin: 2em auto }
table { border-collapse: collapse; margin-bottom: 1em } td, th { text-align: left; padding: .2em .8em .2em 0 }
td + td { text-align: right; font-variant-numeric: tabular-nums } .right { background: #ddf0e0; padding: .5em }
.wrong { background: #f3c1bb; padding: .5em } .side { display: flex; flex-wrap: wrap; gap: 0 3em }
"""
FOUND = {
    "difference": "triggers without exactly one decision",
    "wrong_pass_of_passed": "wrong passes, of panels passed",
    "wrong_pass_of_defective": "wrong passes, of defective panels",
    "mixed_sets": "sets of mixed panels, of those passed or rejected by inspection whose pictures were read",
}
Row = dict[str, Any]


def conclusion(figures: Mapping[str, Any]) -> str:
    """What came of it, in a line."""
    counts = ", ".join(
        f"{figures[name]} {name.replace('_', ' ')}" for name in ("difference", "wrong_pass", "mixed_sets")
    )
    faults = sum(figures["faults"].values())
    share = f"{figures['passed']} passed, {figures['rejected']} rejected, {faults} by a fault"
    return f"{figures['triggers']} triggers in {figures['seconds']:.0f} s ({figures['ended']}): {share}; {counts}"


def page(figures: Mapping[str, Any], decisions: Sequence[Row]) -> str:
    """The whole report; `decisions` are the PLC's rows."""
    clean = not (figures["difference"] or figures["wrong_pass"] or figures["mixed_sets"])
    injected = figures["injected"]
    struck = Counter(f"{one['kind']} {one['stage']}" for one in injected["processes"])
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Fault storm</title>',
        f"<style>\n{STYLE}</style></head><body>\n<h1>Fault storm</h1>",
        f'<p class="{"right" if clean else "wrong"}">{escape(conclusion(figures))}</p>',
        "<h2>What must be 0</h2>\n<p>Found by a checker that reads the PLC's own record, the plan of what lay below the"
        " cameras, and the mark in every kept picture: neither our ledger nor a verdict. The last column is the rate"
        " that is not exceeded with 95 % confidence (0 in n: about 3/n).</p>",
        _bounds(figures["upper95"]),
        _wrong(figures["wrong"]),
        "<h2>Course</h2>",
        _course(decisions, injected["processes"]),
        '<h2>What was injected</h2>\n<div class="side">',
        _table("message fault", injected["messages"]),
        _table("pixel fault", injected["pixels"]),
        _table("process fault", dict(sorted(struck.items()))),
        '</div>\n<h2>What came out</h2>\n<div class="side">',
        _table("in our ledger", {name: figures[name] for name in ("passed", "rejected")} | dict(figures["faults"])),
        _table("in the PLC's record", _flat(figures["plc"])),
        _table("how much was checked", figures["checked"]),
        _table("our ledger beside the PLC's record", figures["ledger"]),
        _table("panels open at a trigger", figures["plc"]["in_flight"]),
        '</div>\n<h2>Settings</h2>\n<div class="side">',
        _table("storm", figures["storm"]),
        _table("messages on the control socket", figures["messages"]),
        _table("restarts", figures["restarts"]),
        "</div></body></html>\n",
    ]
    return "\n".join(parts)


def _bounds(bounds: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        f"<tr><td>{FOUND[name]}</td><td>{one['k']}</td><td>in {one['n']}</td><td>{one['upper95']:.2e}</td></tr>"
        for name, one in bounds.items()
    ]
    return f"<table>{''.join(rows)}</table>"


def _wrong(wrong: Iterable[str]) -> str:
    rows = "".join(f"<li>{escape(text)}</li>" for text in wrong)
    return f'<ul class="wrong">{rows}</ul>' if rows else ""


def _flat(figures: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in figures.items() if not isinstance(value, dict)}
    return plain | dict(figures["faults"])


def _table(heading: str, rows: Mapping[Any, Any]) -> str:
    shown = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>" for name, value in rows.items()
    )
    return f"<table><tr><th>{escape(heading)}</th><th></th></tr>{shown or '<tr><td>none</td></tr>'}</table>"


def outcome_of(row: Row) -> str:
    """How a panel ended, in the PLC's eyes."""
    if row["ack_code"] == 1:
        return "passed"
    return "rejected" if row["ack_code"] == 2 and row["fault"] == 0 else "fault"


def _course(decisions: Sequence[Row], struck: Sequence[Row]) -> str:
    """Outcomes over time as stacked columns, with a line where a process was struck."""
    if not decisions:
        return "<p>No panel was decided.</p>"
    begin_ns = min(row["trigger_ns"] for row in decisions)
    span_ns = max(row["trigger_ns"] for row in decisions) - begin_ns + 1
    columns = [Counter[str]() for _ in range(COLUMNS)]
    for row in decisions:
        columns[(row["trigger_ns"] - begin_ns) * COLUMNS // span_ns][outcome_of(row)] += 1
    most = max(column.total() for column in columns)
    bars = "".join(_column(number, column, most) for number, column in enumerate(columns))
    lines = "".join(_stroke(one, (one["at_ns"] - begin_ns) / span_ns) for one in struck)
    names = ", ".join(f'<b style="color:{colour}">{name}</b>' for name, colour in (COLOURS | STROKES).items())
    size = f'viewBox="0 0 {WIDTH_PX} {HEIGHT_PX}" width="100%"'
    return f"<svg {size} role='img'>{bars}{lines}</svg>\n<p>{names}; {span_ns / 1e9:.0f} s from left to right</p>"


def _column(number: int, column: Counter[str], most: int) -> str:
    width, bottom, drawn = WIDTH_PX / COLUMNS, float(HEIGHT_PX), ""
    for name, colour in COLOURS.items():
        height = column[name] / most * (HEIGHT_PX - 20)
        bottom -= height
        place = f'x="{number * width:.1f}" y="{bottom:.1f}" width="{width:.1f}" height="{height:.1f}"'
        drawn += f'<rect {place} fill="{colour}"/>' if height else ""
    return drawn


def _stroke(one: Row, at: float) -> str:
    x, colour = min(max(at, 0), 1) * WIDTH_PX, STROKES[one["kind"]]
    what = escape(f"{one['kind']} {one['stage']} at trigger {one['at_trigger']}")
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT_PX}" stroke="{colour}"><title>{what}</title></line>'
