"""`takt bench integrity`: what the integrity checks of a recipe find, and what they raise without a reason."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from calibration.injector import CASES, Case, Material, inject
from calibration.panels import GOOD, PanelSet, read_panel
from calibration.rates import upper_bound
from engines import recipe as recipes
from engines.integrity import Guard, History
from engines.recipe import Manifest
from pipeline.bench.group import bench_group
from pipeline.cameras.simulated import Settings, open_camera
from pipeline.errors import UsageError
from pipeline.figures import write_json
from pipeline.simulation import defects, panel, watermark
from pipeline.simulation.panel import CHANNELS, Look
from pipeline.simulation.plan import Plan, derived_seed

CONSOLE = Console()
A_PLAN = 1000  # panels of one plan, which has eight drawings
KINDS = tuple(defects.KINDS)


@dataclass
class Tally:
    """Sets examined, what they were called, and how long each took."""

    names: Counter[str | None] = field(default_factory=Counter)
    took_us: list[float] = field(default_factory=list)

    def examine(self, guard: Guard, frames: NDArray, history: History) -> None:
        """Count one set; `history` gets it."""
        started = time.perf_counter_ns()
        damage = guard.examine(frames, history)
        self.took_us.append((time.perf_counter_ns() - started) / 1e3)
        self.names[damage.cause.value if damage else None] += 1

    def alarms(self) -> dict[str, Any]:
        """Sets that were called damaged, with the upper bound of their share, 95 % sure (Clopper and Pearson)."""
        total = self.names.total()
        raised = total - self.names[None]
        return {"k": raised, "n": total, "upper95": upper_bound(raised, total), "as": _named(self.names)}

    def recall(self, cause: str) -> dict[str, Any]:
        """Sets that were called damaged and rightly named, with the lower bound of the share called damaged."""
        total, missed = self.names.total(), self.names[None]
        found = {"k": total - missed, "n": total, "lower95": 1 - upper_bound(missed, total)}
        return found | {"named": self.names[cause], "as": _named(self.names)}


def register(app: typer.Typer) -> None:
    """Add `bench integrity` to the root command."""
    bench = bench_group(app)
    bench.command("integrity")(integrity)
    bench.callback()(_measure)


def _measure() -> None:
    """Measure."""


def integrity(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="recipe folder with integrity limits")],
    panels: Annotated[Path | None, typer.Argument(metavar="SET", help="panel set; without: simulated panels")] = None,
    sets: Annotated[int, typer.Option(min=1, help="good sets of the simulated camera")] = 10_000,
    fresh: Annotated[int, typer.Option(min=3, help="good and defective simulated panels, each newly drawn")] = 1_000,
    each: Annotated[int, typer.Option(min=1, help="injections of every cause and strength")] = 300,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")] = None,
) -> None:
    """Inject every cause at every strength into good image sets, and count what good and defective panels raise."""
    manifest = recipes.load(recipe).manifest
    if manifest.integrity is None:
        raise UsageError(f"{recipe}: has no integrity limits; add them with takt relearn")
    guard = Guard(manifest.integrity)
    if panels is None:
        figures = simulated(guard, _simulated_channels(manifest), (sets, fresh, each), seed)
    else:
        figures = real(guard, manifest, PanelSet(panels), each, seed)
    _print(figures)
    write_json(json_file, figures)


def simulated(
    guard: Guard, channels: tuple[str, ...], counts: tuple[int, int, int], seed: int, look: Look | None = None
) -> dict[str, Any]:
    """Figures on simulated panels that taught nothing; counts: camera's sets, drawn ones, injections."""
    look, tallies = look or Look(), {"camera": Tally(), "good": Tally(), "defective": Tally()}
    for frames, history in track(_camera_sets(counts[0], channels, look, seed), "camera", counts[0]):
        tallies["camera"].examine(guard, frames, history)
    good = []
    histories = {name: History() for name in tallies}
    for number in track(range(counts[1]), "drawing"):
        good.append(_drawn(seed, number, channels, look, None))
        tallies["good"].examine(guard, good[-1], histories["good"])
        bad = _drawn(seed, number, channels, look, KINDS[number % len(KINDS)])
        tallies["defective"].examine(guard, bad, histories["defective"])
    lights = tuple(panel.split_channel(name)[0] for name in channels)
    return _figures(tallies, injected(guard, good, lights, counts[2], seed))


def real(guard: Guard, manifest: Manifest, panels: PanelSet, each: int, seed: int) -> dict[str, Any]:
    """Figures on the panels of a set that taught nothing, `test/`."""
    names = [channel.name for channel in manifest.channels]
    tallies, good = {"good": Tally(), "defective": Tally()}, []
    histories = {name: History() for name in tallies}
    for one in panels.panels("test"):
        frames, kind = read_panel(one.path, names), GOOD if one.defect == GOOD else "defective"
        tallies[kind].examine(guard, frames, histories[kind])
        if kind == GOOD:
            good.append(frames)
    if len(good) < 3:
        raise UsageError(f"{panels.path}: {len(good)} panels in test/good; an injection needs 3")
    lights = tuple(channel.light for channel in manifest.channels)
    return _figures(tallies, injected(guard, good, lights, each, seed))


def injected(
    guard: Guard, good: Sequence[NDArray], lights: tuple[str, ...], each: int, seed: int
) -> list[tuple[Case, Tally]]:
    """Every case that these channels allow, `each` times; a station remembers the panel before."""
    rng, tallies = np.random.default_rng(seed), []
    for case in track([one for one in CASES if one.fewest <= len(lights)], "injecting"):
        tally = Tally()
        for number in range(each):
            at = number % (len(good) - 2)
            history, material = History(), _material(good[at : at + 3], lights)
            guard.examine(material.before, history)
            tally.examine(guard, inject(case, material, rng), history)
        tallies.append((case, tally))
    return tallies


def _material(three: Sequence[NDArray], lights: tuple[str, ...]) -> Material:
    """Three panels in a row; where their sizes differ, the neighbours are cut or repeated to the middle one's."""
    before, frames, after = three
    rows, columns = (np.arange(length) for length in frames.shape[1:])

    def fitted(other: NDArray) -> NDArray:
        return other.take(rows, axis=1, mode="wrap").take(columns, axis=2, mode="wrap")

    return Material(frames, fitted(before), fitted(after), lights)


def _camera_sets(count: int, channels: tuple[str, ...], look: Look, seed: int) -> Iterator[tuple[NDArray, History]]:
    for first in range(0, count, A_PLAN):
        plan = Plan(seed=derived_seed("bench integrity", seed, first), defective_share=0)
        history = History()
        with tempfile.TemporaryDirectory(prefix="takt-") as place:
            settings = Settings(wire=Path(place) / "wire", plan=plan, look=look)
            with open_camera(settings, channels) as camera:
                for index in range(first, min(first + A_PLAN, count)):
                    frames = np.empty((len(channels), look.height, look.width), look.dtype)
                    for channel, frame in enumerate(frames):
                        camera.picture(index, channel, frame)
                    yield frames, history


def _drawn(seed: int, number: int, channels: tuple[str, ...], look: Look, kind: str | None) -> NDArray:
    own = derived_seed("bench integrity", seed, kind, number)
    drawn = panel.render(own, look, channels, defects.draw(kind, own) if kind else None)
    return watermark.stamp_set(drawn.frames, number)


def _simulated_channels(manifest: Manifest) -> tuple[str, ...]:
    names = tuple(channel.name for channel in manifest.channels)
    if not set(names) <= set(CHANNELS):
        raise UsageError(f"the simulator has no channels {', '.join(names)}: name a panel SET of the product")
    return names


def _figures(tallies: dict[str, Tally], cases: list[tuple[Case, Tally]]) -> dict[str, Any]:
    rows = [{"cause": one.cause.value, "strength": one.strength} | tally.recall(one.cause) for one, tally in cases]
    took = [us for tally in tallies.values() for us in tally.took_us]
    times = {"median": float(np.median(took)), "p99": float(np.percentile(took, 99))}
    return {"alarms": {name: tally.alarms() for name, tally in tallies.items()}, "cases": rows, "us_per_set": times}


def _named(names: Counter[str | None]) -> dict[str, int]:
    return {name: count for name, count in names.most_common() if name}


def _print(figures: dict[str, Any]) -> None:
    cases = Table("cause", "strength", "found", "at least", "named so", "otherwise named")
    for row in figures["cases"]:
        others = ", ".join(f"{name} {count}" for name, count in row["as"].items() if name != row["cause"])
        found = f"{row['k']}/{row['n']}"
        cases.add_row(row["cause"], row["strength"], found, f"{row['lower95']:.1%}", f"{row['named']}", others)
    CONSOLE.print(cases)
    for name, row in figures["alarms"].items():
        said = ", ".join(f"{cause} {count}" for cause, count in row["as"].items())
        bound = f"at most {row['upper95']:.3%} with 95 % confidence"
        CONSOLE.print(f"{name}: called damaged {row['k']}/{row['n']}, {bound}  {said}", highlight=False)
    CONSOLE.print("a set takes {median:.0f} us, 99 % below {p99:.0f} us".format(**figures["us_per_set"]))
