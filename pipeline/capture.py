"""Capture: one camera's frames, paired with the bridge's triggers and shipped to the assigned inspector."""

import os
import time
from dataclasses import dataclass, field, replace

from pipeline import association, cameras
from pipeline.association import Confirmed, FrameSeen, Paired, Rearm, Refused, Rules, TriggerSeen
from pipeline.bus import Bus, Port, Tracker
from pipeline.config import CameraConfig, LineConfig
from pipeline.devices import camera_settings
from pipeline.errors import CameraError
from pipeline.frames import Carrier, FrameCarrier, Ring, RingCarrier, digest_of
from pipeline.grabber import FilledSet, Grabber
from pipeline.log import logger
from pipeline.messages import Captured, Fault, Frames, ImageSet, Presence, Trigger
from pipeline.metrics import Metrics, Reading
from pipeline.stage import Life
from pipeline.stages import inspectors

LOG = logger("capture")
TURN_MS = 10
MS = 1_000_000
PRESENCE_NS = 20_000_000
HUNG_NS = 1_000_000_000  # a camera whose call has not returned for so long is not ready


def main(config: LineConfig, part: str, life: Life, bus: Bus) -> None:
    """Run one camera until asked to stop."""
    camera_config = config.camera(part)
    ring = Ring(config.ring(part))
    ring.take_over()
    settings = camera_settings(config, camera_config)
    with cameras.open_camera(camera_config.kind, settings, camera_config.channels) as camera:
        grabber = Grabber(camera, ring, len(camera_config.channels))
        try:
            capture = Capture(config, camera_config, life.name, bus, ring, grabber, life.metrics)
            life.metrics.read(capture.reading)
            bus.watch(grabber.wake)
            while not life.stopping:
                bus.poll(capture.patience_ms(time.monotonic_ns()))
                capture.turn(time.monotonic_ns())
                life.tell("ready", "at the end of its pictures" if grabber.exhausted else "", capture.counters())
        finally:
            grabber.close()


def _rules(config: LineConfig, channels: int) -> Rules:
    timing = config.timing
    return Rules(channels, timing.early_ms * MS, timing.exposure_ms * MS, timing.settle_ms * MS, timing.quiet_ms * MS)


@dataclass
class Capture:
    """What one capture holds between two turns of its loop."""

    config: LineConfig
    camera: CameraConfig
    name: str
    bus: Bus
    ring: Ring
    grabber: Grabber
    metrics: Metrics = field(default_factory=Metrics)
    triggers: dict[str, Trigger] = field(default_factory=dict)
    filled: dict[int, FilledSet] = field(default_factory=dict)
    shipped: dict[str, tuple[FilledSet, str]] = field(default_factory=dict)  # by token, until they are confirmed
    reached: set[str] = field(default_factory=set)  # inspectors to which images have a way
    paired: int = 0
    refused: int = 0
    rearmed: int = 0
    unfinished: tuple[Trigger, Refused] | None = None  # its set is still being filled
    awaited: tuple[Trigger, Refused] | None = None  # the same, once the grabber was asked for what there is
    _told_ns: int = 0

    def __post_init__(self) -> None:
        self.control: Port = self.bus.dealer(self.config.socket("control"), ["triggers"])
        self.images = {
            name: self.bus.push(self.config.socket(f"images-{name}"), "images") for name in inspectors(self.config)
        }
        self.carrier: Carrier = RingCarrier(self.ring) if self.camera.carrier == "ring" else FrameCarrier(self.ring)
        self.state = association.State(_rules(self.config, len(self.camera.channels)))

    def patience_ms(self, now_ns: int) -> int:
        """How long there is nothing to do unless something comes."""
        due_ns = association.due_ns(self.state)
        return TURN_MS if due_ns is None else min(max((due_ns - now_ns) // 1_000_000 + 1, 1), TURN_MS)

    def turn(self, now_ns: int) -> None:
        """Everything that came since the last turn."""
        for received in self.control.drain():
            if isinstance(received.message, Trigger) and self._is_ours(received.message):
                self._announced(received.message)
            else:
                self.control.refuse(received, "a trigger of another station or camera, or one that is open")
        if now_ns - self.grabber.turned_ns > self.config.supervisor.silent_s * 1000 * MS:
            raise CameraError(f"camera {self.camera.name}: a call to it does not return: check its cable and power")
        complete = self._take_frames()
        self.carrier.collect()
        if complete or not self.state.seeking:  # else no pause is known yet, and to arm again gives up what is kept
            self._step(association.Tick(now_ns))
        if now_ns - self._told_ns > PRESENCE_NS:
            self._told_ns = now_ns
            self.reached |= {name for name, port in self.images.items() if port.reachable()}
            # a line that is ready before its images have a way loses the first panels
            ready = bool(self.reached) and now_ns - self.grabber.turned_ns < HUNG_NS
            here = Presence(
                station=self.config.station, stage=self.name, role="capture", ready=ready, pid=os.getpid(), loaded=()
            )
            self.control.send("presence", here)

    def _take_frames(self) -> bool:
        """What the camera gave; the rest of it is void once one of these frames made the camera arm anew.

        True if that is all that it gave until now and the camera is armed.
        """
        complete, armed = not self.grabber.arming, self.rearmed
        for item in self.grabber.take():
            void = self.rearmed != armed
            if isinstance(item, FrameSeen) and not void:
                self._step(item)
            elif isinstance(item, FilledSet) and (void or item.rest):
                self._came_late(item)
            elif isinstance(item, FilledSet):
                self.filled[item.index] = item
        return complete and self.rearmed == armed

    def counters(self) -> dict[str, int | float]:
        return {
            "paired": self.paired,
            "refused": self.refused,
            "rearmed": self.rearmed,
            "free_slots": self.ring.free(),
            "leases_expired": self.ring.reclaimed,
            "camera_failures": self.grabber.failures,
            "messages_dropped": self.control.dropped.total(),
        }

    def reading(self) -> Reading:
        """What a scrape finds."""
        return {**self.counters(), "queue": {("triggers",): len(self.triggers), ("sets",): len(self.filled)}}

    def _is_ours(self, trigger: Trigger) -> bool:
        """For this camera, to an inspector that it knows, and not open already."""
        known = self.camera.name in trigger.cameras and trigger.inspector in (None, *self.images)
        return known and trigger.station == self.config.station and trigger.token not in self.triggers

    def _announced(self, trigger: Trigger) -> None:
        self.triggers[trigger.token] = trigger
        self._step(TriggerSeen(trigger.token, trigger.seq, trigger.edge_ns))

    def _step(self, event: association.Event) -> None:
        self.state, results = association.step(self.state, event)
        for result in results:
            match result:
                case Paired(token, index):
                    self._ship(self.triggers.pop(token), self.filled.pop(index))
                case Confirmed(token):
                    self._confirm(token)
                case Refused():
                    self._refuse(result)
                case Rearm():
                    self._rearm()

    def _ship(self, trigger: Trigger, filled: FilledSet) -> None:
        """Tell the bridge what there is and the inspector where it lies; never wait for either."""
        ready_ns = time.monotonic_ns()
        frames = self._frames(filled)
        if trigger.inspector is None:  # a reject already; taken so that its frames are nobody's surplus
            self.ring.drop(filled.slot)
            self.shipped[trigger.token] = (filled, frames.digest)
            return
        if not self._sent(trigger.token, trigger.inspector, filled, frames, ready_ns):
            self.reached.discard(trigger.inspector)
            self._report(trigger.token, filled, "", Fault.OVERRUN)
            return
        self.paired += 1
        self.metrics.observe("step_seconds", (ready_ns - filled.exposed_ns) / 1e9, "expose")
        self.metrics.observe("step_seconds", (time.monotonic_ns() - ready_ns) / 1e9, "ship")
        self.shipped[trigger.token] = (filled, frames.digest)

    def _sent(
        self, token: str, inspector: str, filled: FilledSet, frames: Frames, ready_ns: int, refused: Fault | None = None
    ) -> bool:
        """Send the set, whose slot is the inspector's then; False where it could not leave, and the slot is free."""
        lease_ns = ready_ns + self.camera.lease_ms * 1_000_000
        frames, behind = self.carrier.ship(filled.slot, token, frames, lease_ns)
        image_set = ImageSet(
            station=self.config.station,
            token=token,
            camera=self.camera.name,
            frames=frames,
            exposed_ns=filled.exposed_ns,
            ready_ns=ready_ns,
            refused=refused,
        )
        sent = self.images[inspector].send("images", image_set, behind=behind)
        if not sent:
            self.ring.drop(filled.slot)
            return False
        self.carrier.sent(filled.slot, sent if isinstance(sent, Tracker) else None)
        return True

    def _frames(self, filled: FilledSet) -> Frames:
        return Frames(shape=filled.shape, dtype=filled.dtype, digest=digest_of(self._pixels(filled)))

    def _confirm(self, token: str) -> None:
        """The bridge hears of the set now, and passes nothing before."""
        if token in self.shipped:
            self._report(token, *self.shipped.pop(token), None)

    def _pixels(self, filled: FilledSet) -> memoryview:
        channels, height, width = filled.shape
        return self.ring.room(filled.slot)[: channels * height * width * (2 if filled.dtype == "uint16" else 1)]

    def _report(self, token: str, filled: FilledSet | None, digest: str, fault: Fault | None) -> None:
        if fault:
            self.metrics.count("set_faults", fault)
        channels = len(self.camera.channels)
        ids = range(filled.index * channels, (filled.index + 1) * channels) if filled else ()
        captured = Captured(
            station=self.config.station,
            token=token,
            camera=self.camera.name,
            frame_ids=tuple(ids),
            digest=digest,
            exposed_ns=filled.exposed_ns if filled else 0,
            ready_ns=time.monotonic_ns(),
            fault=fault,
        )
        self.control.send("captured", captured)

    def _refuse(self, refused: Refused) -> None:
        trigger = self.triggers.pop(refused.token, None)
        self.shipped.pop(refused.token, None)
        self.refused += 1
        LOG.warning("set refused", extra={"token": refused.token, "fault": refused.fault.value})
        self._report(refused.token, None, "", refused.fault)
        if refused.index is None or trigger is None:
            return
        filled = self.filled.pop(refused.index, None)
        if filled is not None:
            self._hand_over(trigger, filled, refused)
        elif refused.got:
            self.unfinished = (trigger, refused)

    def _hand_over(self, trigger: Trigger, filled: FilledSet, refused: Refused) -> None:
        """What came of a refused set, as evidence; the next panel's slot goes first."""
        channels, height, width = filled.shape
        if trigger.inspector is None or not refused.got or not self.ring.free():
            self.ring.drop(filled.slot)
            return
        own = replace(filled, shape=(min(channels, refused.got), height, width))
        self._sent(trigger.token, trigger.inspector, own, self._frames(own), time.monotonic_ns(), refused.fault)

    def _came_late(self, rest: FilledSet) -> None:
        """A set of before the camera was armed anew: nobody's, or what came of the one that was under way."""
        if self.awaited is None or self.awaited[1].index != rest.index:
            self.ring.drop(rest.slot)
            return
        (trigger, refused), self.awaited = self.awaited, None
        self._hand_over(trigger, rest, refused)

    def _rearm(self) -> None:
        self.rearmed += 1
        LOG.warning("re-armed")
        for filled in self.filled.values():
            self.ring.drop(filled.slot)
        self.filled.clear()
        self.awaited, self.unfinished = self.unfinished, None
        self.grabber.rearm(self.awaited[1].index if self.awaited else None)
