"""The verdict goes first: pixels for the archive never delay the PLC, and never change an outcome."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import numpy as np
import toy_line
import zmq
from harness import Line, assert_accounted

from pipeline.bus import Bus, Port
from pipeline.config import LineConfig, load
from pipeline.evidence import POOL, pool_shape
from pipeline.frames import Ring, RingCarrier, create_ring, digest_of, remove_ring
from pipeline.inspector import Inspector, open_detectors
from pipeline.messages import Frames, ImageSet, Trigger

DUSTY = {"kinds": ["dust"], "defect_scale": 3.0, "pool_good": 1, "defective_share": 0.5}


def test_a_full_evidence_pool_delays_no_verdict_and_changes_none(start: Callable[..., Line]) -> None:
    """The archiver is held with a pool for two panels; half of the panels are rejects."""
    cameras = [toy_line.camera("top", toy_line.CHANNELS, plan=DUSTY)]
    line = start(archive={"slots": 2}, cameras=cameras, conveyor={"settings": {"panels": 20}})
    line.until_all_up()
    with line.frozen("archiver"):
        line.until_finished()
        line.until(lambda: line.supervisor.counter("inspector", "evidence_dropped") >= 5, "dropped evidence")
    line.supervisor.stop()
    count = assert_accounted(line.config)
    assert (count.triggers, count.passed, count.rejected) == (20, 10, 10)
    assert all(row["acknowledged"] and row["latency_ms"] < 500 for row in line.rows())
    kept = len(list((line.config.state / "evidence").iterdir()))
    assert 2 <= kept < 10


@contextmanager
def rings(config: LineConfig) -> Iterator[Ring]:
    """The camera's ring and the evidence pool, as the supervisor makes them."""
    camera = config.cameras[0]
    create_ring(config.ring(camera.name), camera.slots, int(camera.slot_mb * 1e6))
    create_ring(config.ring(POOL), *pool_shape(config))
    config.run_dir.mkdir()
    try:
        yield Ring(config.ring(camera.name))
    finally:
        remove_ring(config.ring(camera.name))
        remove_ring(config.ring(POOL))
        for path in config.run_dir.iterdir():
            path.unlink()
        config.run_dir.rmdir()


def _shipped(config: LineConfig, ring: Ring, trigger: Trigger) -> ImageSet:
    """A dusty panel in the ring, as a capture ships it."""
    pixels = np.full((2, 96, 96), 90, np.uint8)
    slot = ring.acquire(time.monotonic_ns())
    assert slot is not None
    room = ring.room(slot)[: pixels.nbytes]
    room[:] = pixels.tobytes()
    frames = Frames(shape=pixels.shape, dtype="uint8", digest=digest_of(room))
    frames, _ = RingCarrier(ring).ship(slot, trigger.token, frames, time.monotonic_ns() + 10**11)
    camera = config.cameras[0].name
    return ImageSet(station="toy", token=trigger.token, camera=camera, frames=frames, exposed_ns=0, ready_ns=1)


def _trigger(config: LineConfig, seq: int, recipe: str) -> Trigger:
    return Trigger(
        station="toy", token=f"{seq:032x}", seq=seq, panel_id=f"P{seq}", recipe_no=1, recipe=recipe,
        inspector="inspector", cameras=(config.cameras[0].name,), edge_ns=0, window_ms=60_000,
    )  # fmt: skip


def test_every_verdict_of_a_batch_leaves_before_any_evidence(line_file: Callable[..., Path]) -> None:
    """The inspector alone, on real sockets and a real ring, with three rejects in one batch."""
    config = load(line_file(station="toy"))
    with rings(config) as ring, Bus("plc_bridge") as outside, open_detectors(config) as detectors:
        control = outside.router(config.socket("control"), ["verdicts", "presence"])
        archive = outside.pull(config.socket("evidence"), "evidence")
        with Bus("inspector") as bus, Bus("capture_top") as capture:
            inspector = Inspector(config, "inspector", bus, detectors)
            images = capture.push(config.socket("images-inspector"), "images", keep=8)
            _until(lambda: _reachable(inspector, control), "the inspector")
            triggers = [_trigger(config, seq, next(iter(detectors))) for seq in (1, 2, 3)]
            for trigger in triggers:
                assert images.send("images", _shipped(config, ring, trigger))
            _until(lambda: inspector.turn(time.monotonic_ns()) or len(inspector.joins) == 3, "three sets")
            for trigger in triggers:
                inspector.joins[trigger.token].trigger = trigger
            sent: dict[str, list[int]] = {"verdicts": [], "evidence": []}
            _until(lambda: inspector.turn(time.monotonic_ns()) or _noted(sent, control.socket, archive.socket), "all")
        assert inspector.counters()["network_calls"] == 1
        assert max(sent["verdicts"]) < min(sent["evidence"])


def _reachable(inspector: Inspector, control: Port) -> bool:
    inspector.turn(time.monotonic_ns())
    return bool(control.drain())


def _noted(sent: dict[str, list[int]], *sockets: zmq.Socket) -> bool:
    """Note when each message left; True once three of each kind have come."""
    for socket in sockets:
        while socket.poll(0):
            envelope = msgpack.unpackb(socket.recv_multipart()[-1])
            if envelope["topic"] in sent:
                sent[envelope["topic"]].append(envelope["sent_ns"])
    return all(len(times) == 3 for times in sent.values())


def _until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.005)
