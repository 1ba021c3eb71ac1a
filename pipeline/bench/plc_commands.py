"""`takt plc probe`: shows that a PLC lets no panel pass that it must not, before the line is started with it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from engines import plugins
from engines.settings import checked
from pipeline import plcs
from pipeline.bench import probe_report
from pipeline.bench.plc_probe import Patience, probe
from pipeline.bench.probe_cases import Finding, rounds
from pipeline.bench.probe_report import Occasion
from pipeline.claim import claim
from pipeline.config import LineConfig, load
from pipeline.devices import conveyor_settings
from pipeline.errors import PlcError, UsageError
from pipeline.figures import write_json, write_text
from pipeline.plcs import Plc, ProbingPlc

LISTEN_S = 10.0

plc_app = typer.Typer(no_args_is_help=True, help="Commission a PLC.")


def register(app: typer.Typer) -> None:
    """Add the sub-commands `plc` to the root command."""
    app.add_typer(plc_app, name="plc")


@plc_app.command("probe")
def plc_probe(
    line: Annotated[Path, typer.Argument(metavar="LINE.toml", help="the line file; the line must not be running")],
    json_file: Annotated[Path | None, typer.Option("--json", help="write the findings to this file")] = None,
    report: Annotated[Path | None, typer.Option(help="write the commissioning record, HTML, to this file")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the cases' order")] = 0,
    patience: Annotated[float, typer.Option(min=1, help="seconds to wait for a panel")] = 30.0,
) -> None:
    """Answer the PLC's panels with good, late, stale, torn and wrong results; it must pass the good ones only.

    Nothing is inspected and nearly every panel is rejected: run it with panels that may be. Exit status 1 if the PLC
    answers once as it must not.
    """
    config = load(line)
    findings = _probed(config, seed, patience)
    print(probe_report.conclusion(findings))  # noqa: T201
    occasion = _occasion(config, seed)
    write_json(json_file, probe_report.figures(occasion, findings))
    if report:
        write_text(report, probe_report.page(occasion, findings))
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def _probed(config: LineConfig, seed: int, trigger_s: float) -> list[Finding]:
    patience = Patience(trigger_s, config.timing.ack_ms, config.timing.window_ms)
    # two vision systems before one PLC prove nothing
    with claim(config), _conveyor(config), plcs.connect(config.plc.kind, config.plc.settings) as plc:
        return probe(_probing(plc, config.plc.kind), rounds(seed), patience, _table())


def _table() -> Callable[[Finding], None]:
    """Prints each finding as it comes, and the heading before the first."""
    headings = iter([probe_report.heading()])

    def tell(finding: Finding) -> None:
        for text in (*headings, probe_report.line(finding)):
            print(text, flush=True)  # noqa: T201

    return tell


def _probing(plc: Plc, kind: str) -> ProbingPlc:
    if not isinstance(plc, ProbingPlc):
        raise UsageError(f"the driver {kind!r} cannot write a wrong result: give it write_as_is")
    return plc


@contextmanager
def _conveyor(config: LineConfig) -> Iterator[None]:
    """The line's simulated conveyor, if it has one, endless and with a record of its own; a real PLC needs none."""
    if config.conveyor is None:
        yield
        return
    from pipeline.plcs.simulated.conveyor import Conveyor

    record = config.state / "plc_probe_record.jsonl"
    whole = {"panels": 0, "record": record, "wires": (), "skip_seqs": frozenset(), "unacknowledged_seqs": frozenset()}
    stop, failed = threading.Event(), []
    conveyor = Conveyor(conveyor_settings(config).model_copy(update=whole), stop=stop)

    def run() -> None:
        try:
            conveyor.run()
        except PlcError as error:
            failed.append(error)
            conveyor.listening.set()

    thread = threading.Thread(target=run, name="conveyor")
    thread.start()
    try:
        conveyor.listening.wait(LISTEN_S)
        if failed:
            raise failed[0]
        yield
    finally:
        stop.set()
        thread.join()


def _occasion(config: LineConfig, seed: int) -> Occasion:
    settings = checked(plugins.load("pipeline.plcs", config.plc.kind).Settings, config.plc.settings, "plc.settings")
    where = ", ".join(f"{name} {value}" for name, value in settings)
    date = datetime.now().astimezone().isoformat(timespec="seconds")
    plc = f"{config.plc.kind}, {where}"
    return Occasion(date, config.station, plc, config.conveyor is not None, seed, version("takt"))
