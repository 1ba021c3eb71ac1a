"""Inspector: joins the cameras' sets of a panel, inspects every ready panel in one batch, verdict before evidence."""

import math
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engines.detector import Detector, Finding, GeometryError
from engines.errors import EngineError, LostDeviceError
from pipeline.bus import Bus, Received
from pipeline.config import LineConfig
from pipeline.detectors import Detectors, open_detectors
from pipeline.evidence import EvidenceSender
from pipeline.frames import Held, Reader, combined_digest, digest_of
from pipeline.log import logger
from pipeline.messages import Fault, ImageSet, Outcome, Presence, Trigger, Verdict, Wanted
from pipeline.metrics import Metrics, Reading
from pipeline.plcs import SLOTS
from pipeline.stage import Life
from pipeline.verdicts import Judged, note, verdict_of

LOG = logger("inspector")
TURN_MS = 10
PRESENCE_NS = 20_000_000
KEEP_NS = 2_000_000_000  # a set whose trigger never comes is given back after this
MOST_JOINS = 64
PROVE_NS = 1_000_000_000  # an idle engine shows every second that it still sees a defect
WRAP = 1 << 32


def main(config: LineConfig, part: str, life: Life, bus: Bus) -> None:
    """Inspect until asked to stop."""
    with open_detectors(config) as detectors:
        inspector = Inspector(config, life.name, bus, detectors, life.metrics)
        life.metrics.read(inspector.reading)
        while not life.stopping:
            bus.poll(TURN_MS)
            inspector.turn(time.monotonic_ns())
            state = ("error", inspector.sick) if inspector.sick else ("ready", "")
            life.tell(*state, inspector.counters())
            if inspector.lost:  # every panel of the batch has its reject; only a new process can open the card again
                raise inspector.lost


@dataclass
class Join:
    """What has come so far of one panel."""

    since_ns: int
    trigger: Trigger | None = None
    sets: dict[str, tuple[ImageSet, Held]] = field(default_factory=dict)
    refused: dict[str, tuple[ImageSet, Held]] = field(default_factory=dict)  # never inspected
    joined_ns: int = 0

    def complete(self) -> bool:
        return self.trigger is not None and set(self.trigger.cameras) <= self.sets.keys()

    def release(self) -> None:
        for _, held in (*self.sets.values(), *self.refused.values()):
            held.release()

    def refused_whole(self) -> bool:
        """Nothing more will come, and it is no set to inspect."""
        came = self.sets.keys() | self.refused.keys()
        return bool(self.refused) and self.trigger is not None and set(self.trigger.cameras) <= came


@dataclass
class Inspector:
    """What the inspector holds between two turns of its loop."""

    config: LineConfig
    name: str
    bus: Bus
    detectors: Detectors
    metrics: Metrics = field(default_factory=Metrics)
    joins: dict[str, Join] = field(default_factory=dict)
    reader: Reader = field(default_factory=Reader)
    carried_ns: list[int] = field(default_factory=list)  # capture ready -> received, the newest ones
    panels: int = 0
    gone: int = 0  # sets whose slot was reclaimed or that nobody asked for
    sick: str = ""  # why the engine's answers mean nothing; empty while they do
    lost: LostDeviceError | None = None  # what runs the network is gone for this process
    proved_ns: int = 0  # the engine's last answer
    longest_ms: float = 0.0  # of all turns of the loop
    _told_ns: int = 0

    def __post_init__(self) -> None:
        self.reader.attached = self.detectors.pin
        self.control = self.bus.dealer(self.config.socket("control"), ["triggers", "recipes"])
        most = max(camera.slots for camera in self.config.cameras)  # all that wait are one batch; the ring bounds them
        largest = int(max(camera.slot_mb for camera in self.config.cameras) * 1e6)
        self.images = self.bus.pull(self.config.socket(f"images-{self.name}"), "images", most, largest)
        self.evidence = EvidenceSender(self.config, self.bus, self.name)

    def turn(self, now_ns: int) -> None:
        """Everything that is ready now, in as few network calls as there are recipes among it."""
        self._tell(now_ns)
        for received in self.control.drain():
            self._told(received, now_ns)
        self.detectors.turn({join.trigger.recipe for join in self.joins.values() if join.trigger})
        for received in self.images.drain():
            self._arrived(received, now_ns)
        ready = [token for token, join in self.joins.items() if join.complete()]
        if ready:
            self._inspect([self.joins.pop(token) for token in ready])
            self._tell(time.monotonic_ns())
        if now_ns - self.proved_ns > PROVE_NS:
            self._prove()
        self._expire(now_ns)
        self.evidence.tell()
        self.longest_ms = max(self.longest_ms, (time.monotonic_ns() - now_ns) / 1e6)

    def _told(self, received: Received, now_ns: int) -> None:
        match received.message:
            case Trigger() as trigger if self._is_ours(trigger):
                self._join(trigger.token, now_ns).trigger = trigger
            case Wanted() as wanted if wanted.station == self.config.station:
                self.detectors.want(wanted)
            case _:
                self.control.refuse(received, "a message of another station or for another inspector")

    def counters(self) -> dict[str, int | float]:
        carried = float(np.median(self.carried_ns)) / 1e6 if self.carried_ns else 0.0
        counted: dict[str, int | float] = {"panels": self.panels, "network_calls": self.detectors.calls}
        counted |= {"sets_gone": self.gone, "longest_turn_ms": round(self.longest_ms, 1)}
        counted["messages_dropped"] = self.control.dropped.total() + self.images.dropped.total()
        return counted | {"carried_ms": carried, "evidence_dropped": self.evidence.dropped}

    def reading(self) -> Reading:
        """What a scrape finds."""
        return {**self.counters(), "queue": {("joins",): len(self.joins)}, "engine_sick": bool(self.sick)}

    def _is_ours(self, said: Trigger | ImageSet) -> bool:
        """Of this station and its cameras; a stranger's sets must not fill the memory either."""
        named = said.cameras if isinstance(said, Trigger) else (said.camera,)
        for_us = said.inspector == self.name if isinstance(said, Trigger) else len(self.joins) < MOST_JOINS
        known = {camera.name for camera in self.config.cameras}
        return for_us and said.station == self.config.station and known >= set(named)

    def _tell(self, now_ns: int) -> None:
        if now_ns - self._told_ns < PRESENCE_NS:
            return
        self._told_ns = now_ns
        here = Presence(
            station=self.config.station,
            stage=self.name,
            role="inspector",
            ready=not self.sick,
            pid=os.getpid(),
            credits=max(self.detectors.max_batch - len(self.joins), 0),
            batch_ms=math.ceil(1000 * self.detectors.batch_s),
            loaded=self.detectors.loaded(),
            refused=self.detectors.refusals(),
        )
        self.control.send("presence", here)

    def _join(self, token: str, now_ns: int) -> Join:
        return self.joins.setdefault(token, Join(now_ns))

    def _arrived(self, received: Received, now_ns: int) -> None:
        image_set = received.message
        if not isinstance(image_set, ImageSet) or not self._is_ours(image_set):
            self.images.refuse(received, "a set of another station or camera, or too many of them")
            return
        held = self.reader.hold(image_set.frames, received.behind)
        if held is None:
            self.gone += 1
            return
        self.carried_ns = [*self.carried_ns[-255:], time.monotonic_ns() - image_set.ready_ns]
        self.metrics.observe("step_seconds", self.carried_ns[-1] / 1e9, "carry")
        join = self._join(image_set.token, now_ns)
        sets = join.refused if image_set.refused else join.sets
        if image_set.camera in sets:  # the bridge knows the right one by its digest
            sets.pop(image_set.camera)[1].release()
        sets[image_set.camera] = (image_set, held)
        join.joined_ns = time.monotonic_ns()

    def _inspect(self, joins: list[Join]) -> None:
        started_ns = time.monotonic_ns()
        panels = [_panel_of(join) for join in joins]
        by_recipe: dict[str, list[Panel]] = {}
        for panel in panels:
            self._check(panel)
            if panel.fault is None:
                by_recipe.setdefault(panel.trigger.recipe, []).append(panel)
        for recipe, batch in by_recipe.items():
            self._run(self.detectors[recipe], batch)
        for panel in panels:
            self._answer(panel, started_ns)
        for panel in panels:
            with self.metrics.timed("step_seconds", "evidence"):
                reason = panel.reason(self.config.sampled(panel.trigger.recipe_no))
                self.evidence.send(panel.trigger, reason, panel.sets, panel.finding)
            panel.join.release()

    def _check(self, panel: "Panel") -> None:
        detector = self.detectors.get(panel.trigger.recipe)
        if detector is None:
            panel.fault = Fault.RECIPE
            return
        if any(digest_of(held.pixels.data.cast("B")) != sent.frames.digest for sent, held in panel.sets):
            panel.fault = Fault.CORRUPT
            return
        try:
            panel.pixels = _stacked(panel.sets)
            detector.check(panel.pixels)
            self.detectors.offer(panel.pixels, detector.manifest.product)
        except GeometryError as error:
            LOG.warning("set does not fit", extra={"token": panel.trigger.token, "why": str(error)})
            panel.fault = Fault.GEOMETRY
            return
        if damage := detector.integrity(panel.pixels, self.detectors.history(panel.trigger.recipe)):
            panel.fault = Fault(damage.cause.value)
            which = {"token": panel.trigger.token, "cause": damage.cause.value}
            LOG.warning("set is damaged", extra=which | {"channels": detector.channels(damage.channels)})

    def _run(self, detector: Detector, batch: list["Panel"]) -> None:
        checked_ns = time.monotonic_ns()
        try:
            findings = detector.inspect([panel.pixels for panel in batch])
        except EngineError as error:
            self._fell_sick(error)
            for panel in batch:
                panel.fault = Fault.ENGINE
            return
        network_ns = time.monotonic_ns()
        self.proved_ns = self.proved_ns if self.sick else network_ns
        for panel, finding in zip(batch, findings, strict=True):
            panel.finding, panel.network_ns, panel.batch = finding, network_ns, len(batch)
            panel.checked_ns, panel.laps = checked_ns, detector.laps.ns
            if not all(held.intact() for _, held in panel.sets):
                panel.fault = Fault.CORRUPT

    def _prove(self) -> None:
        """Let every engine in use inspect its golden defect; the line is not ready while one does not see it.

        Those that are kept for the way back are asked as well, beside the loop, and opened anew where they do not.
        """
        self.proved_ns = time.monotonic_ns()
        self.detectors.ask_kept(self.proved_ns)
        try:
            for detector in self.detectors.used():
                if detector.proves_itself:
                    detector.prove()
        except EngineError as error:
            self._fell_sick(error)
            return
        self.sick = ""

    def _fell_sick(self, error: EngineError) -> None:
        if not self.sick:
            LOG.error("engine is sick", extra={"why": str(error)})
        self.sick = str(error)
        if isinstance(error, LostDeviceError):
            self.lost = error

    def _answer(self, panel: "Panel", started_ns: int) -> None:
        stamps = (started_ns, panel.join.joined_ns, panel.network_ns, panel.ready_ns(), panel.checked_ns)
        judged = Judged(panel.trigger, self.name, panel.digest(), *stamps, panel.laps)
        detector = self.detectors.get(panel.trigger.recipe)
        panel.verdict = verdict_of(judged, detector, panel.finding, panel.fault, panel.batch)
        self.control.send("verdicts", panel.verdict)
        note(self.metrics, panel.verdict)
        self.panels += 1

    def _expire(self, now_ns: int) -> None:
        """Give back what cannot pass any more, so that a camera that fails does not fill the others' rings."""
        seqs = [join.trigger.seq for join in self.joins.values() if join.trigger]
        for token in [token for token, join in self.joins.items() if join.refused_whole()]:
            self._give_up(self.joins.pop(token))
        for token in [token for token, join in self.joins.items() if _over(join, now_ns, seqs)]:
            self.gone += 1
            self._give_up(self.joins.pop(token))

    def _give_up(self, join: Join) -> None:
        """A panel without its whole set is a fault: the frames that came are evidence."""
        came = join.sets | join.refused
        if join.trigger and came:
            self.evidence.send(join.trigger, "fault", list(came.values()), None)
        join.release()


def _over(join: Join, now_ns: int, seqs: list[int]) -> bool:
    """The window has ended, or the PLC has triggered into the panel's slot again, so it was closed."""
    if join.trigger is None:
        return now_ns - join.since_ns > KEEP_NS
    late = now_ns - join.since_ns > join.trigger.window_ms * 1_000_000
    return late or any(SLOTS <= (seq - join.trigger.seq) % WRAP < WRAP // 2 for seq in seqs)


@dataclass
class Panel:
    """One panel of the batch under way."""

    join: Join
    trigger: Trigger
    sets: list[tuple[ImageSet, Held]]  # in the order of the line file's cameras
    pixels: NDArray = field(default_factory=lambda: np.empty(0))
    finding: Finding | None = None
    fault: Fault | None = None
    verdict: Verdict | None = None
    network_ns: int = 0
    checked_ns: int = 0
    laps: Mapping[str, int] = field(default_factory=dict)
    batch: int = 0

    def ready_ns(self) -> int:
        return max(sent.ready_ns for sent, _ in self.sets)

    def digest(self) -> str:
        return combined_digest([sent.frames.digest for sent, _ in self.sets])

    def reason(self, share: float) -> str | None:
        """Why pixels are kept; a seeded share of the passes is, so that escapes can be counted."""
        if self.verdict is None or self.verdict.fault:
            return "fault"
        if self.verdict.outcome is Outcome.REJECT:
            return "reject"
        return "sample" if random.Random(self.trigger.token).random() < share else None


def _panel_of(join: Join) -> Panel:
    if join.trigger is None:
        raise ValueError("a panel without its trigger is never ready")
    return Panel(join, join.trigger, [join.sets[camera] for camera in join.trigger.cameras])


def _stacked(sets: list[tuple[ImageSet, Held]]) -> NDArray:
    """All channels of a panel [C, H, W]; one camera's set is used in place."""
    if len(sets) == 1:
        return sets[0][1].pixels
    shapes = {(held.pixels.shape[1:], held.pixels.dtype) for _, held in sets}
    if len(shapes) > 1:
        raise GeometryError(f"the cameras' frames differ in size or depth: {sorted(map(str, shapes))}")
    return np.concatenate([held.pixels for _, held in sets])
