"""Garbage on every socket: dropped and counted, no stage falls, no panel passes for it, and the next panel passes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from harness import Line, assert_accounted, assert_every_pass_was_inspected
from test_evidence_last import _shipped, _trigger, rings
from wire_fuzz import sent

from pipeline.bus import Bus, Port, encode
from pipeline.config import load
from pipeline.evidence import POOL
from pipeline.inspector import Inspector, open_detectors
from pipeline.messages import Captured, Evidence, Frames, ImageSet, Message, Outcome, Presence, Timing, Verdict

MESSAGES = 400


@contextmanager
def stranger(kind: int, endpoint: str, name: str = "stranger") -> Iterator[zmq.Socket]:
    """A peer that uses nothing of ours."""
    with zmq.Context() as context:
        socket = context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 10_000)
        socket.setsockopt(zmq.IDENTITY, name.encode())
        socket.connect(endpoint)
        assert socket.poll(10_000, zmq.POLLOUT)
        yield socket
        socket.close()


def valid(topic: str, source: str, *messages: Message) -> list[bytes]:
    return [encode(topic, source, 0, message) for message in messages]


def spoken(line: Line) -> dict[str, tuple[int, list[bytes]]]:
    """Each socket that binds in a line: how to reach it, and messages that it takes."""
    config, token = line.config, "ab" * 16
    frames = Frames(shape=(2, 96, 96), dtype="uint8", digest="0" * 32, ring=config.ring("top"), slot=0, generation=1)
    pool = frames.model_copy(update={"ring": config.ring(POOL)})
    captured = Captured(
        station="toy", token=token, camera="top", frame_ids=(0, 1), digest="0" * 32, exposed_ns=0, ready_ns=0
    )
    said = Verdict(
        station="toy", token=token, inspector="inspector", outcome=Outcome.PASS, fault=None, digest="0" * 32,
        recipe="r", calibration="c", engine="e", score=0.1, limit=0.2, defects=(), mask=None, batch=1,
        timing=Timing(joined_ns=0, started_ns=0, network_ns=0, decided_ns=0),
    )  # fmt: skip
    here = Presence(station="toy", stage="stranger", role="inspector", ready=True, credits=9, loaded=())
    image_set = ImageSet(station="toy", token=token, camera="top", frames=frames, exposed_ns=0, ready_ns=0)
    about = {"station": "toy", "token": token, "seq": 1, "panel_id": "P1", "reason": "reject"}
    kept = Evidence(**about, cameras=("top",), frames=(pool,), map=None)
    control = [
        *valid("captured", "stranger", captured),
        *valid("verdicts", "stranger", said),
        *valid("presence", "stranger", here),
    ]
    return {
        "control": (zmq.DEALER, control),
        "images-inspector": (zmq.PUSH, valid("images", "capture_top", image_set)),
        "evidence": (zmq.PUSH, valid("evidence", "inspector", kept)),
    }


STAGES = {"control": "plc_bridge", "images-inspector": "inspector", "evidence": "archiver"}


@pytest.mark.parametrize("socket", STAGES)
def test_a_running_line_survives_garbage_on_the_sockets_it_binds(start: Callable[..., Line], socket: str) -> None:
    line = start(conveyor={"settings": {"takt_ms": 150, "window_ms": 800}})
    line.until_all_up()
    stage, pids = STAGES[socket], {name: line.pid(name) for name in line.supervisor.running}
    kind, messages = spoken(line)[socket]
    with stranger(kind, line.config.socket(socket)) as peer:
        sent(lambda parts: peer.poll(5000, zmq.POLLOUT) and peer.send_multipart(parts), messages, 1, MESSAGES)
        peer.send_multipart([b"\xc1"])
        line.until(lambda: line.supervisor.counter(stage, "messages_dropped") >= MESSAGES // 3, "dropped messages")
    line.until_passing_again()
    assert {name: line.pid(name) for name in line.supervisor.running} == pids
    log = (line.config.state / "logs" / f"{stage}.log").read_text()
    assert 1 <= log.count('"message dropped"') <= 3  # once a source
    line.supervisor.stop()
    assert_accounted(line.config)
    assert_every_pass_was_inspected(line.config)


def test_an_inspector_survives_garbage_from_its_bridge_and_inspects_the_next(line_file: Callable[..., Path]) -> None:
    config = load(line_file(station="toy"))
    with (
        rings(config) as ring,
        Bus("plc_bridge") as outside,
        open_detectors(config) as detectors,
        Bus("inspector") as own,
    ):
        control = outside.router(config.socket("control"), ["verdicts", "presence"])
        inspector = Inspector(config, "inspector", own, detectors)
        images = outside.push(config.socket("images-inspector"), "images", keep=8)
        until(lambda: turned(inspector, control))
        triggers = [_trigger(config, seq, next(iter(detectors))) for seq in range(4)]
        attack(control, valid("triggers", "plc_bridge", *triggers[:3]), inspector)
        until(lambda: turned(inspector, control) and inspector.control.dropped.total() >= MESSAGES // 3)
        assert images.send("images", _shipped(config, ring, triggers[3]))
        assert control.send("triggers", triggers[3], to="inspector")
        [said] = until(lambda: [item for item in turned(inspector, control) if isinstance(item, Verdict)])
        assert (said.token, said.outcome) == (triggers[3].token, Outcome.REJECT)
        assert said.score > said.limit  # the panel is a dusty one


def attack(control: Port, messages: list[bytes], stage: Inspector) -> None:
    """The bridge's end of the control socket goes mad."""

    def send(parts: list[bytes]) -> None:
        control.socket.send_multipart([b"inspector", *parts])
        stage.turn(time.monotonic_ns())

    sent(send, messages, 2, MESSAGES)


def turned(stage: Inspector, control: Port) -> list[Message]:
    """What the bridge hears after one turn."""
    stage.bus.poll(2)
    stage.turn(time.monotonic_ns())
    return [received.message for received in control.drain()]


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < end, "timed out"
    return found
