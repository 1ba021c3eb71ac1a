"""The trigger wire of a simulated line: the photo-eye's edge, and which panel lies below the cameras.

In a plant this is a cable and a piece of glass; it carries nothing that the vision system could read. The
simulated conveyor pulses it, simulated cameras listen. It is a datagram socket per camera, so that a pulse
that nobody waits for is lost, as on a cable.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pulse:
    """One edge on the wire.

    `panel` is the physical panel (an index into the run's plan, -1: nothing there), not a message; `edge_ns` is
    this host's monotonic clock.
    """

    panel: int
    edge_ns: int


class Listener:
    """The camera's end of the wire."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(os.fspath(path))
        except OSError:
            self._socket.close()
            raise

    def wait(self, timeout_ms: float) -> Pulse | None:
        """The next pulse, or None when none came in time; 0 only looks."""
        self._socket.settimeout(max(timeout_ms, 0) / 1000)
        try:
            return Pulse(**json.loads(self._socket.recv(4096)))
        except (TimeoutError, BlockingIOError):
            return None

    def drain(self) -> None:
        """Forget the pulses that came so far."""
        while self.wait(0):
            pass

    def close(self) -> None:
        """Take the end of the wire away."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def pulse(wires: list[Path], panel: int, edge_ns: int) -> int:
    """Pulse every wire; returns how many had a listener."""
    data = json.dumps(asdict(Pulse(panel, edge_ns))).encode()
    return sum(_send(path, data) for path in wires)


def _send(path: Path, data: bytes) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            return sender.sendto(data, os.fspath(path)) == len(data)
        except OSError:
            return False


@contextlib.contextmanager
def listening(path: Path) -> Iterator[Listener]:
    """A listener that is closed at the end."""
    listener = Listener(path)
    try:
        yield listener
    finally:
        listener.close()
