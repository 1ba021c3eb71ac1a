"""One capture in a test: its loop with real sockets and rings, the camera a script, bridge and inspector the test."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import zmq
from station_parts import CHANNELS, ScriptedCamera, one, pixels, until

from pipeline.bus import Bus, Port, Received
from pipeline.capture import Capture
from pipeline.config import LineConfig
from pipeline.frames import Held, Reader, Ring, digest_of
from pipeline.grabber import Grabber
from pipeline.messages import Captured, Fault, ImageSet, Trigger

SECOND = 1_000_000_000
SETTLE_MS = 2000  # so that frames and triggers arrive in time on a machine that is busy
LATER_NS = 4 * SECOND  # when what has not come is missing


@dataclass
class Rig:
    """One capture between a bridge and an inspector that the test plays."""

    config: LineConfig
    stack: ExitStack
    camera: ScriptedCamera = field(default_factory=ScriptedCamera)
    reader: Reader = field(default_factory=Reader)
    number: Iterator[int] = field(default_factory=count)
    kept: list[tuple[ImageSet, np.ndarray]] = field(default_factory=list)  # of refused sets, given back

    def __post_init__(self) -> None:
        timing = self.config.timing.model_copy(update={"settle_ms": SETTLE_MS})
        self.config = self.config.model_copy(update={"timing": timing})
        self.bus = self.stack.enter_context(Bus("plc_bridge"))
        self.control: Port = self.bus.router(self.config.socket("control"), ["captured", "presence"])
        self.images: Port | None = None
        self.ring = Ring(self.config.ring("top"))
        own = self.stack.enter_context(Bus("capture_top"))
        self.grabber = Grabber(self.camera, self.ring, len(CHANNELS))
        self.stack.callback(self.grabber.close)
        until(lambda: self.camera.armed)
        self.capture = Capture(self.config, self.config.cameras[0], "capture_top", own, self.ring, self.grabber)
        until(lambda: self._presence())

    def with_inspector(self) -> "Rig":
        self.images = self.bus.pull(self.config.socket("images-inspector"), "images", queue=8)
        assert self.capture.images["inspector"].socket.poll(5000, zmq.POLLOUT)
        return self

    def _presence(self) -> bool:
        self.capture.turn(time.monotonic_ns())
        return bool(self.control.drain())

    def trigger(self, *frames: Any, ago_ns: int = 0, inspector: str | None = "inspector") -> str:
        """The PLC triggers, the camera sees `frames`; the token."""
        if self.images:  # ZeroMQ tells a sender that there is room again within about a millisecond
            assert self.capture.images["inspector"].socket.poll(5000, zmq.POLLOUT)
        seq, edge_ns = next(self.number), time.monotonic_ns()
        token = f"{seq:032x}"
        trigger = Trigger(
            station="cell_1",
            token=token,
            seq=seq,
            panel_id="p",
            recipe_no=1,
            recipe="r",
            inspector=inspector,
            cameras=("top",),
            edge_ns=edge_ns - ago_ns,
            window_ms=1000,
        )
        self.camera.expose(*frames, at_ns=edge_ns)
        assert self.control.send("triggers", trigger, to="capture_top")
        return token

    def captured(self, at_ns: int = 0) -> Captured:
        """What the capture says next of a set; its clock goes ahead by `at_ns`."""

        def turn() -> None:
            self.capture.turn(time.monotonic_ns() + at_ns)

        while not isinstance(message := one(self.bus, self.control, turn).message, Captured):
            pass
        return message

    def shipped(self) -> tuple[ImageSet, Held]:
        """The next set to inspect."""
        assert self.images is not None
        while (found := self._held(one(self.bus, self.images)))[0].refused:
            self._keep(*found)
        return found

    def _held(self, received: Received) -> tuple[ImageSet, Held]:
        assert isinstance(received.message, ImageSet)
        held = self.reader.hold(received.message.frames, received.behind)
        assert held is not None
        return received.message, held

    def _keep(self, image_set: ImageSet, held: Held) -> None:
        assert image_set.refused and image_set.frames.digest == digest_of(held.pixels.data.cast("B"))
        self.kept.append((image_set, held.pixels.copy()))
        held.release()

    def evidence(self, token: str, fault: Fault, *frames: np.ndarray) -> None:
        """What came of a refused set has come, and nothing else of it."""

        def come() -> list[tuple[ImageSet, np.ndarray]]:
            self.capture.turn(time.monotonic_ns())
            for received in self.images.drain() if self.images else ():
                self._keep(*self._held(received))
            return [kept for kept in self.kept if kept[0].token == token]

        [(image_set, array)] = until(come)
        assert image_set.refused is fault
        np.testing.assert_array_equal(array, np.stack(frames))

    def good(self, seed: int) -> Held:
        """A panel at which nothing is wrong, all the way to the inspector."""
        frames = [pixels(seed + channel) for channel in range(len(CHANNELS))]
        token = self.trigger(*frames)
        said = self.captured()
        assert (said.token, said.fault) == (token, None)
        image_set, held = self.shipped()
        assert image_set.token == token and held.intact()
        assert said.digest == image_set.frames.digest == digest_of(held.pixels.data.cast("B"))
        np.testing.assert_array_equal(held.pixels, np.stack(frames))
        return held

    def passes(self, seed: int) -> None:
        """A good panel, until nothing of it is left: evidence of the next one needs a slot that is free."""
        self.good(seed).release()
        self.wait_for_slots(2)

    def one_frame_too_few(self) -> str:
        """A panel of which one frame has come and was counted; its token."""
        token = self.trigger(pixels(1))

        def counted() -> bool:
            self.capture.turn(time.monotonic_ns())
            return [window.got for window in self.capture.state.windows] == [1]

        until(counted)
        return token

    def until_armed(self) -> None:
        """Until the camera was armed anew, in a pause, and the capture has room and takes triggers again."""

        def armed() -> bool:
            self.capture.turn(time.monotonic_ns())
            return not self.grabber.arming and self.camera.armed > 1 and not self.capture.state.seeking

        until(armed)
        self.wait_for_slots(2)

    def wait_for_slots(self, free: int) -> None:
        """All but one: the grabber always holds the one that the next set will go to."""

        def idle() -> bool:
            self.capture.turn(time.monotonic_ns())
            return self.ring.free() == free and not getattr(self.capture.carrier, "pending", ())

        until(idle)
