"""The cable between the bridge and its PLC, which a test can pull, or let swallow everything."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TURN_S = 0.02


class Cable:
    """A TCP proxy. `cut`: connections break and none is made. `swallow`: all stand, and nothing comes through.

    What was swallowed arrives when the cable is `mended`: late, as over a network that held it back.
    """

    def __init__(self, listener: socket.socket, target: int) -> None:
        self._listener, self._target = listener, target
        self._ends: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._swallowing, self._cut, self._over = False, False, False
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    @property
    def whole(self) -> bool:
        return not self._cut and not self._swallowing

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            for end in list(self._ends):
                self._close(end)

    def swallow(self) -> None:
        with self._lock:
            self._swallowing = True

    def mend(self) -> None:
        with self._lock:
            self._cut = self._swallowing = False

    def run(self) -> None:
        """Until `stop`."""
        while not self._over:
            ready = self._selector.select(TURN_S)
            with self._lock:
                for key, _ in ready:
                    self._serve(key.fileobj)
            if self._swallowing:
                threading.Event().wait(TURN_S)  # what waits to be read makes the selector return at once
        for end in list(self._ends):
            self._close(end)
        self._selector.close()

    def stop(self) -> None:
        self._over = True

    def _serve(self, end: object) -> None:
        if self._swallowing:
            return
        if end is self._listener:
            self._accept()
        elif isinstance(end, socket.socket) and end in self._ends:
            self._forward(end)

    def _accept(self) -> None:
        with suppress(OSError):
            near, _ = self._listener.accept()
            if self._cut:
                near.close()
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=1)
            except OSError:
                near.close()
                return
            self._ends |= {near: far, far: near}
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(end, selectors.EVENT_READ)

    def _forward(self, end: socket.socket) -> None:
        try:
            data = end.recv(65536)
            if data:
                self._ends[end].sendall(data)
                return
        except OSError:
            pass  # one side is gone: so is the connection
        self._close(end)

    def _close(self, end: socket.socket) -> None:
        other = self._ends.pop(end, None)
        for side in (end, other) if other else ():
            self._ends.pop(side, None)
            self._selector.unregister(side)
            side.close()


@contextmanager
def cable(target: int) -> Iterator[tuple[Cable, int]]:
    """A cable to the port `target`, and the port at its near end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        between = Cable(listener, target)
        thread = threading.Thread(target=between.run)
        thread.start()
        try:
            yield between, listener.getsockname()[1]
        finally:
            between.stop()
            thread.join()
