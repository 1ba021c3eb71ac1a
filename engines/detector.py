"""Raw frames -> findings for a batch of panels. Teaching, golden panels and the line use this one path."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from engines import runtimes
from engines.build import engine_key, source_of
from engines.decide import Finding, decide, with_channels
from engines.errors import EngineError, PanelError
from engines.gather import Gather, Joined, Pieces
from engines.integrity import Damage, Guard, History
from engines.laps import DECIDE, NETWORK, PREPARE, STITCH, Laps
from engines.recipe import Golden, Limits, Manifest, Recipe, Tiles
from engines.runtimes import Network, TensorSpec
from engines.scoring import Scoring
from engines.sentinel import Sentinel, strongest
from engines.signature import LEAST_PX
from engines.station import IDENTITY, StationCalibration

__all__ = ["Detector", "Finding", "GeometryError", "open_detector"]

INPUT, MAP, SCORE = "panels", "map", "score"
MOST_NAMED = 8  # defects of which the channels are looked up: a ruined panel must not cost the line its pace


class GeometryError(PanelError):
    """A panel's frames do not have the count, depth or size that the recipe expects."""

    fault = "GEOMETRY"


class Detector:
    """An open engine with its recipe's geometry and limits. Used by one thread.

    Every batch carries a golden defect where the recipe has one, unless `proving` is false. `network_calls` and
    `panels` count what was done since it was opened; `batch_s` is what the largest batch took at most in `warm`, `laps`
    what the parts of the last `inspect` took.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: Network,
        engine_hash: str,
        calibration: StationCalibration,
        max_batch: int,
        proving: bool = True,
    ) -> None:
        self.manifest: Manifest = recipe.manifest
        self.limits: Limits = recipe.manifest.limits
        self.recipe_hash, self.engine_hash, self.calibration_hash = recipe.hash, engine_hash, calibration.hash
        self.max_batch = max_batch
        self.network_calls = 0
        self.panels = 0
        self.batch_s = 0.0
        self.laps = Laps()
        self._network, self._calibration = network, calibration
        taught = self.manifest.integrity
        self._guard = Guard(taught) if taught else None
        self._names = tuple(channel.name for channel in self.manifest.channels)
        self._gather = Gather(len(self._names), self.manifest.geometry, self.manifest.dtype)
        self._batch = np.zeros((max_batch + 1, *self._gather.shape), np.float32)
        _check_fit(network, self._gather.shape)
        self._scoring = Scoring(self.manifest, self._gather.map_shape(network.outputs[MAP].shape))
        self._sizes = _sizes(self.manifest)
        self._sentinel = self._sentinel_of(recipe) if proving else None
        self._trusted = True
        self._empty = np.zeros(self._gather.shape, self.manifest.dtype)

    def check(self, panel: NDArray) -> None:
        """Raise where `panel` is not [C, H, W] as the recipe expects; cheap, reads no pixel.

        Raises:
            GeometryError: what differs; its attribute `fault` names the line's fault.
        """
        self._fit(panel, self._sizes[:1])

    def _fit(self, panel: NDArray, sizes: Sequence[tuple[int, int]]) -> None:
        expected = f"expected {len(self._names)} channels {self.manifest.dtype}"
        if panel.ndim != 3 or panel.shape[0] != len(self._names):
            raise GeometryError(f"panel is {panel.shape}, {expected}")
        if panel.dtype != self.manifest.dtype:
            raise GeometryError(f"panel is {panel.dtype}, {expected}")
        gain = self._calibration.gain
        if sizes and panel.shape[1:] not in sizes:
            height, width = sizes[0]
            raise GeometryError(f"panel is {panel.shape}; taught were panels of {height} x {width} px")
        if min(panel.shape) < 1 or (gain is not None and gain.shape != panel.shape):
            raise GeometryError(f"panel is {panel.shape}, the station was measured for another size")
        if self._guard and min(panel.shape[1:]) < LEAST_PX:
            raise GeometryError(f"panel is {panel.shape}; at least {LEAST_PX} px are needed to check its integrity")

    @property
    def checks_integrity(self) -> bool:
        """False for a recipe without integrity limits: `integrity` then finds nothing."""
        return self._guard is not None

    def integrity(self, panel: NDArray, history: History | None = None) -> Damage | None:
        """What is wrong with a raw set that passed `check`; before inference. `history` of the station gets the set."""
        return self._guard.examine(panel, history) if self._guard else None

    def channels(self, numbers: Sequence[int]) -> tuple[str, ...]:
        """Names of channels."""
        return tuple(self._names[number] for number in numbers)

    @property
    def proves_itself(self) -> bool:
        """False for a recipe without golden defects: a sick engine would not be noticed."""
        return self._sentinel is not None

    def reference(self, golden: Golden) -> float:
        """The score that a golden panel has by the reference, of the inspected cells where the recipe has zones."""
        return self._scoring.of_golden(golden)

    def prove(self) -> None:
        """Inspect the golden defect twice, at two places beside an empty field: for idle times, and after a failure.

        Raises:
            EngineError: the runtime failed, or does not see the defect.
        """
        for _ in range(2):
            self._run_batch([self._empty])
        self._trusted = True

    def inspect(self, panels: Sequence[NDArray]) -> list[Finding]:
        """Findings for raw `panels`, each [C, H, W] of its own size; one network call per `max_batch` pieces of them.

        Golden panels of a recipe in tiles are pieces, which `check` refuses: none of them comes from a camera.

        Raises:
            GeometryError: a panel does not fit; nothing was inspected, so `check` each one first.
            EngineError: the runtime failed, or did not see the golden defect in the batch; after that nothing is
                inspected until `prove` succeeds.
        """
        if not self._trusted:
            raise EngineError("the engine did not see a golden defect and has not proven itself since")
        for panel in panels:
            self._fit(panel, self._sizes)
        starts = range(0, len(panels), self.max_batch)
        self.laps.begin()
        return [found for at in starts for found in self._inspect_batch(panels[at : at + self.max_batch])]

    def warm(self, runs: int = 2) -> None:
        """Run every batch size on empty input, so that the first panel is as fast as any."""
        taken = []
        for batch in range(1, len(self._batch) + 1):
            for _ in range(runs):
                began = time.perf_counter()
                self._network.run({INPUT: self._batch[:batch]})
                taken.append(time.perf_counter() - began)
        self.batch_s = max(taken[-runs:]) * self._gather.usual

    def _sentinel_of(self, recipe: Recipe) -> Sentinel | None:
        scored = [replace(one, score=self.reference(one)) for one in recipe.golden]
        golden = strongest(scored, self.limits.image)
        if golden is None:
            return None
        pieces = self._gather.pieces(golden.frames)
        if len(pieces) > 1:
            raise EngineError(f"the golden panel {golden.name} takes {len(pieces)} tiles, not one: teach again")
        tile = np.empty(self._gather.shape, np.float32)
        pieces.fill(0, tile)
        return Sentinel(tile, golden.score, golden.map, self.limits.image, pieces)

    def _inspect_batch(self, panels: Sequence[NDArray]) -> list[Finding]:
        answers = self._run_batch([self._calibration.apply(panel) for panel in panels])
        self.panels += len(panels)
        findings = [self._finding(panel, *answer) for panel, answer in zip(panels, answers, strict=True)]
        self.laps.lap(DECIDE)
        return findings

    def _run_batch(self, panels: Sequence[NDArray]) -> list[tuple[Joined, float]]:
        """Maps and scores of corrected `panels`, by calls that the golden defect went through too."""
        gathered = [self._gather.pieces(panel) for panel in panels]
        rows = [(pieces, number) for pieces in gathered for number in range(len(pieces))]
        starts = range(0, len(rows), self.max_batch)
        answers = [answer for at in starts for answer in self._run_rows(rows[at : at + self.max_batch])]
        joined = [self._joined(*each) for each in _dealt(gathered, answers)]
        self.laps.lap(STITCH)
        return joined

    def _run_rows(self, pieces: Sequence[tuple[Pieces, int]]) -> list[tuple[NDArray[np.float32], float]]:
        """Map [h, w] and score that the network gives each piece, by one call."""
        rows = list(range(len(pieces)))
        sentinel = self._sentinel
        at = sentinel.row(len(pieces)) if sentinel else None
        if sentinel and at is not None:
            rows = [row + (row >= at) for row in rows]
            self._batch[at] = sentinel.tile
        for (panel, number), row in zip(pieces, rows, strict=True):
            panel.fill(number, self._batch[row])
        self.laps.lap(PREPARE)
        outputs = self._network.run({INPUT: self._batch[: len(pieces) + (at is not None)]})
        self.laps.lap(NETWORK)
        self.network_calls += 1
        maps, scores = outputs[MAP], outputs[SCORE].tolist()
        if sentinel and at is not None:
            self._trusted = False
            joined, score = self._joined(sentinel.pieces, [(maps[at], scores[at])])
            sentinel.verify(score, joined.map)
            self._trusted = True
        answers = [(maps[row].copy(), scores[row]) for row in rows]
        self.laps.lap(STITCH)
        return answers

    def _joined(self, pieces: Pieces, answers: Sequence[tuple[NDArray[np.float32], float]]) -> tuple[Joined, float]:
        """A panel's map and its score, not a number where that of a piece is none."""
        joined = pieces.joined([map for map, _ in answers])
        scores = [score for _, score in answers]
        own = scores[0] if len(scores) == 1 or np.isfinite(scores).all() else float("nan")
        return joined, self._scoring.score(joined.map, pieces.size, own)

    def _finding(self, panel: NDArray, joined: Joined, score: float) -> Finding:
        size = (panel.shape[1], panel.shape[2])
        inspected = self._scoring.inspected(joined.map, size)
        finding = decide(joined.map, score, self._scoring.limits(size), size, joined.covered, inspected, joined.extent)
        if finding.passed or not finding.defects:
            return finding
        first, rest = finding.defects[:MOST_NAMED], finding.defects[MOST_NAMED:]
        named = tuple(with_channels(defect, panel, self._names) for defect in first)
        return replace(finding, defects=named + rest)


@contextmanager
def open_detector(
    recipe: Recipe,
    runtime: str = "onnxruntime",
    precision: str = "fp32",
    threads: int = 2,
    max_batch: int = 8,
    calibration: StationCalibration = IDENTITY,
    derived: bytes | None = None,
    proving: bool = True,
) -> Iterator[Detector]:
    """A detector for `recipe`, freed when the context is left.

    `derived` is the graph that `engines.build.derive` made. `proving` is false only where an engine is measured: by
    how much one is off that answers otherwise than the golden panels say.

    Raises:
        UsageError: there is no such runtime or precision, its library is not installed, or it needs a derived graph.
        EngineError: the runtime cannot load the network, or the network does not fit the manifest.
    """
    source = source_of(recipe, runtime, precision, derived)
    digest = sha256(derived).hexdigest() if derived else ""
    key = engine_key(recipe, runtime, precision, digest, threads, max_batch)
    module = runtimes.load(runtime, precision)
    with module.open_network(source, precision, threads, max_batch + 1) as network:  # one row is the golden's
        yield Detector(recipe, network, key.hash, calibration, max_batch, proving)


def _dealt(
    gathered: Sequence[Pieces], answers: Sequence[tuple[NDArray[np.float32], float]]
) -> Iterator[tuple[Pieces, Sequence[tuple[NDArray[np.float32], float]]]]:
    """Each panel's pieces with the answers to them."""
    at = 0
    for pieces in gathered:
        yield pieces, answers[at : at + len(pieces)]
        at += len(pieces)


def _sizes(manifest: Manifest) -> list[tuple[int, int]]:
    """Of panels that fit the recipe, the taught one first, then golden ones; none where any fits."""
    geometry = manifest.geometry
    if not isinstance(geometry, Tiles) or geometry.panel is None:
        return []
    return [geometry.panel, geometry.piece or geometry.panel]


def _check_fit(network: Network, shape: tuple[int, ...]) -> None:
    expected = {INPUT: TensorSpec(shape, "float32")}
    if dict(network.inputs) != expected or set(network.outputs) != {MAP, SCORE}:
        raise EngineError(f"network takes {dict(network.inputs)}; the recipe needs {expected}; teach again")
