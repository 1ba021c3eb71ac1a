"""passport.html: the passport for people. One file, no script, nothing loaded from elsewhere. Pure."""

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

from calibration.pages import STYLE, cards, section, table, words
from pipeline.bench import plots
from pipeline.bench.passport import EnginePassport, LinePassport, Row, Spread, Trial
from pipeline.bench.timeline import STAGES

OWN_STYLE = """
figure { margin: .5rem 0 } figcaption span { margin-right: 1rem; white-space: nowrap } .dot { fill: var(--good) }
figcaption i { display: inline-block; width: .7em; height: .7em; margin-right: .3em; border-radius: 2px }
.hollow { fill: none; stroke: var(--good); stroke-width: 1.5 }
pre { background: var(--card); padding: .6rem; overflow-x: auto; font-size: .85rem } .settings { columns: 22rem }
@media print { body { max-width: none; font-size: 12px } h2 { break-after: avoid }
  figure, tr, .cards { break-inside: avoid } pre { white-space: pre-wrap } .wide { overflow-x: visible }
  td { white-space: normal } }
"""
BUSY = 1.5  # load for each core, from which on other programs had a part in the figures
HEADS = ("", "median ms", "p90", "p99", "p99.9", "longest")


def page(passport: EnginePassport | LinePassport) -> str:
    """The whole page."""
    parts = _engine(passport) if isinstance(passport, EnginePassport) else _line(passport)
    title = f"takt passport: {passport.subject.product}, {'engine' if passport.kind == 'engine' else 'line'}"
    head = (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<meta name='color-scheme' content='light dark'><title>{html.escape(title)}</title>"
        f"<style>{STYLE}{OWN_STYLE}</style>"
    )
    warned = [words(text, "warn") for text in passport.warnings]
    warned += [
        words("Stopped before its end: figures are of what was measured until then.", "warn")
    ] * passport.interrupted
    load, cores = passport.machine.get("load") or 0.0, passport.machine.get("cores") or 1
    if load > BUSY * cores:
        warned.append(words(f"Other programs ran beside it: load {load:.1f} on {cores} cores. Measure again.", "warn"))
    body = "".join(
        [f"<h1>{html.escape(title)}</h1>", words(_what(passport), "dim"), *warned, *parts, *_about(passport)]
    )
    return f"{head}<body>{body}</body></html>\n"


def _what(passport: EnginePassport | LinePassport) -> str:
    """In one sentence: what was measured, on what, when."""
    subject, machine = passport.subject, passport.machine
    height, width = subject.panel
    panels = f"{subject.channels} channels of {width} x {height} px by {subject.method}"
    engine = f"{subject.runtime} {subject.precision}, {subject.threads} threads"
    host = ", ".join(str(machine[name]) for name in ("gpu", "cpu") if machine.get(name))
    return f"{panels}; {engine}; {host}, {machine.get('cores', '?')} cores; {passport.made[:10]}"


# --- engine ---


def _engine(passport: EnginePassport) -> Iterator[str]:
    best = max(passport.rows, key=lambda row: row.panels_per_s)
    yield cards(
        {
            "panels a second": (f"{best.panels_per_s:.3g}", f"batch {best.batch}"),
            "useful pixels a second": (f"{best.pixels_per_s / 1e6:.3g} M", f"batch {best.batch}"),
            "batch of one": (_ms(passport.rows[0].ms.median), f"p99 {_ms(passport.rows[0].ms.p99)}"),
            "floor": (_ms(best.floor_ms), f"{_number(best.ratio)} times it, batch {best.batch}"),
        }
    )
    heads = ("batch", *HEADS[1:], "panels/s", "Mpx/s", "floor ms", "times it", "noise")
    yield section("Raw frames to findings", table(heads, map(_row, passport.rows)), words(_CAPTION, "dim"))
    yield section("How often it took longer", plots.tail({f"batch {row.batch}": _runs(row) for row in passport.rows}))
    stacked = {f"batch {row.batch}": _medians(row.parts_ms) for row in passport.rows}
    yield section("Where the time goes, medians", plots.stack(stacked), *_copies(passport))
    first = passport.rows[0]
    yield section("Batch of one, run by run", plots.over_time(_places(_runs(first)), _runs(first), None, "s of runs"))


_CAPTION = (
    "Raw frames in host memory to findings there, golden defect, host copies and gather inside. The floor is the larger"
    " of operations at the matrix rate and bytes at the copy rate, both measured on this machine. Noise: by what share"
    " the same engine differs, opened twice and timed in turns. A dash: too few runs stand behind it."
)


_COPIES = (
    "Copies lie inside of the parts. By the host: frames, as floats, into the batch (or into memory that the card can"
    " read), and maps out of the network's memory. By the card: raw frames there, maps and scores back, each alone, by"
    " its own events."
)


def _copies(passport: EnginePassport) -> Iterator[str]:
    rows = [
        (f"batch {row.batch}", which.replace("_", ", "), *_spread(each))
        for row in passport.rows
        for which, each in row.copies_ms.items()
    ]
    if rows:
        yield table(("", "copy", *HEADS[1:]), rows)
        yield words(_COPIES, "dim")


def _row(row: Row) -> tuple[str, ...]:
    rates = (f"{row.panels_per_s:.4g}", f"{row.pixels_per_s / 1e6:.4g}")
    noise = "-" if row.noise_floor is None else f"{row.noise_floor:.1%}"
    return (str(row.batch), *_spread(row.ms), *rates, _number(row.floor_ms), _number(row.ratio), noise)


def _runs(row: Row) -> list[float]:
    return [ms for run in zip(*row.samples_ms, strict=False) for ms in run]


def _places(ms: list[float]) -> list[float]:
    """When each run began, if they followed one another; milliseconds."""
    found, at = [], 0.0
    for each in ms:
        found.append(at)
        at += each
    return found


# --- line ---


def _line(passport: LinePassport) -> Iterator[str]:
    latency = passport.latency_ms
    pace = passport.sustained_panels_per_min
    note = "the fastest that holds" if passport.limit_found else f"takt {passport.takt_ms:g} ms"
    yield cards(
        {
            "sustained": (f"{pace:g} panels/min" if pace else "no", note),
            "due to PLC's decision": (
                _ms(latency.median),
                f"p99 {_ms(latency.p99)}, deadline {passport.window_ms:g} ms",
            ),
            "late": (f"{passport.late} of {passport.panels}", _counted(passport.outcomes)),
            "bottleneck": (passport.bottleneck or "-", _busy(passport.busy)),
        }
    )
    if passport.bottleneck in STAGES:
        ends = STAGES[passport.bottleneck].removeprefix("-> ")
        yield words(f"{passport.bottleneck} ends with: {ends}", "dim")
    yield section("Latency", table(HEADS, [("due to decision", *_spread(latency))]), words(_OPEN, "dim"))
    yield plots.tail({"latency": passport.samples.latency_ms})
    over = plots.over_time(passport.samples.due_ms, passport.samples.latency_ms, passport.window_ms)
    yield section("Over time", over)
    yield from _stages(passport)
    yield section("The panels that took longest", _worst(passport))
    yield from _trials(passport)


_OPEN = (
    "Open loop: a panel is due n takts after the first, whatever became of those before it, and its time counts from"
    " then. One that no inspection judged in time counts as the window at least. A dash: fewer than 2,000 panels stand"
    " behind a p99, fewer than 10,000 behind a p99.9."
)


def _stages(passport: LinePassport) -> Iterator[str]:
    rows = [(name, *_spread(each), _ends(name)) for name, each in passport.stages.items()]
    yield section("Stages", plots.stack(_quantiles(passport), list(STAGES)), table((*HEADS, "ends with"), rows))
    own = passport.overhead_ms
    parts = ", ".join(f"{name} {_number(ms)}" for name, ms in own.parts.items())
    text = "The line's own way, without belt, exposures, queue, pixel copies and checks, and the network. Medians, ms:"
    shown = table(HEADS, [("overhead", *_spread(own))])
    drawn = plots.stack({"median": {name: ms for name, ms in own.parts.items() if ms}}, list(STAGES))
    yield section("Overhead", drawn, shown, words(f"{text} {parts}.", "dim"))


def _ends(stage: str) -> str:
    return STAGES.get(stage, "").removeprefix("-> ").replace("->", "→")


def _quantiles(passport: LinePassport) -> dict[str, dict[str, float]]:
    stages = passport.stages.items()
    found = {name: {stage: getattr(each, name) for stage, each in stages} for name in ("median", "p99")}
    return {name: {k: v for k, v in parts.items() if v} for name, parts in found.items() if any(parts.values())}


def _worst(passport: LinePassport) -> str:
    bars = plots.stack({f"{one.panel}": dict(one.stages) for one in passport.worst}, list(STAGES))
    heads = ("panel", "name", "outcome", "due s", "ms", "held up in")
    rows = [
        (one.panel, one.panel_id, one.outcome, f"{one.due_s:.2f}", f"{one.latency_ms:.1f}", one.held_up_in)
        for one in passport.worst
    ]
    return bars + table(heads, rows)


def _trials(passport: LinePassport) -> Iterator[str]:
    if not passport.trials:
        return
    ordered = sorted(passport.trials, key=lambda trial: -trial.takt_ms)
    points = [(60_000 / one.takt_ms, one.latency_ms.median or 0.0, one.sustained) for one in ordered]
    heads = ("takt ms", "panels", "held", "late", "median ms", "longest ms", "busy", "bottleneck")
    drawn = plots.throughput(points, passport.window_ms)
    yield section("Throughput and latency", drawn, table(heads, map(_trial, ordered)))


def _trial(one: Trial) -> tuple[object, ...]:
    ms = (_number(one.latency_ms.median), _number(one.latency_ms.max))
    held = "yes" if one.sustained else "no"
    return (f"{one.takt_ms:g}", one.panels, held, one.late, *ms, _busy(one.busy), one.bottleneck)


# --- both ---


def _about(passport: EnginePassport | LinePassport) -> Iterator[str]:
    subject = {name: _plain(value) for name, value in passport.subject.model_dump().items()}
    yield section("What was measured", table((), subject.items()))
    yield section("Machine", table((), ((name, _plain(value)) for name, value in passport.machine.items())))
    if isinstance(passport, LinePassport):
        yield section("Settings", f"<pre class='settings'>{html.escape(_set(passport.settings))}</pre>")
    own = f"Measuring itself took {max(passport.own_share, 1e-4):.2%} of a panel's time, or less."
    own = f"{own} {passport.made}, takt {passport.takt_version}."
    yield section("To repeat it", f"<pre>{html.escape(passport.command)}</pre>", words(own, "dim"))


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{name} {_plain(each)}" for name, each in value.items() if each is not None)
        case list() | tuple():
            return " x ".join(map(_plain, value)) if all(isinstance(one, int) for one in value) else json.dumps(value)
        case _:
            return str(value)


def _set(settings: Mapping[str, Any], above: str = "") -> str:
    """A line each, as `timing.window_ms = 1000`."""
    lines = []
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            lines.append(_set(value, f"{above}{name}."))
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            lines += [_set(one, f"{above}{name}.{place}.") for place, one in enumerate(value)]
        else:
            lines.append(f"{above}{name} = {json.dumps(value)}")
    return "\n".join(lines)


def _spread(of: Spread) -> tuple[str, ...]:
    return tuple(_number(each) for each in (of.median, of.p90, of.p99, of.p999, of.max))


def _medians(parts: Mapping[str, Spread]) -> dict[str, float]:
    return {name: each.median for name, each in parts.items() if each.median}


def _busy(busy: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in busy.items())


def _counted(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in outcomes.items())


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} ms"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
