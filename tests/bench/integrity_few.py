"""False alarms of integrity limits from few good sets, on simulated panels: `python tests/bench/integrity_few.py`.

Half of the panels are drawn to learn from, so many of them as is asked for; the others are asked. Several times anew.
"""

from collections import Counter
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from calibration.rates import upper_bound
from engines.integrity import Guard, learn
from pipeline.simulation import panel, watermark
from pipeline.simulation.panel import Look

CONSOLE = Console()


def main(
    taught: Annotated[
        list[int] | None, typer.Option(min=2, help="good sets to learn from; several may be given")
    ] = None,
    panels: Annotated[int, typer.Option(min=8)] = 600,
    draws: Annotated[int, typer.Option(min=1)] = 6,
    seed: Annotated[int, typer.Option(min=0)] = 1_000,
) -> None:
    """Print false alarms for each number of sets."""
    sets = [drawn(seed + number) for number in track(range(panels), "drawing", console=CONSOLE)]
    table = Table("good sets taught", "false alarms", "at most, 95 % sure", "named")
    for count in taught or (12, 24, 48, 120):
        if count > panels // 2:
            raise typer.BadParameter(f"{count} sets to learn from: half of --panels are {panels // 2}")
        rng, named = np.random.default_rng(0), Counter[str]()
        for _ in range(draws):
            order = rng.permutation(panels)
            guard = Guard(learn(sets[number] for number in order[:count]))
            found = (guard.examine(sets[number]) for number in order[panels // 2 :])
            named.update(damage.cause.value for damage in found if damage)
        asked, raised = draws * (panels - panels // 2), named.total()
        said = ", ".join(f"{name} {times}" for name, times in named.most_common())
        table.add_row(str(count), f"{raised}/{asked}", f"{upper_bound(raised, asked):.2%}", said)
    CONSOLE.print(table)


def drawn(number: int) -> np.ndarray:
    return watermark.stamp_set(panel.render(number, Look()).frames, number)


if __name__ == "__main__":
    typer.run(main)
