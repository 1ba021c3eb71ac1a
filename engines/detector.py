"""Raw frames -> findings for a batch of panels. Teaching, golden panels and the line use this one path."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from engines import runtimes
from engines.build import engine_key, source_of
from engines.decide import Finding, decide, with_channels
from engines.errors import EngineError
from engines.feeding import Batch, Feed, HostFeed, overlapped
from engines.fitting import Fitting, GeometryError
from engines.gather import Gather, Joined, Map, Pieces
from engines.integrity import Damage, Guard, History
from engines.laps import DECIDE, HOST_IN, HOST_OUT, NETWORK, PREPARE, STITCH, Laps
from engines.recipe import Golden, Limits, Manifest, Recipe
from engines.runtimes import CardNetwork, Network, TensorSpec
from engines.scoring import Scoring, own_map
from engines.sentinel import Sentinel, strongest
from engines.station import IDENTITY, StationCalibration

__all__ = ["Detector", "Finding", "GeometryError", "open_detector"]

INPUT, MAP, SCORE = "panels", "map", "score"
MOST_NAMED = 8  # defects of which the channels are looked up: a ruined panel must not cost the line its pace


class Detector:
    """An open engine with its recipe's geometry and limits. Used by one thread.

    Every batch carries a golden defect where the recipe has one, unless `proving` is false: then a panel more may take
    its row, and `max_batch` says so. `network_calls` and `panels` count what was done since it was opened; `batch_s` is
    what the largest batch took at most in `warm`, `laps` what the parts of the last `inspect` took.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: Network,
        engine_hash: str,
        calibration: StationCalibration,
        max_batch: int,
        proving: bool = True,
        feed: Feed | None = None,
    ) -> None:
        self.manifest: Manifest = recipe.manifest
        self.limits: Limits = recipe.manifest.limits
        self.recipe_hash, self.engine_hash, self.calibration_hash = recipe.hash, engine_hash, calibration.hash
        self.max_batch = max_batch if proving else max_batch + 1
        self.network_calls = 0
        self.panels = 0
        self.batch_s = 0.0
        self.laps = Laps()
        self._network, self._calibration = network, calibration
        taught = self.manifest.integrity
        self._guard = Guard(taught) if taught else None
        self._names = tuple(channel.name for channel in self.manifest.channels)
        self._gather = Gather(len(self._names), self.manifest.geometry, self.manifest.dtype)
        self._rows = max_batch + 1
        _check_fit(network, self._gather.shape)
        self._feed = feed or HostFeed(self._run_network, self._gather, calibration, self._rows)
        self._map_shape = network.outputs[MAP].shape
        self._scoring = Scoring(self.manifest, self._gather.map_shape(self._map_shape))
        self._fitting = Fitting(self.manifest, calibration)
        self._sentinel = self._sentinel_of(recipe) if proving else None
        self._trusted = True
        self._empty = np.zeros(self._gather.shape, self.manifest.dtype)

    def check(self, panel: NDArray) -> None:
        """Raise where `panel` is not [C, H, W] as the recipe expects; cheap, reads no pixel.

        Raises:
            GeometryError: what differs; its attribute `fault` names the line's fault.
        """
        self._fitting.check(panel)

    @property
    def checks_integrity(self) -> bool:
        """False for a recipe without integrity limits: `integrity` then finds nothing."""
        return self._guard is not None

    def pin(self, memory: NDArray) -> None:
        """Panels will come out of this memory, such as a ring's: a card then reads it without a copy on the host."""
        self._feed.pin(memory)

    def device_copies_ms(self, panels: Sequence[NDArray]) -> Mapping[str, float]:
        """`device_in` and `device_out` of a batch of `panels`, alone; empty where the network lies in host memory."""
        rows, golden = sum(len(self._gather.pieces(panel)) for panel in panels), self._sentinel is not None
        calls = [min(rows - at, self.max_batch) + golden for at in range(0, rows, self.max_batch)]
        return self._feed.device_copies_ms(panels, calls)

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

    def area(self, golden: Golden) -> tuple[int, int]:
        """Of a golden panel's map, (h, w) in cells: what must be as the reference by itself, see `engines.sentinel`.

        Raises:
            EngineError: its map is none of this network.
        """
        if golden.map.shape != self._map_shape:
            raise EngineError(
                f"golden panel {golden.name} has a map of {golden.map.shape}, not {self._map_shape}: teach again"
            )
        return own_map(golden, self.manifest).shape

    def prove(self) -> None:
        """Inspect the golden defect twice, at two places beside an empty field: for idle times, and after a failure.

        Raises:
            EngineError: the runtime failed, or does not see the defect.
        """
        for _ in range(2):
            self._run_batch([self._feed.pieces(self._empty, corrected=True)])
        self._trusted = True

    def inspect(self, panels: Sequence[NDArray]) -> list[Finding]:
        """Findings for raw `panels`, each [C, H, W] of its own size; one network call per `max_batch` pieces of them.

        Raises:
            GeometryError: a panel does not fit; nothing was inspected, so `check` each one first.
            EngineError: the runtime failed, or did not see the golden defect in the batch; after that nothing is
                inspected until `prove` succeeds.
        """
        for panel in panels:
            self.check(panel)
        return [finding for finding, _ in self._inspect(panels, self._feed.pieces)]

    def inspect_golden(self, panels: Sequence[NDArray]) -> list[tuple[Finding, Map]]:
        """As `inspect`, for golden panels: each with the network's whole map [h, w], of which a piece takes a part.

        Golden panels of a recipe in tiles are pieces, which `check` refuses: none of them comes from a camera.
        """
        for panel in panels:
            self._fitting.check_golden(panel)
        return [(finding, joined.whole) for finding, joined in self._inspect(panels, self._feed.golden)]

    def warm(self, runs: int = 2) -> None:
        """Run every batch size on empty input, so that the first panel is as fast as any."""
        taken = []
        for rows in range(1, self._rows + 1):
            for _ in range(runs):
                began = time.perf_counter()
                self._feed.blank(rows)
                taken.append(time.perf_counter() - began)
        self.batch_s = max(taken[-runs:]) * self._gather.usual

    def _sentinel_of(self, recipe: Recipe) -> Sentinel | None:
        scored = [replace(one, score=self.reference(one)) for one in recipe.golden]
        golden = strongest(scored, self.limits.image)
        if golden is None:
            return None
        pieces = self._gather.golden(golden.frames)
        tile = np.empty(self._gather.shape, np.float32)
        pieces.fill(0, tile)
        tile.flags.writeable = False
        return Sentinel(tile, golden.score, golden.map, self.area(golden), self.limits.image, pieces)

    def _inspect(
        self, panels: Sequence[NDArray], gather: Callable[[NDArray], Pieces]
    ) -> Iterator[tuple[Finding, Joined]]:
        """Findings, and the maps that they are made of; batch by batch, each once it is asked for."""
        if not self._trusted:
            raise EngineError("the engine did not see a golden defect and has not proven itself since")
        self.laps.begin()
        for at in range(0, len(panels), self.max_batch):
            batch = panels[at : at + self.max_batch]
            answers = self._run_batch([gather(panel) for panel in batch])
            self.panels += len(batch)
            for panel, (joined, score) in zip(batch, answers, strict=True):
                yield self._finding(panel, joined, score), joined
            self.laps.lap(DECIDE)

    def _run_batch(self, gathered: Sequence[Pieces]) -> list[tuple[Joined, float]]:
        """Maps and scores of panels, by calls that the golden defect went through too."""
        rows = [(pieces, number) for pieces in gathered for number in range(len(pieces))]
        parts = [rows[at : at + self.max_batch] for at in range(0, len(rows), self.max_batch)]
        try:
            done = list(overlapped(self._start, self._finish, parts, self._feed.depth))
        finally:
            self._feed.release(gathered)
        answers = [answer for part in done for answer in part]
        joined = [self._joined(*each) for each in _dealt(gathered, answers)]
        self.laps.lap(STITCH)
        return joined

    def _run_network(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray]:
        self.laps.lap(PREPARE)
        outputs = self._network.run({INPUT: batch})
        self.laps.lap(NETWORK)
        return outputs

    def _start(self, pieces: Sequence[tuple[Pieces, int]]) -> tuple[Any, Batch]:
        """Pieces as one call of the network, with the golden defect among them."""
        sentinel = self._sentinel
        at = sentinel.row(len(pieces)) if sentinel else None
        rows = [row + (at is not None and row >= at) for row in range(len(pieces))]
        placed = [(*each, row) for each, row in zip(pieces, rows, strict=True)]
        batch = Batch(placed, at, sentinel.tile if sentinel else None)
        copied_ns = self._feed.copied_ns
        started = self._feed.start(batch), batch
        self.laps.copied(HOST_IN, self._feed.copied_ns - copied_ns)
        self.laps.lap(PREPARE)
        return started

    def _finish(self, started: tuple[Any, Batch]) -> list[tuple[NDArray[np.float32], float]]:
        """Map [h, w] and score that the network gives each piece."""
        handed, batch = started
        outputs, sentinel = self._feed.finish(handed), self._sentinel
        self.laps.lap(NETWORK)
        self.network_calls += 1
        maps, scores = outputs[MAP], outputs[SCORE].tolist()
        if sentinel and batch.at is not None:
            try:
                joined, score = self._joined(sentinel.pieces, [(maps[batch.at], scores[batch.at])])
                sentinel.verify(score, joined.whole)
            except BaseException:
                self._trusted = False  # and it stays so, whatever batches under way say
                raise
        began_ns = time.monotonic_ns()
        answers = [(maps[row].copy(), scores[row]) for _, _, row in batch.rows]
        self.laps.copied(HOST_OUT, time.monotonic_ns() - began_ns)
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
    kept: Path | None = None,
) -> Iterator[Detector]:
    """A detector for `recipe`, freed when the context is left.

    `derived` is the graph that `engines.build.derive` made. `proving` is false only where an engine is measured: by
    how much one is off that answers otherwise than the golden panels say. `kept` is a folder for what is compiled.

    Raises:
        UsageError: there is no such runtime or precision, its library is not installed, or it needs a derived graph.
        EngineError: the runtime cannot load the network, or the network does not fit the manifest.
    """
    source = replace(source_of(recipe, runtime, precision, derived), kept=kept)
    digest = sha256(derived).hexdigest() if derived else ""
    key = engine_key(recipe, runtime, precision, digest, threads, max_batch)
    module = runtimes.load(runtime, precision)
    with (
        module.open_network(source, precision, threads, max_batch + 1) as network,  # one row is the golden's
        _feeding(network, recipe.manifest, calibration, kept) as feed,
    ):
        yield Detector(recipe, network, key.hash, calibration, max_batch, proving, feed)


def _feeding(
    network: Network, manifest: Manifest, calibration: StationCalibration, kept: Path | None
) -> AbstractContextManager[Feed | None]:
    """Past the host where the network lies on a card; None: by the host."""
    if not getattr(network, "lanes", ()):
        return nullcontext()
    from engines import card_feed  # brings the kernel and what binds it, which no other line needs

    gather = Gather(len(manifest.channels), manifest.geometry, manifest.dtype)
    return card_feed.opened(cast(CardNetwork, network), gather, calibration, manifest.dtype, kept)


def _dealt(
    gathered: Sequence[Pieces], answers: Sequence[tuple[NDArray[np.float32], float]]
) -> Iterator[tuple[Pieces, Sequence[tuple[NDArray[np.float32], float]]]]:
    """Each panel's pieces with the answers to them."""
    at = 0
    for pieces in gathered:
        yield pieces, answers[at : at + len(pieces)]
        at += len(pieces)


def _check_fit(network: Network, shape: tuple[int, ...]) -> None:
    expected = {INPUT: TensorSpec(shape, "float32")}
    if dict(network.inputs) != expected or set(network.outputs) != {MAP, SCORE}:
        raise EngineError(f"network takes {dict(network.inputs)}; the recipe needs {expected}; teach again")
