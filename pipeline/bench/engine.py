"""Times an engine as a line uses it: raw frames in host memory to findings, golden defect and host copies inside.

The same engine is opened twice and both are timed in turns: what they differ by is the noise floor. Batch sizes take
turns too, so that what else the machine does falls on all alike. A run has ended when its findings are there, so
devices are synchronised.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines import tiles
from engines.cache import Choice, Engine
from engines.detector import Detector, open_detector
from engines.errors import EngineError
from engines.laps import HOST_IN, HOST_OUT, PARTS
from engines.recipe import NETWORK, Recipe, Resize
from pipeline.bench.energy import Meter
from pipeline.bench.floors import Floor, Rates, floor_of
from pipeline.bench.spread import noise_floor, spread
from pipeline.engine_room import cache_of

PASSES = 2
STABLE, WINDOW, MOST_WARM = 0.05, 5, 60
ENERGY_S = 3.0
COPY_RUNS, COPY_WARM = 100, 10  # of a device's copies alone
Figures = dict[str, Any]
Panel = NDArray[Any]  # [C, H, W]
Tell = Callable[[int, int], None]  # runs done, of so many


@dataclass
class Times:
    """Milliseconds of one batch size: of each pass in order, of the parts of all passes, and of the copies."""

    batch: int
    passes: list[list[float]] = field(default_factory=lambda: [[] for _ in range(PASSES)])
    parts: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})
    copies: dict[str, list[float]] = field(default_factory=lambda: {HOST_IN: [], HOST_OUT: []})
    warm_runs: int = 0
    energy: dict[str, float] = field(default_factory=dict)  # joules a panel, by counter

    @property
    def every(self) -> list[float]:
        """Of all passes, in the order in which they were taken; the last one of a broken round is left out."""
        return [ms for pair in zip(*self.passes, strict=False) for ms in pair]


def engine_for(recipe: Recipe, choice: Choice, state: Path) -> Engine:
    """The certified engine of a state folder; a recipe without golden defects cannot have one and needs none.

    Raises:
        EngineError: it is not certified; says what to run.
        UsageError: there is no such runtime or precision, or its library is not installed.
    """
    cache = cache_of(state)
    if not any(one.defective for one in recipe.golden) and (engine := cache.find(recipe, choice)):
        return engine
    try:
        return cache.certified(recipe, choice)[0]
    except EngineError as error:
        how = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in asdict(choice).items())
        name = f"{recipe.path}: {choice.runtime} {choice.precision}"
        raise EngineError(f"{name} has no proof, {error}: takt build {recipe.path} {how}") from None


@contextmanager
def opened(recipe: Recipe, engine: Engine) -> Iterator[list[Detector]]:
    """The same engine, once for every pass."""
    with ExitStack() as stack:
        options = asdict(engine.choice)
        yield [stack.enter_context(open_detector(recipe, **options, derived=engine.graph)) for _ in range(PASSES)]


def panels_of(recipe: Recipe, count: int, size: tuple[int, int] | None = None) -> list[Panel]:
    """Good panels in turns, [C, H, W]: golden ones where the recipe has them, repeated up to its panels' size."""
    manifest = recipe.manifest
    geometry = manifest.geometry
    good = [one.frames for one in recipe.golden if not one.defective]
    taught = None if isinstance(geometry, Resize) else geometry.panel
    own = good[0].shape[1:] if good else (geometry.height, geometry.width)
    height, width = size or taught or own
    if not good:
        shape = (PASSES, len(manifest.channels), height, width)
        good = list(np.random.default_rng(0).integers(100, 110, shape).astype(manifest.dtype))
    return [_repeated(good[n % len(good)], height, width) for n in range(count)]


def _repeated(frames: Panel, height: int, width: int) -> Panel:
    down, across = -(-height // frames.shape[1]), -(-width // frames.shape[2])
    return np.ascontiguousarray(np.tile(frames, (1, down, across))[:, :height, :width])


def rows_of(recipe: Recipe, panel: Panel) -> int:
    """Rows of the network that one panel takes, the golden defect's own left out."""
    geometry = recipe.manifest.geometry
    return 1 if isinstance(geometry, Resize) else tiles.count(geometry, (panel.shape[1], panel.shape[2]))


def timed(
    detectors: Sequence[Detector],
    panels: Sequence[Panel],
    batches: Sequence[int],
    runs: int,
    tell: Tell,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Times]:
    """`runs` of every batch size, half of them by each detector, in turns; fewer where `stopped` says so."""
    found = [Times(batch) for batch in batches]
    for times in found:
        times.warm_runs = sum(warmed(lambda one=one, n=times.batch: one.inspect(panels[:n])) for one in detectors)
    rounds = max(1, runs // len(detectors))
    for number in range(rounds):
        if stopped():
            break
        for times in found:
            for place in range(len(detectors)):
                which = (place + number) % len(detectors)
                run_once(detectors[which], panels[: times.batch], times, which)
        tell(number + 1, rounds)
    return found


def run_once(detector: Detector, panels: Sequence[Panel], times: Times, which: int) -> None:
    """One run, noted as one of the pass `which`."""
    began = time.perf_counter_ns()
    detector.inspect(panels)
    times.passes[which].append((time.perf_counter_ns() - began) / 1e6)
    for part, ns in detector.laps.ns.items():
        times.parts[part].append(ns / 1e6)
    for copy, ns in detector.laps.copies_ns.items():
        times.copies[copy].append(ns / 1e6)


def device_copies(detector: Detector, panels: Sequence[Panel], times: Times) -> None:
    """Note what the device's copies of a batch take alone, by its own clock; nothing of a network in host memory."""
    for number in range(COPY_WARM + COPY_RUNS):
        found = detector.device_copies_ms(panels[: times.batch])
        if not found:
            return
        for which, ms in found.items() if number >= COPY_WARM else ():
            times.copies.setdefault(which, []).append(ms)


def warmed(call: Callable[[], object]) -> int:
    """Call until the median of five differs little from that of the five before; returns how often."""
    before = float("inf")
    for done in range(WINDOW, MOST_WARM + 1, WINDOW):
        now = float(np.median([_ms(call) for _ in range(WINDOW)]))
        if abs(now / before - 1) < STABLE:
            return done
        before = now
    return MOST_WARM


def _ms(call: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - began) / 1e6


def energy(detector: Detector, panels: Sequence[Panel], batch: int) -> dict[str, float]:
    """Joules a panel by each counter of this machine, over some seconds; empty where no device tells."""
    meter, done = Meter(), 0
    if not meter.counters:
        return {}
    end = time.monotonic() + ENERGY_S
    while time.monotonic() < end:
        detector.inspect(panels[:batch])
        done += batch
    return {name: round(used["joules"] / done, 5) for name, used in meter.used().items()}


def row(recipe: Recipe, engine: Engine, times: Times, panel: Panel, rates: Rates) -> Figures:
    """One of the `rows` of `takt bench engine --json`."""
    ms, rows = times.every, rows_of(recipe, panel) * times.batch
    floor = floor_of(recipe.read(NETWORK), rows, rates) if rates.operations else Floor(None, None)
    per_s = 1000 * times.batch / float(np.mean(ms))
    found = spread(ms)
    return {
        "runtime": engine.choice.runtime,
        "precision": engine.choice.precision,
        "batch": times.batch,
        "network_rows": rows,
        "runs": len(ms),
        "warm_runs": times.warm_runs,
        "ms": found,
        "parts_ms": {part: spread(each) for part, each in times.parts.items()},
        "copies_ms": {which: spread(each) for which, each in times.copies.items()},
        "panels_per_s": round(per_s, 3),
        "pixels_per_s": round(per_s * panel.size),
        "floor_ms": _rounded(floor.ms),
        "floor": {"compute_ms": _rounded(floor.compute_ms), "bytes_ms": _rounded(floor.bytes_ms)},
        "ratio": _rounded((found["median"] or 0) / floor.ms if floor.ms else None),
        "noise_floor": round(noise_floor(times.passes), 4) if len(ms) >= 20 else None,
        "energy_j_per_panel": times.energy or None,
        "samples_ms": [[round(one, 4) for one in each] for each in times.passes],
    }


def own_share(times: Sequence[Times]) -> float:
    """The stopwatch's share of the shortest run: an empty call, timed as the others are."""
    empty = float(np.median([_ms(lambda: None) for _ in range(1000)]))
    return empty / min(float(np.median(one.every)) for one in times)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
