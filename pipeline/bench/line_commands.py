"""`takt bench line`: how fast a line is, where its time goes, and how fast it can be."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.bench.group import BROKEN, STOPPED, bench_group

if TYPE_CHECKING:
    from pipeline.bench.line_search import Announce, Found
    from pipeline.bench.passport import LinePassport
    from pipeline.bench.telling import Show
    from pipeline.config import LineConfig
    from pipeline.supervisor import Supervisor


def register(app: typer.Typer) -> None:
    """Add `bench line` to the root command."""
    bench_group(app).command("line")(bench_line)


def bench_line(
    line: Annotated[Path, typer.Argument(metavar="LINE.toml", help="the line file; the line must not be running")],
    takt_ms: Annotated[int | None, typer.Option("--takt", min=1, help="ms; default: the conveyor's own")] = None,
    find_limit: Annotated[bool, typer.Option(help="find the shortest takt that holds, then measure it")] = False,
    panels: Annotated[int, typer.Option(min=1, help="how many are due; a p99 needs 2,000, a p99.9 10,000")] = 2_000,
    trial: Annotated[int, typer.Option(min=20, help="panels of each takt that the search tries")] = 300,
    out: Annotated[Path, typer.Option(help="folder for passport.json and passport.html")] = Path("takt-passport"),
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures to this file too")] = None,
) -> None:
    """Run the whole line in open loop: panels come at the takt, whether or not those before them are done.

    Every panel's way is followed from its due time to the PLC's decision. Ctrl-C writes what was measured so far.
    """
    from pipeline.bench import line as bench
    from pipeline.bench.line_search import Found, search
    from pipeline.bench.subject import subject_of_line
    from pipeline.bench.telling import telling
    from pipeline.config import load

    config = load(line)
    start_ms = takt_ms or bench.usual_takt_ms(config)
    bench.prepared(config, max(start_ms, bench.least_takt_ms(config)) if find_limit else start_ms, 1, config.state)
    subject = subject_of_line(config)
    with telling() as show:
        if find_limit:
            found = search(config, start_ms, (trial, panels), out, _announcing(show))
        else:
            measured = bench.measure(config, start_ms, panels, out, _announcing(show)(start_ms, panels))
            found = Found(measured, [], is_limit=False)
    options = f" --takt {start_ms} --panels {panels}" + (f" --find-limit --trial {trial}" if find_limit else "")
    passport = _passport(config, f"takt bench line {line}{options}", found, subject)
    _left(passport, out, json_file)


def _announcing(show: "Show") -> "Announce":
    """Says at which takt the line runs and how far it is."""

    def announce(takt_ms: int, panels: int) -> Any:
        def watch(supervisor: "Supervisor") -> None:
            done = int(supervisor.counter("plc_bridge", "passed") + supervisor.counter("plc_bridge", "not_passed"))
            show(f"takt {takt_ms} ms, panels", done, panels)

        return watch

    return announce


def _passport(config: "LineConfig", command: str, found: "Found", subject: Any) -> "LinePassport":
    from pipeline.bench import line_figures, machine
    from pipeline.bench.passport import LinePassport, header
    from pipeline.errors import StageError

    measured = found.measured
    if not measured.timelines:
        raise StageError("no panel was decided: takt run shows what the line waits for")
    figures = line_figures.figures(measured.timelines, measured.run)
    median_s = (figures["latency_ms"]["median"] or 0.0) / 1000
    own = measured.own_cpu_s / max(len(measured.timelines) * median_s, 1e-9)
    more = {
        "subject": subject,
        "own_share": own,
        "interrupted": measured.interrupted,
        "warnings": list(measured.clocks),
        "limit_found": found.is_limit,
        "trials": found.trials,
        "settings": _settings(config),
        "reconciled": measured.summary["reconciled"],
        "samples": line_figures.samples(measured.timelines),
    }
    return LinePassport.model_validate(header(command, machine.facts()) | figures | more)


def _settings(config: "LineConfig") -> dict[str, Any]:
    """What a person can set and what has a part in the time; no path of this machine."""
    return config.model_dump(mode="json", include={"engine", "timing", "cameras", "plc", "conveyor", "archive"})


def _left(passport: "LinePassport", out: Path, json_file: Path | None) -> None:
    """Files, the figures for people, and the exit status."""
    from pipeline.bench.files import write_passport

    written = write_passport(passport, out, json_file)
    for text in _said(passport):
        print(text)  # noqa: T201
    print(f"passport: {written}")  # noqa: T201
    for warning in passport.warnings:
        print(f"takt: {warning}", file=sys.stderr)  # noqa: T201
    raise typer.Exit(STOPPED if passport.interrupted else BROKEN if passport.warnings else 0)


def _said(passport: "LinePassport") -> list[str]:
    latency, pace = passport.latency_ms, passport.sustained_panels_per_min
    kept = f"sustained, {pace:g} panels/min" if pace else "not sustained"
    told = ", ".join(f"{count} {name}" for name, count in passport.outcomes.items())
    lines = [
        f"takt {passport.takt_ms:g} ms, {passport.panels} panels due: {kept}; {passport.late} late ({told})",
        f"due to the PLC's decision: {_ms(latency.median)} median, {_ms(latency.p99)} p99, {_ms(latency.p999)} p99.9,"
        f" {_ms(latency.max)} at most; deadline {passport.window_ms:g} ms",
    ]
    width = max(map(len, passport.stages), default=0)
    lines += [
        f"  {name:<{width}}  {_ms(each.median)} median, {_ms(each.p99)} p99" for name, each in passport.stages.items()
    ]
    busy = ", ".join(f"{name} {share:.0%}" for name, share in passport.busy.items())
    lines.append(f"bottleneck: {passport.bottleneck or 'unknown'}; busy of a takt: {busy}")
    own = passport.overhead_ms
    lines.append(
        f"the line's own way: {_ms(own.median)} median, {_ms(own.p99)} p99; measuring took {passport.own_share:.2%}"
    )
    slowest = [f"{one.panel} {one.latency_ms:.0f} ms in {one.held_up_in or 'no slot'}" for one in passport.worst[:3]]
    return [*lines, f"longest: {'; '.join(slowest)}"]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ms"
