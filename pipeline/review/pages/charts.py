"""The charts of the shift page: options for ECharts, which comes with the wheel. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from pipeline.review.figures import Bar, Grey, Point, Spot
from pipeline.review.pages.words import clock

Options = dict[str, Any]
BLUE, RED, GREY, GREEN = "#1f5fa8", "#b3261e", "#5c6670", "#1b7f4d"
LINES = (BLUE, RED, GREEN, "#8a5a00", "#6b3fa0", "#00728a", "#8b1e5c", "#444444")
SIGNS = ("circle", "rect", "triangle", "diamond", "pin", "arrow", "roundRect", "emptyCircle")
PLAIN: Options = {"animation": False, "grid": {"left": 60, "right": 60, "top": 40, "bottom": 70}}


def pareto(bars: Sequence[Bar]) -> Options:
    """Counts as bars, the share of all up to each as a line."""
    names = [bar.text or bar.name for bar in bars]
    counts = {"name": "panels", "type": "bar", "data": [bar.count for bar in bars], "itemStyle": {"color": BLUE}}
    shares = [round(bar.cumulative * 100, 1) for bar in bars]
    line = {"name": "cumulative %", "type": "line", "yAxisIndex": 1, "data": shares, "itemStyle": {"color": RED}}
    return PLAIN | {
        "tooltip": {"trigger": "axis"},
        "legend": {"top": 0},
        "xAxis": {"type": "category", "data": names, "axisLabel": {"rotate": 20, "width": 120, "overflow": "truncate"}},
        "yAxis": [{"type": "value", "name": "panels", "minInterval": 1}, {"type": "value", "name": "%", "max": 100}],
        "series": [counts, line],
    }


def p_chart(points: Sequence[Point], mean: float | None) -> Options:
    """Reject rate of each subgroup with its own 3-sigma limits; what lies beyond them is a red triangle."""
    rates = [_rate(point) for point in points]
    lines = [
        _step("upper limit", [round(point.upper * 100, 3) for point in points]),
        _step("lower limit", [round(point.lower * 100, 3) for point in points]),
    ]
    if mean is not None:
        lines.append(_line("mean", [round(mean * 100, 3)] * len(points), GREEN) | {"lineStyle": {"type": "dotted"}})
    return PLAIN | {
        "tooltip": {"trigger": "axis"},
        "legend": {"top": 0},
        "xAxis": {"type": "category", "data": [clock(point.at) for point in points]},
        "yAxis": {"type": "value", "name": "rejects %", "min": 0},
        "series": [_line("reject rate", rates, BLUE), *lines],
    }


def _rate(point: Point) -> Options:
    value: Options = {"value": round(point.rate * 100, 3)}
    if point.out:
        value |= {"symbol": "triangle", "symbolSize": 14, "itemStyle": {"color": RED}}
    return value


def _line(name: str, data: Sequence[Any], colour: str, sign: str = "circle") -> Options:
    return {
        "name": name,
        "type": "line",
        "data": list(data),
        "symbol": sign,
        "symbolSize": 6,
        "itemStyle": {"color": colour},
    }


def _step(name: str, data: Sequence[float]) -> Options:
    dashed = {"step": "middle", "lineStyle": {"type": "dashed"}, "symbol": "none"}
    return _line(name, data, GREY) | dashed


def spots(found: Sequence[Spot], of_all: bool) -> Options:
    """Where defects lie on the panel, seen from the front; the larger a defect, the larger its mark."""
    unit = "% of the panel" if of_all else "px"
    scale = 100 if of_all else 1
    data = [[round(spot.x * scale, 2), round(spot.y * scale, 2), spot.area_px] for spot in found]
    most = {"max": 100} if of_all else {}
    return PLAIN | {
        "tooltip": {},
        "xAxis": {"type": "value", "name": unit, "min": 0, **most},
        "yAxis": {"type": "value", "min": 0, "inverse": True, **most},
        "series": [
            {
                "name": "defects",
                "type": "scatter",
                "data": data,
                "symbolSize": 9,
                "itemStyle": {"color": BLUE, "opacity": 0.5},
            }
        ],
    }


def greys(found: Sequence[Grey]) -> Options:
    """Mean grey of each channel: a lamp that ages goes down."""
    times = sorted({grey.at for grey in found})
    by: dict[str, dict[Any, float]] = defaultdict(dict)
    for grey in found:
        by[grey.channel][grey.at] = grey.mean
    series = [
        _line(name, [means.get(at) for at in times], LINES[at_ % len(LINES)], SIGNS[at_ % len(SIGNS)])
        for at_, (name, means) in enumerate(sorted(by.items()))
    ]
    return PLAIN | {
        "tooltip": {"trigger": "axis"},
        "legend": {"top": 0, "type": "scroll"},
        "xAxis": {"type": "category", "data": [clock(at) for at in times]},
        "yAxis": {"type": "value", "name": "grey", "scale": True},
        "series": series,
    }
