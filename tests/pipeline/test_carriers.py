"""Both carriers deliver the same pixels through real sockets, and give every slot back."""

import os
import time
from collections.abc import Iterator

import numpy as np
import pytest
from ring_parts import SLOT_BYTES, SLOTS, SOON, TOKEN, picture, put

from pipeline.bus import Bus, Tracker
from pipeline.frames import (
    FrameCarrier,
    Reader,
    Ring,
    RingCarrier,
    combined_digest,
    create_ring,
    digest_of,
    remove_ring,
)
from pipeline.messages import Frames, ImageSet


@pytest.fixture
def name() -> Iterator[str]:
    """A ring of three slots."""
    ring = f"takt-test-{os.getpid()}-{time.monotonic_ns()}"
    create_ring(ring, SLOTS, SLOT_BYTES)
    yield ring
    remove_ring(ring)


# --- both carriers through real ZeroMQ ---


def _received(bus: Bus, port) -> list:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        bus.poll(100)
        if found := port.drain():
            return found
    raise AssertionError("nothing came")


def image_set(frames: Frames) -> ImageSet:
    return ImageSet(station="s", token=TOKEN, camera="top", frames=frames, exposed_ns=0, ready_ns=0)


@pytest.mark.parametrize("kind", [RingCarrier, FrameCarrier])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(2, 30, 40), (3, 200, 250)], ids=["small", "uncopied"])
def test_both_carriers_deliver_the_same_pixels(kind, dtype, shape, tmp_path):
    name = f"takt-test-{os.getpid()}-carrier"
    create_ring(name, 2, 300_000)
    pixels, endpoint = picture(3, dtype, shape), f"ipc://{tmp_path}/s"
    try:
        with Bus("inspector") as here, Bus("capture_top") as there:
            pull, push = here.pull(endpoint, "images"), there.push(endpoint, "images")
            ring = Ring(name)
            carrier, slot = kind(ring), ring.acquire(0)
            assert slot is not None
            frames, behind = put(ring, slot, pixels, carrier)
            sent = _sent(push, image_set(frames), behind)
            carrier.sent(slot, sent if isinstance(sent, Tracker) else None)
            [received] = _received(here, pull)
            held = Reader().hold(received.message.frames, received.behind)
            assert held is not None and held.intact()
            assert held.pixels.dtype == dtype
            np.testing.assert_array_equal(held.pixels, pixels)
            assert digest_of(held.pixels.data.cast("B")) == received.message.frames.digest
            held.release()
            del held, received
            _comes_back(carrier, ring)
    finally:
        remove_ring(name)


def _sent(port, message: ImageSet, behind: tuple[memoryview, ...]) -> object:
    """Sent, once the peer is there."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if sent := port.send("images", message, behind=behind):
            return sent
    raise AssertionError("no peer")


def _comes_back(carrier: RingCarrier | FrameCarrier, ring: Ring) -> None:
    """The slot is free again although nothing more is sent."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and ring.free() < ring.slots:
        carrier.collect()
    assert ring.free() == ring.slots


class _Done:
    done = True


def test_a_send_that_ends_after_its_lease_frees_nobody_elses_slot(name):
    ring = Ring(name)
    carrier = FrameCarrier(ring)
    for _ in range(SLOTS):
        slot = ring.acquire(0)
        assert slot is not None
        put(ring, slot, picture(1), carrier)
        carrier.sent(slot, _Done())  # pyright: ignore[reportArgumentType]: a tracker whose end the test sets
    assert ring.acquire(SOON + 1) == 0
    carrier.collect()
    assert ring.free() == SLOTS - 1
    assert carrier.pending == []


class _DoneAtTheSecondLook:
    """A send that ends while it is being asked for."""

    def __init__(self) -> None:
        self._looks = iter((False, True, True))

    @property
    def done(self) -> bool:
        return next(self._looks)


def test_a_send_that_ends_while_it_is_asked_for_gives_its_slot_back_too(name):
    ring = Ring(name)
    carrier, slot = FrameCarrier(ring), ring.acquire(0)
    assert slot is not None
    put(ring, slot, picture(1), carrier)
    carrier.sent(slot, _DoneAtTheSecondLook())  # pyright: ignore[reportArgumentType]: a tracker whose end the test sets
    carrier.collect()
    carrier.collect()
    assert (ring.free(), carrier.pending) == (SLOTS, [])


def test_digests_tell_pixels_and_cameras_apart():
    one, other = digest_of(memoryview(b"a" * 100)), digest_of(memoryview(b"a" * 99 + b"b"))
    assert one != other and len(one) == 32
    assert combined_digest([one]) == one
    assert combined_digest([one, other]) != combined_digest([other, one])
    assert len(combined_digest([one, other])) == 32
