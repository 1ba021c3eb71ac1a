"""A man in the middle of the control socket: `python -m pipeline.bench.proxy FRONT BACK RATE SEED WINDOW_MS HOLD_MS`.

Stages connect to its ROUTER at FRONT; towards the bridge's ROUTER at BACK it has a DEALER for each stage, under the
stage's name. What happens to a message stands in `forgery`. It obeys lines on stdin, `hole STAGE SECONDS` (what goes
to or comes from that stage is lost for so long) and `count` (answered with one line of JSON), and ends with stdin.
"""

import heapq
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import zmq

from pipeline.bench.forgery import Forger, Sent

IDLE_MS = 1000
UP, DOWN = "up", "down"  # to the bridge, to a stage
Way = tuple[str, str]  # stage, direction


@dataclass
class Relay:
    """Both ends, and what waits between them."""

    context: zmq.Context
    front_at: str
    back_at: str
    forger: Forger
    backs: dict[str, zmq.Socket] = field(default_factory=dict)
    holes: dict[str, int] = field(default_factory=dict)  # stage: until
    swallowed: int = 0
    _later: list[tuple[int, int, Way, bytes]] = field(default_factory=list)
    _behind: dict[Way, list[tuple[int, bytes]]] = field(default_factory=dict)  # with the instant of their patience
    _number: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.poller = zmq.Poller()
        self.front = self.context.socket(zmq.ROUTER)
        self.front.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.front.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self.front.bind(self.front_at)
        self.poller.register(self.front, zmq.POLLIN)

    def turn(self) -> set[int]:
        """Wait for something, pass on what came and what is due; returns the descriptors that can be read."""
        ready = dict(self.poller.poll(self._patience_ms()))
        if self.front in ready:
            self._from_stages()
        for stage, back in list(self.backs.items()):
            if back in ready and self.backs.get(stage) is back:
                self._from_bridge(stage, back)
        self._due(time.monotonic_ns())
        return {key for key in ready if isinstance(key, int)}

    def hole(self, stage: str, seconds: float) -> None:
        self.holes[stage] = time.monotonic_ns() + int(seconds * 1e9)

    def counts(self) -> str:
        return json.dumps(
            {"faults": dict(self.forger.counts), "messages": dict(self.forger.seen), "swallowed": self.swallowed}
        )

    def _patience_ms(self) -> int:
        waiting = [entry[0] for entry in self._later[:1]] + [due for row in self._behind.values() for due, _ in row]
        if not waiting:
            return IDLE_MS
        return max(min((min(waiting) - time.monotonic_ns()) // 1_000_000 + 1, IDLE_MS), 0)

    def _from_stages(self) -> None:
        with suppress(zmq.Again):
            while True:
                name, data = self.front.recv_multipart(zmq.NOBLOCK)
                stage = name.decode(errors="replace")
                if stage not in self.backs:
                    self._connect(stage)
                self._came((stage, UP), data)

    def _from_bridge(self, stage: str, back: zmq.Socket) -> None:
        with suppress(zmq.Again):
            while self.backs.get(stage) is back:  # passing on may show that the stage is gone
                self._came((stage, DOWN), back.recv(zmq.NOBLOCK))

    def _connect(self, stage: str) -> None:
        back = self.context.socket(zmq.DEALER)
        back.setsockopt(zmq.IDENTITY, stage.encode())
        back.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        back.setsockopt(zmq.LINGER, 0)
        back.connect(self.back_at)
        self.poller.register(back, zmq.POLLIN)
        self.backs[stage] = back

    def _disconnect(self, stage: str) -> None:
        """The stage is gone, and the bridge shall know at once, as without us."""
        back = self.backs.pop(stage, None)
        if back is not None:
            self.poller.unregister(back)
            back.close(linger=0)

    def _came(self, way: Way, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self.holes.get(way[0], 0):
            self.swallowed += 1
            return
        overtaken = self._behind.pop(way, [])
        for sent in self.forger.passed_on(data):
            self._pass_on(way, sent, now_ns)
        for _, late in overtaken:
            self._send(way, late)

    def _pass_on(self, way: Way, sent: Sent, now_ns: int) -> None:
        if sent.behind:
            self._behind.setdefault(way, []).append((now_ns + sent.after_ns, sent.data))
        elif sent.after_ns:
            heapq.heappush(self._later, (now_ns + sent.after_ns, next(self._number), way, sent.data))
        else:
            self._send(way, sent.data)

    def _due(self, now_ns: int) -> None:
        while self._later and self._later[0][0] <= now_ns:
            _, _, way, data = heapq.heappop(self._later)
            self._send(way, data)
        for way, row in list(self._behind.items()):
            for _, data in (entry for entry in row if entry[0] <= now_ns):
                self._send(way, data)
            self._behind[way] = [entry for entry in row if entry[0] > now_ns]
            if not self._behind[way]:
                del self._behind[way]

    def _send(self, way: Way, data: bytes) -> None:
        stage, direction = way
        try:
            if direction == DOWN:
                self.front.send_multipart([stage.encode(), data], zmq.NOBLOCK)
            elif stage in self.backs:
                self.backs[stage].send(data, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                self._disconnect(stage)
            elif error.errno != zmq.EAGAIN:
                raise


def main(front: str, back: str, rate: float, seed: int, window_ms: int, hold_ms: int) -> None:
    """Relay until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started this
    context = zmq.Context()
    relay = Relay(context, front, back, Forger(rate, seed, window_ms, hold_ms))
    relay.poller.register(sys.stdin.fileno(), zmq.POLLIN)
    orders = b""
    while True:
        if sys.stdin.fileno() not in relay.turn():
            continue
        came = os.read(sys.stdin.fileno(), 4096)
        if not came:
            break
        *whole, orders = (orders + came).split(b"\n")
        for order in whole:
            _obey(relay, order.decode().split())
    context.destroy(linger=0)


def _obey(relay: Relay, order: list[str]) -> None:
    match order:
        case ["hole", stage, seconds]:
            relay.hole(stage, float(seconds))
        case ["count"]:
            sys.stdout.write(relay.counts() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), *(int(word) for word in sys.argv[4:7]))
