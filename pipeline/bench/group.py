"""The sub-commands `bench` of the root command: made by whoever comes first."""

import typer

STOPPED, BROKEN = 130, 3  # exit statuses: ended by Ctrl-C; the clocks were set meanwhile


def bench_group(app: typer.Typer) -> typer.Typer:
    """Where a benchmark adds its command."""
    group = next((one.typer_instance for one in app.registered_groups if one.name == "bench"), None)
    if group is None:
        group = typer.Typer(no_args_is_help=True, help="Measure.")
        app.add_typer(group, name="bench")
    return group
