"""The hand-shake drawn: one panel that is answered, and one that meets silence. Not to scale."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

NAMES_PX, SCENE_PX, GAP_PX = 256, 470, 24
LANE_PX, HIGH_PX, TOP_PX = 44, 24, 64
UNITS = 100  # a scene's time, in which waves are given
WIDTH_PX = NAMES_PX + 2 * SCENE_PX + 2 * GAP_PX
INK, PALE, LINE = "#1b2733", "#5d6b78", "#c9d2da"
FILLS = {"": "#ffffff", "plc": "#d9e6f5", "vision": "#ddf0e0", "good": "#a9dcb4", "bad": "#f3c1bb", "open": "#fbeec2"}


@dataclass(frozen=True)
class Phase:
    """A value that holds from `start` to `end`; `fill` names its colour."""

    start: float
    end: float
    text: str
    fill: str = ""


@dataclass(frozen=True)
class Beats:
    """A value that changes at each of these times."""

    at: tuple[float, ...]


Wave = tuple[Phase, ...] | Beats


@dataclass(frozen=True)
class Lane:
    """One row: who writes it, and what it does in each scene."""

    name: str
    side: str
    answered: Wave
    silent: Wave


TRIGGER, CLEAR, PAYLOAD, COPY, ACK, ZERO, WINDOW_END = 12, 43, 50, 58, 66, 76, 90
STOPPED, LOST = 30, 59
EVERY = tuple(range(3, UNITS, 8))

LANES = (
    Lane(
        "panel_id, recipe_no, window_ms",
        "PLC",
        (Phase(0, TRIGGER - 4, "n-4"), Phase(TRIGGER - 4, UNITS, "n", "plc")),
        (Phase(0, TRIGGER - 4, "n-4"), Phase(TRIGGER - 4, UNITS, "n", "plc")),
    ),
    Lane(
        "trigger_seq",
        "PLC",
        (Phase(0, TRIGGER, "n-4"), Phase(TRIGGER, UNITS, "n", "plc")),
        (Phase(0, TRIGGER, "n-4"), Phase(TRIGGER, UNITS, "n", "plc")),
    ),
    Lane(
        "window, counted in the PLC",
        "PLC",
        (Phase(TRIGGER, ACK, "open", "open"),),
        (Phase(TRIGGER, WINDOW_END, "open for window_ms", "open"),),
    ),
    Lane("exposure", "camera", (Phase(TRIGGER, 24, "exposed", "vision"),), (Phase(TRIGGER, 24, "exposed", "vision"),)),
    Lane(
        "code, payload, result_seq, check",
        "vision",
        (
            Phase(0, CLEAR, "0"),
            Phase(CLEAR, PAYLOAD, "0"),
            Phase(PAYLOAD, ZERO, "pass, n", "vision"),
            Phase(ZERO, 100, "0"),
        ),
        (Phase(0, UNITS, "0"),),
    ),
    Lane(
        "result_seq_copy",
        "vision",
        (Phase(0, CLEAR, "0"), Phase(CLEAR, COPY, "0"), Phase(COPY, ZERO, "n", "vision"), Phase(ZERO, 100, "0")),
        (Phase(0, UNITS, "0"),),
    ),
    Lane(
        "ack_code, then ack_seq",
        "PLC",
        (Phase(0, ACK, "n-4"), Phase(ACK, UNITS, "1 passed, n", "plc")),
        (Phase(0, WINDOW_END, "n-4"), Phase(WINDOW_END, UNITS, "3, n", "plc")),
    ),
    Lane(
        "gate for panel n",
        "PLC",
        (Phase(TRIGGER, ACK, "reject", "bad"), Phase(ACK, UNITS, "pass", "good")),
        (Phase(TRIGGER, UNITS, "reject", "bad"),),
    ),
    Lane(
        "slot",
        "",
        (Phase(0, TRIGGER, "free"), Phase(TRIGGER, ZERO, "in use", "open"), Phase(ZERO, UNITS, "free")),
        (Phase(0, TRIGGER, "free"), Phase(TRIGGER, WINDOW_END, "in use", "open"), Phase(WINDOW_END, UNITS, "free")),
    ),
    Lane("vision_heartbeat, 20 Hz", "vision", Beats(EVERY), Beats(tuple(at for at in EVERY if at < STOPPED))),
    Lane(
        "PLC believes the heart",
        "PLC",
        (Phase(0, UNITS, "alive"),),
        (Phase(0, LOST, "alive"), Phase(LOST, UNITS, "lost: nothing passes", "bad")),
    ),
    Lane("plc_heartbeat, 20 Hz", "PLC", Beats(EVERY), Beats(EVERY)),
)
MARKS = {
    "answered": {TRIGGER: "1", CLEAR: "2", PAYLOAD: "3", COPY: "4", ACK: "5", ZERO: "6"},
    "silent": {TRIGGER: "1", LOST: "7", WINDOW_END: "8"},
}
LEGEND = (
    "1  trigger: trigger_seq, after all else of the panel; the cameras are fired by wire, the window starts",
    "2  the vision system clears the slot: every register 0",
    "3  payload: code, measurements, recipe_echo, result_seq and check, in one transaction",
    "4  result_seq_copy alone, in a transaction of its own: only from here on is the result whole",
    "5  acknowledgement: every check held and the window was open: pass; any other whole result: 2, reject",
    "6  zeroing: the vision system empties the slot, and the PLC may trigger into it again",
    "7  the third missed beat: no pass is accepted until the heart beats again, whatever lies in the slot",
    "8  the window ends without a whole result: the PLC rejects and acknowledges 3; what comes later changes nothing",
)
HEIGHT_PX = TOP_PX + LANE_PX * len(LANES) + 24 * len(LEGEND) + 40


def svg() -> str:
    """The whole drawing."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {HEIGHT_PX}" width="{WIDTH_PX}"'
        f' height="{HEIGHT_PX}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="{INK}">',
        "<title>Hand-shake of one panel: answered, and silent</title>",
        f'<rect width="{WIDTH_PX}" height="{HEIGHT_PX}" fill="#ffffff"/>',
        *_names(),
        *_scene("answered", "A pass", NAMES_PX),
        *_scene("silent", "Silence: the vision system is lost after the exposure", NAMES_PX + SCENE_PX + GAP_PX),
        *_legend(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{more}>{escape(text)}</text>'


def _middle(row: int) -> float:
    return TOP_PX + LANE_PX * row + LANE_PX / 2


def _names() -> Iterator[str]:
    for row, lane in enumerate(LANES):
        y = _middle(row)
        yield _text(16, y + (-2 if lane.side else 4), lane.name)
        if lane.side:
            yield _text(16, y + 13, lane.side, f' font-size="11" fill="{PALE}"')


def _scene(name: str, title: str, left: float) -> Iterator[str]:
    yield _text(left, 20, title, ' font-size="15" font-weight="bold"')
    for at, mark in MARKS[name].items():
        yield from _mark(_x(left, at), mark)
    for row, lane in enumerate(LANES):
        wave = lane.answered if name == "answered" else lane.silent
        yield from _beats(wave, left, row) if isinstance(wave, Beats) else _phases(wave, left, row)


def _x(left: float, at: float) -> float:
    return left + at * SCENE_PX / UNITS


def _phases(wave: tuple[Phase, ...], left: float, row: int) -> Iterator[str]:
    y = _middle(row)
    yield f'<line x1="{left:g}" y1="{y:g}" x2="{left + SCENE_PX:g}" y2="{y:g}" stroke="{LINE}"/>'
    for phase in wave:
        x, width = _x(left, phase.start), (phase.end - phase.start) * SCENE_PX / UNITS
        box = f'x="{x:g}" y="{y - HIGH_PX / 2:g}" width="{width:g}" height="{HIGH_PX}"'
        yield f'<rect {box} rx="3" fill="{FILLS[phase.fill]}" stroke="{INK}"/>'
        yield _text(x + width / 2, y + 4.5, phase.text, ' text-anchor="middle" font-size="12"')


def _beats(wave: Beats, left: float, row: int) -> Iterator[str]:
    low, high = _middle(row) + 8, _middle(row) - 8
    points, level = [(left, low)], low
    for at in wave.at:
        points.append((_x(left, at), level))
        level = high if level == low else low
        points.append((_x(left, at), level))
    points.append((left + SCENE_PX, level))
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.5"/>'


def _mark(x: float, mark: str) -> Iterator[str]:
    bottom = TOP_PX + LANE_PX * len(LANES)
    yield f'<line x1="{x:g}" y1="58" x2="{x:g}" y2="{bottom}" stroke="#b03a2e" stroke-dasharray="4 4"/>'
    yield f'<circle cx="{x:g}" cy="46" r="11" fill="#b03a2e"/>'
    yield _text(x, 50.5, mark, ' text-anchor="middle" fill="#ffffff" font-weight="bold"')


def _legend() -> Iterator[str]:
    for row, line in enumerate(LEGEND):
        yield _text(16, TOP_PX + LANE_PX * len(LANES) + 30 + 24 * row, line)
