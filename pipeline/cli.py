"""The command `takt`."""

import shutil
import socket
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from pipeline import cli_build, cli_limits, cli_recipe, cli_review, cli_sign, cli_store, cli_swap, cli_users
from pipeline.bench import engine_commands, fault_commands, line_commands, passport_commands, plc_commands
from pipeline.bench import integrity as bench_integrity
from pipeline.errors import ConfigError, TaktError
from pipeline.figures import write_json

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
ledger_app = typer.Typer(no_args_is_help=True, help="Look into a ledger.")
app.add_typer(ledger_app, name="ledger")
cli_recipe.register(app)
cli_limits.register(app)
cli_build.register(app)
cli_sign.register(app)
cli_swap.register(app)
cli_review.register(app)
cli_users.register(app)
cli_store.register(app)
plc_commands.register(app)
bench_integrity.register(app)
fault_commands.register(app)
engine_commands.register(app)
line_commands.register(app)
passport_commands.register(app)
CONSOLE = Console()
JsonFile = Annotated[Path | None, typer.Option("--json", help="write the figures to this file")]
DEMO = Path(__file__).parent / "demo"


@app.command()
def demo(
    panels: Annotated[int, typer.Option(min=1, help="how many panels pass")] = 200,
    takt_ms: Annotated[int, typer.Option("--takt", min=50, help="milliseconds from panel to panel")] = 150,
    out: Annotated[Path, typer.Option(help="where ledger, store and evidence go")] = Path("takt-demo"),
    json_file: JsonFile = None,
) -> None:
    """The whole line with simulated devices: no GPU, no camera, no network, no PyTorch."""
    from pipeline.config import load
    from pipeline.engine_room import build_all
    from pipeline.progress import progress

    line = _copy_demo(out)
    config = load(line)
    port = _free_port(int(config.plc.settings.get("port", 5020)))
    plc = config.plc.model_copy(update={"settings": config.plc.settings | {"port": port}})
    belt = {"panels": panels, "takt_ms": takt_ms, "port": port}
    conveyor = config.conveyor
    if conveyor is None:
        raise ConfigError(f"{line} has no conveyor: delete {out} and start again")
    conveyor = conveyor.model_copy(update={"settings": conveyor.settings | belt})
    timing = config.timing.at_takt(takt_ms * 3 // 4)
    outcomes = f"tcp://127.0.0.1:{_free_port(int(config.bus.outcomes.rpartition(':')[2]))}"
    bus = config.bus.model_copy(update={"outcomes": outcomes})
    with progress() as tell:  # the first time takes seconds
        build_all(config, tell)
    CONSOLE.print(f"line file {line}; outcomes are published on {outcomes}")
    _run(config.model_copy(update={"plc": plc, "conveyor": conveyor, "timing": timing, "bus": bus}), json_file)


@app.command()
def run(
    line: Annotated[Path, typer.Argument(help="the line file")],
    json_file: JsonFile = None,
) -> None:
    """Run the line until Ctrl-C, or until a replay has come to its end."""
    from pipeline.config import load

    _run(load(line), json_file)


@app.command()
def check(line: Annotated[Path, typer.Argument(help="the line file")]) -> None:
    """Check every setting, file, address, size and recipe before a start."""
    from pipeline.check import check_line
    from pipeline.config import load

    for found in check_line(load(line)):
        CONSOLE.print(found, highlight=False, markup=False)  # a signer's name may hold brackets
    CONSOLE.print("[green]the line can start[/]")


@app.command()
def new(
    line: Annotated[Path, typer.Argument(help="the line file to write")],
    camera: Annotated[str, typer.Option(help="kind of camera")] = "simulated",
    plc: Annotated[str, typer.Option(help="kind of PLC; simulated: a conveyor of ours")] = "simulated",
) -> None:
    """Write a commented line file."""
    from pipeline.line_file import write_line

    write_line(line, camera, plc)
    CONSOLE.print(f"{line} written; edit it, then: takt check {line}")


@app.command()
def keys(
    line: Annotated[Path, typer.Argument(help="the line file")],
    add_client: Annotated[str | None, typer.Option(help="a third party that may listen to the outcomes")] = None,
) -> None:
    """Make the keys that a line needs beyond this host, and list who may come in."""
    from pipeline.config import load
    from pipeline.curve import create
    from pipeline.keys import PUBLIC, machine_key
    from pipeline.stages import connecting

    config = load(line)
    machine_key(config.state)
    CONSOLE.print(f"machine  {config.state / 'keys' / PUBLIC}  (signs the ledger)", highlight=False, soft_wrap=True)
    for what, path, public in create(config, connecting(config), add_client):
        CONSOLE.print(f"{what:8} {path}  {public}", highlight=False, markup=False, soft_wrap=True)
    if add_client:
        CONSOLE.print(f"give {add_client} its .key_secret and server.key; restart the line to let it in")


@ledger_app.command("verify")
def ledger_verify(
    path: Annotated[Path, typer.Argument(help="a ledger's folder or one of its files")],
    store: Annotated[Path | None, typer.Option(help="state folder with anchors and key; default: around it")] = None,
    anchors: Annotated[bool, typer.Option("--anchors/--no-anchors", help="hold it against signed anchors")] = True,
    json_file: JsonFile = None,
) -> None:
    """Recount triggers and outcomes, re-hash the chain, check its anchors; names the first broken record."""
    from pipeline.verify import verified

    figures = verified(path, store, anchored=anchors)
    for name, value in figures.items():
        CONSOLE.print(f"{name:16}{value}", highlight=False)
    if not figures["anchors"]:
        CONSOLE.print("[yellow]no anchor was checked: an end cut off, or a chain written anew, would not show[/]")
    write_json(json_file, figures)
    raise typer.Exit(0 if figures["intact"] else 1)


def _run(config: Any, json_file: Path | None) -> None:
    from pipeline.run import exit_status, print_summary, run_line

    summary = run_line(config, CONSOLE)
    print_summary(summary, config, CONSOLE)
    write_json(json_file, summary)
    raise typer.Exit(exit_status(summary))


def _copy_demo(out: Path) -> Path:
    """The packaged line file and recipe, where a person can read and change them; signed by a key of the demo's own."""
    from engines import recipe
    from pipeline.keys import SIGNER, signer_key
    from pipeline.signatures import sign

    line, keys = out / "line.toml", out / "state" / "keys"
    if not line.exists():  # it comes last: what was interrupted before is copied again
        shutil.copytree(DEMO / "recipe", out / "recipe", dirs_exist_ok=True)
        sign(recipe.load(out / "recipe"), signer_key(keys), "takt demo")
        shutil.copy(DEMO / "line.toml", line)
    elif not (keys / SIGNER).exists():  # the state was deleted, to begin anew
        sign(recipe.load(out / "recipe"), signer_key(keys), "takt demo")
    return line


def _free_port(wanted: int) -> int:
    """`wanted`, or another one where somebody else has it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise ConfigError("no free port on 127.0.0.1: close some programs")


def main() -> None:
    """Entry point: every error of ours, and every wrong use, is one line on stderr and its own exit status."""
    try:
        sys.exit(app(prog_name="takt", standalone_mode=False))
    except TaktError as error:
        _fail(str(error), error.exit_status)
    except typer.Abort:
        _fail("stopped", 130)
    except Exception as error:
        wording = getattr(error, "format_message", None)  # typer's usage errors: no public name in all its versions
        if wording is None:
            raise
        said = " ".join(wording().split())
        _fail(f"{said.rstrip('.')}; see {_help_of(error)}" if said else "", 2)


def _fail(said: str, status: int) -> NoReturn:
    sys.stderr.write(f"takt: {said}\n" if said else "")
    sys.exit(status)


def _help_of(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'takt'} --help"


if __name__ == "__main__":
    main()
