"""Progress of what takes longer than two seconds."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TaskID, TimeRemainingColumn

from engines.parity import Tell


@contextmanager
def progress() -> Iterator[Tell]:
    """A bar a phase on stderr, with the time left; nothing where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=total)
            bars.update(tasks[phase], completed=done + 1, total=total)

        yield tell
