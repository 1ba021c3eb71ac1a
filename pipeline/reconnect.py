"""Connections that ZeroMQ ended for good: it says so by not announcing another try, and they are made anew here.

That is what it does where a peer's message is larger than the socket takes, or breaks the protocol.
"""

import errno
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import count

import zmq
from zmq.utils.monitor import parse_monitor_message

PATIENCE_NS = 250_000_000  # a try of its own is announced at once; a loaded machine may be late with it
NUMBERS = count()
EVENTS = zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED


def monitor_of(context: zmq.Context, socket: zmq.Socket) -> zmq.Socket:
    """Where `socket` tells of its connections; call it before the first one."""
    address = f"inproc://monitor-{next(NUMBERS)}"
    socket.monitor(address, EVENTS)
    monitor = context.socket(zmq.PAIR)
    monitor.setsockopt(zmq.RCVHWM, 0)  # a stage that hangs must not make ZeroMQ's own thread wait
    monitor.connect(address)
    return monitor


@dataclass
class Connections:
    """Those of one socket. `connect` makes one to an endpoint, `ended` is told of each that ZeroMQ had given up."""

    socket: zmq.Socket
    monitor: zmq.Socket
    endpoints: Collection[str]
    connect: Callable[[str], None]
    ended: Callable[[str], None]
    _due_ns: dict[str, int] = field(default_factory=dict)

    def mend(self, now_ns: int) -> None:
        """Hear what happened, and connect again where no try was announced in time."""
        while self.monitor.poll(0):
            told = parse_monitor_message(self.monitor.recv_multipart())
            endpoint = bytes(told["endpoint"]).decode(errors="replace")
            self._due_ns.pop(endpoint, None)
            if told["event"] == zmq.EVENT_DISCONNECTED and endpoint in self.endpoints:
                self._due_ns[endpoint] = now_ns + PATIENCE_NS
        for endpoint in [endpoint for endpoint, due_ns in self._due_ns.items() if now_ns >= due_ns]:
            del self._due_ns[endpoint]
            self._again(endpoint)

    def _again(self, endpoint: str) -> None:
        try:
            self.socket.disconnect(endpoint)
        except zmq.ZMQError as error:
            if error.errno != errno.ENOENT:  # nothing of it was left
                raise
        self.connect(endpoint)
        self.ended(endpoint)
