"""Drawings of a passport as SVG: plain text, no library, nothing loaded. Pure.

Colours and fonts are the page's, see `pipeline.bench.page`.
"""

import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WIDE, HIGH, LEFT, BOTTOM, TOP = 640, 232, 62, 30, 20
MOST_POINTS = 600
HUES = (210, 30, 150, 340, 265, 55, 185, 0, 100, 300, 230, 15, 170, 45)


@dataclass(frozen=True)
class Axis:
    """One direction of a drawing: what lies at its ends, in units; `logarithmic` in decades."""

    low: float
    high: float
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        if self.logarithmic:
            low, high, at = (np.log10(max(each, 1e-12)) for each in (self.low, self.high, value))
        else:
            low, high, at = self.low, self.high, value
        return float((at - low) / max(high - low, 1e-12))

    def ticks(self) -> list[float]:
        if self.logarithmic:
            first, last = np.floor(np.log10(self.low)), np.ceil(np.log10(self.high))
            return [10.0**power for power in np.arange(first, last + 1) if self.low <= 10.0**power <= self.high]
        step = nice((self.high - self.low) / 5)
        return [float(each) for each in np.arange(np.ceil(self.low / step) * step, self.high + step / 1e6, step)]


def nice(step: float) -> float:
    """The next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(max(step, 1e-9)))
    return float(next(each * power for each in (1, 2, 5, 10) if each * power >= step * 0.999))


def tail(series: Mapping[str, Sequence[float]], unit: str = "ms") -> str:
    """Share of panels that took longer, on a logarithmic scale: where the tail is, it can be seen."""
    sets = {name: np.sort(np.asarray(ms, float)) for name, ms in series.items() if len(ms)}
    if not sets:
        return ""
    most = max(len(ms) for ms in sets.values())
    across = Axis(float(min(ms[0] for ms in sets.values())), float(max(ms[-1] for ms in sets.values())) * 1.001)
    up = Axis(0.7 / most, 1.0, logarithmic=True)
    lines = "".join(_tail_line(name, ms.tolist(), across, up, place) for place, (name, ms) in enumerate(sets.items()))
    shares = {10.0**-power: f"1 of {10**power:,}" if power else "all" for power in range(7)}
    return drawing(_frame(across, up, unit, "so many took longer", shares) + lines, _legend(list(sets)))


def _tail_line(name: str, ms: Sequence[float], across: Axis, up: Axis, place: int) -> str:
    """Each value once, the tail's all of them."""
    body = np.linspace(0, len(ms) - 1, MOST_POINTS).astype(int)
    keep = np.unique(np.concatenate([body, np.arange(max(0, len(ms) - 200), len(ms))])).tolist()
    return _polyline([(across.share(ms[at]), up.share(1 - at / len(ms))) for at in keep], place, name)


def over_time(
    due_ms: Sequence[float],
    latency_ms: Sequence[float],
    deadline_ms: float | None = None,
    name: str = "s since the first panel",
) -> str:
    """Every panel where it was due: the longest of each few, so that none that took long is left out."""
    if not latency_ms:
        return ""
    chunks = np.array_split(np.arange(len(latency_ms)), min(len(latency_ms), MOST_POINTS))
    worst = [max(chunk.tolist(), key=lambda at: latency_ms[at]) for chunk in chunks]
    across = Axis(0.0, max(due_ms[-1] / 1000, 1e-3))
    up = Axis(0.0, max(*latency_ms, deadline_ms or 0.0) * 1.05)
    dots = "".join(_dot(across.share(due_ms[at] / 1000), up.share(latency_ms[at])) for at in worst)
    limit = _level(up.share(deadline_ms), f"deadline {deadline_ms:g} ms") if deadline_ms else ""
    return drawing(_frame(across, up, name, "ms") + dots + limit)


def stack(rows: Mapping[str, Mapping[str, float]], known: Sequence[str] = ()) -> str:
    """One bar a row, its parts one after the other; ms. A part of `known` has one colour in all drawings."""
    told = dict.fromkeys(name for parts in rows.values() for name in parts)
    names = list(dict.fromkeys([*known, *told]))
    most = max((sum(parts.values()) for parts in rows.values()), default=0.0)
    if not most:
        return ""
    across, step = Axis(0.0, most * 1.02), 30
    bars = "".join(_bar(label, parts, names, across, n * step) for n, (label, parts) in enumerate(rows.items()))
    high = step * len(rows)
    marks = "".join(_tick_x(across.share(tick), high, f"{tick:g}", 0) for tick in across.ticks())
    shown = _legend(names, told)
    return drawing(marks + bars + _text(WIDE, high + 26, "ms", "end"), shown, high + 30)


def _bar(label: str, parts: Mapping[str, float], names: Sequence[str], across: Axis, top: float) -> str:
    found, at = [], 0.0
    for name, ms in parts.items():
        x, wide = _x(across.share(at)), across.share(ms) * (WIDE - LEFT)
        title = f"<title>{html.escape(name)}: {ms:.3g} ms</title>"
        fill = f"fill='{_colour(names.index(name))}'"
        found.append(f"<rect x='{x:.1f}' y='{top + 4}' width='{wide:.1f}' height='22' {fill}>{title}</rect>")
        at += ms
    return "".join(found) + _text(LEFT - 6, top + 19, label, "end")


def throughput(points: Sequence[tuple[float, float, bool]], deadline_ms: float) -> str:
    """Panels a minute against the latency at that pace; hollow where it was not sustained."""
    if not points:
        return ""
    across = Axis(0.0, max(each[0] for each in points) * 1.05)
    up = Axis(0.0, max([deadline_ms, *(each[1] for each in points)]) * 1.05)
    dots = "".join(_dot(across.share(x), up.share(y), 4, held) for x, y, held in points)
    return drawing(
        _frame(across, up, "panels/min", "ms, median")
        + dots
        + _level(up.share(deadline_ms), f"deadline {deadline_ms:g} ms")
    )


def drawing(content: str, legend: str = "", high: float = HIGH + BOTTOM) -> str:
    return f"<figure><svg viewBox='0 0 {WIDE + 12} {high:.0f}' role='img'>{content}</svg>{legend}</figure>"


def _frame(across: Axis, up: Axis, x_name: str, y_name: str, labels: Mapping[float, str] | None = None) -> str:
    xs = "".join(_tick_x(across.share(tick), HIGH, f"{tick:g}") for tick in across.ticks())
    ys = "".join(_tick_y(up.share(tick), (labels or {}).get(tick, f"{tick:g}")) for tick in up.ticks())
    return xs + ys + _text(WIDE, HIGH + 26, x_name, "end") + _text(0, TOP - 9, y_name, "start")


def _x(share: float) -> float:
    return LEFT + share * (WIDE - LEFT)


def _y(share: float) -> float:
    return HIGH - share * (HIGH - TOP)


def _tick_x(share: float, bottom: float, label: str, top: float = TOP) -> str:
    line = f"<line class='axis' x1='{_x(share):.1f}' x2='{_x(share):.1f}' y1='{top}' y2='{bottom}'/>"
    return line + _text(_x(share), bottom + 13, label, "middle")


def _tick_y(share: float, label: str) -> str:
    line = f"<line class='axis' x1='{LEFT}' x2='{WIDE}' y1='{_y(share):.1f}' y2='{_y(share):.1f}'/>"
    return line + _text(LEFT - 6, _y(share) + 4, label, "end")


def _level(share: float, label: str) -> str:
    line = f"<line class='limit' x1='{LEFT}' x2='{WIDE}' y1='{_y(share):.1f}' y2='{_y(share):.1f}'/>"
    return line + _text(WIDE, _y(share) - 4, label, "end")


def _dot(x: float, y: float, radius: float = 1.8, filled: bool = True) -> str:
    kind = "dot" if filled else "dot hollow"
    return f"<circle class='{kind}' cx='{_x(x):.1f}' cy='{_y(y):.1f}' r='{radius}'/>"


def _polyline(points: Sequence[tuple[float, float]], place: int, name: str) -> str:
    text = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    title = f"<title>{html.escape(name)}</title>"
    return f"<polyline fill='none' stroke-width='1.6' stroke='{_colour(place)}' points='{text}'>{title}</polyline>"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{html.escape(text)}</text>"


def _legend(names: Sequence[str], shown: Collection[str] | None = None) -> str:
    """What each colour is, of `shown` alone."""
    told = [(place, name) for place, name in enumerate(names) if shown is None or name in shown]
    keys = (f"<span><i style='background:{_colour(n)}'></i>{html.escape(name)}</span>" for n, name in told)
    return f"<figcaption>{''.join(keys)}</figcaption>"


def _colour(place: int) -> str:
    return f"hsl({HUES[place % len(HUES)]} 50% {48 + 12 * (place // len(HUES) % 2)}%)"
