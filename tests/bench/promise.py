"""Does a limit keep its promise? By hand: `python tests/bench/promise.py [--panels N] [--scores FILE] [--json FILE]`.

Good panels of the simulator are scored once by the demo's recipe and kept in FILE. They are then taken for everything
that the line will ever see: 200 times, n of them are drawn with replacement, a limit is set from those as `takt teach`
does, and the share of all that it rejects is the realised rate, exactly. A promise of confidence c allows that rate to
exceed the promised one in a share 1 - c of the draws; how many of 200 that is at most, by chance as well (99 %), stands
beside it.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

import pipeline
from calibration.limits import set_limits
from calibration.rates import binomial_cdf
from engines import recipe as recipes
from engines.detector import open_detector
from engines.recipe import Promise
from pipeline.simulation import panel, watermark
from pipeline.simulation.panel import Look

DEMO = Path(pipeline.__file__).parent / "demo" / "recipe"
SEED = 9_000_000  # none of these panels taught or measured the recipe
BATCH = 8
COUNTS = (30, 60, 100, 300)
WISH = Promise(rate=0.01, confidence=0.95)
CHANCE = 0.99


@dataclass(frozen=True)
class Kept:
    """What came of `draws` limits, each set from `panels` good panels."""

    panels: int
    wished_rate: float
    promised_rate: float
    confidence: float
    draws: int
    exceeded: int
    allowed: int  # without the chance of 200 draws
    allowed_by_chance: int
    median_rate: float
    worst_rate: float

    @property
    def holds(self) -> bool:
        return self.exceeded <= self.allowed_by_chance


def check(population: NDArray[np.float64], panels: int, wish: Promise, draws: int = 200, seed: int = 0) -> Kept:
    """Draw `panels` of `population`, set a limit, see what share of `population` it rejects; `draws` times."""
    rng = np.random.default_rng((seed, panels))
    rates, promise = [], wish
    for _ in range(draws):
        limits, _ = set_limits(rng.choice(population, panels), np.zeros((panels, 1), np.float32), wish, 1)
        promise = limits.promise
        rates.append(float((population > limits.image).mean()))
    exceeded = sum(rate > promise.rate for rate in rates)
    doubt = 1 - promise.confidence
    most = next(k for k in range(draws + 1) if binomial_cdf(k, draws, doubt) >= CHANCE)
    counts = (draws, exceeded, round(doubt * draws), most)
    return Kept(
        panels, wish.rate, promise.rate, promise.confidence, *counts, float(np.median(rates)), float(np.max(rates))
    )


def simulated_scores(count: int) -> NDArray[np.float64]:
    """Scores [count] of good simulated panels by the demo's recipe."""
    found = []
    with open_detector(recipes.load(DEMO), max_batch=BATCH) as detector:
        for start in track(range(0, count, BATCH), description="scoring good panels"):
            found += detector.inspect(list(_frames(range(start, min(start + BATCH, count)))))
    return np.array([one.score for one in found])


def _frames(numbers: range) -> Iterator[NDArray]:
    for number in numbers:
        yield watermark.stamp_set(panel.render(SEED + number, Look()).frames, number)


def kept_scores(path: Path, count: int) -> NDArray[np.float64]:
    """Scores from `path`, or simulated and kept there, where it holds none of this recipe and count."""
    name = recipes.load(DEMO).hash
    if path.is_file():
        with np.load(path) as file:
            if str(file["recipe"]) == name and len(file["scores"]) >= count:
                return file["scores"][:count]
    scores = simulated_scores(count)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, recipe=np.array(name), scores=scores)
    return scores


def table(rows: list[Kept]) -> Table:
    """One row a number of panels."""
    heads = ("panels", "promise", "exceeded", "allowed", "with chance", "median rate", "worst", "")
    shown = Table(*heads, title=f"wished: at most {WISH.rate:.0%} false rejects with {WISH.confidence:.0%} confidence")
    for row in rows:
        shown.add_row(
            str(row.panels),
            f"{row.promised_rate:.2%}",
            f"{row.exceeded}/{row.draws}",
            str(row.allowed),
            str(row.allowed_by_chance),
            f"{row.median_rate:.2%}",
            f"{row.worst_rate:.2%}",
            "holds" if row.holds else "BROKEN",
        )
    return shown


def main(
    panels: Annotated[int, typer.Option(min=100, help="good panels to simulate")] = 2400,
    scores: Annotated[Path | None, typer.Option(help="where their scores are kept")] = None,
    draws: Annotated[int, typer.Option(min=50)] = 200,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Measure and print; exit status 1 where a promise does not hold."""
    population = kept_scores(scores or Path(tempfile.gettempdir()) / "takt-promise.npz", panels)
    rows = [check(population, count, WISH, draws) for count in COUNTS]
    Console().print(table(rows))
    if json_file:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    raise typer.Exit(not all(row.holds for row in rows))


if __name__ == "__main__":
    typer.run(main)
