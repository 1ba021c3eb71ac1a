"""Progress of a measurement: a living bar on a terminal, a line now and then elsewhere; on stderr."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SAY_EVERY_S, DRAW_EVERY_S = 10.0, 0.5
Show = Callable[[str, int, int], None]  # what is done, how many are, of how many


@contextmanager
def telling() -> Iterator[Show]:
    """Call what is given as often as one likes."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    said_s, every_s = [time.monotonic()], DRAW_EVERY_S if console.is_terminal else SAY_EVERY_S
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, auto_refresh=False, disable=hidden) as bar:
        task = bar.add_task("starting", total=None)

        def show(text: str, done: int, total: int) -> None:
            if time.monotonic() - said_s[0] < every_s:
                return
            said_s[0] = time.monotonic()
            if console.is_terminal:
                bar.update(task, description=text, completed=done, total=total, refresh=True)
            else:
                console.print(f"{text}: {done} of {total}", highlight=False)

        yield show
