"""`takt review`, `takt export`, `takt audit`: the review station alone, and what people decided there."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.cli_store import Where, state_at
from pipeline.config import load
from pipeline.errors import UsageError
from pipeline.figures import show

audit_app = typer.Typer(no_args_is_help=True, help="What was decided, by whom: hash-chained records.")
JsonFile = Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")]
CONSOLE = Console()
TURN_MS = 100


def register(app: typer.Typer) -> None:
    """Add this file's commands to the root command."""
    app.command()(review)
    app.command()(export)
    app.add_typer(audit_app, name="audit")


def review(line: Annotated[Path, typer.Argument(metavar="LINE.toml", help="the line file")]) -> None:
    """Serve the review station until Ctrl-C; with \\[review] in the line file, `takt run` does it too.

    `review.codes` names the plant's defect classes: a TOML file of tables `codes` with code, text, key (1 to 9), under.
    """
    from pipeline.bus import Bus
    from pipeline.curve import curve_of
    from pipeline.review.desk import Desk
    from pipeline.review.live import Watch
    from pipeline.review.serving import Served
    from pipeline.supervisor import Interrupted

    config = load(line)
    desk, interrupted = Desk(config), Interrupted()
    desk.pulse()  # a store that is not there is said at once
    with Bus("review", curve_of(config, "review")) as bus, Served(config, desk) as served:
        desk.watch = Watch(config, bus)
        CONSOLE.print(f"review station on {served.address}; API: {served.address}/api/docs; Ctrl-C ends it")
        while not interrupted.asked:
            bus.poll(TURN_MS)
            desk.watch.turn()
            served.check()
    desk.close()


def export(
    where: Where,
    out: Annotated[Path, typer.Option(help="the panel set to write; a new or empty folder")],
    product: Annotated[str | None, typer.Option(help="of this product alone")] = None,
    since: Annotated[str | None, typer.Option(help="closed from then on: YYYY-MM-DD, or with THH:MM, UTC")] = None,
    until: Annotated[str | None, typer.Option(help="closed before then")] = None,
    test_share: Annotated[float, typer.Option(min=0, max=1, help="of the good panels, kept for testing")] = 0.2,
    json_file: JsonFile = None,
) -> None:
    """Write reviewed panels as a panel set for `takt teach`: confirmed defects with masks, good ones to learn from."""
    from pipeline.progress import progress
    from pipeline.review.export import Order
    from pipeline.review.export import export as write
    from pipeline.review.panel import Pictures
    from pipeline.store import Database

    state = state_at(where)
    order = Order(out, product, _time(since, "--since"), _time(until, "--until"), test_share)
    database = Database(state.place)
    with progress() as tell:
        figures = write(database, Pictures(state.folder / "evidence", state.station, ()), order, tell)
    database.close()
    show(figures, json_file)


@audit_app.command("verify")
def verify(where: Where, json_file: JsonFile = None) -> None:
    """Hash the chain again, check signatures and noted heads; names the first broken record. Exit status 1: broken."""
    from pipeline.audit import verified
    from pipeline.keys import public_key
    from pipeline.store import Database, check

    state = state_at(where)
    database = Database(state.place)
    check(database)
    figures = verified(database, state.folder, state.station, public_key(state.folder))
    database.close()
    show(figures, json_file)
    raise typer.Exit(0 if figures["intact"] else 1)


@audit_app.command("show")
def show_audit(
    where: Where, count: Annotated[int, typer.Option("--last", min=1, help="records, the newest ones")] = 20
) -> None:
    """Print the newest records, one JSON object a line, oldest first."""
    from pipeline.audit import latest
    from pipeline.store import Database, check

    database = Database(state_at(where).place)
    check(database)
    for record in latest(database, count):
        print(json.dumps(record))  # noqa: T201
    database.close()


def _time(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text}: no time; expected YYYY-MM-DD or YYYY-MM-DDTHH:MM") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
