"""Makes the stages' processes: one process imports what they need, and each of them is a fork of it.

A stage is there in milliseconds instead of a second, so one that fell is back sooner; their code lies in memory once.
A fork is handed to the supervisor, which is its parent, waits for it and takes it along when it dies. A fork server
that is killed costs the next start a second and nothing else.
"""

import ctypes
import gc
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from pipeline import stage
from pipeline.errors import StageError

ANSWER_S = 30.0  # the first answers wait for imports, on a loaded machine
MESSAGE_BYTES = 1 << 16
PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36


@dataclass(frozen=True)
class Order:
    """One process: the stage `name`, whose output goes to the end of the file `output`."""

    name: str
    run_file: str
    output: str
    supervisor: int
    modules: Sequence[str] = ()  # imported before the fork and kept for the next ones; the stage imports the rest


class Child:
    """A process that this one is the parent of, with the calls of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._fd = os.pidfd_open(pid)

    def __del__(self) -> None:
        os.close(self._fd)

    def poll(self) -> int | None:
        """Its exit status, negative for the signal that ended it; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        ended, _, _ = select.select([self._fd], [], [], timeout)
        status = self.poll() if ended else None
        if status is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens where it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The supervisor's end; from entering to leaving the context."""

    def __enter__(self) -> Self:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # a fork of a fork that has ended becomes our child
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def start(self, order: Order) -> Child:
        """A new process.

        Raises:
            StageError: two fork servers, one after the other, gave none.
        """
        for _ in range(2):
            with suppress(OSError):  # it was killed, or stands still
                self._socket.send(json.dumps(asdict(order)).encode())
                if answer := self._socket.recv(MESSAGE_BYTES):
                    return Child(int(answer))
            self._end()
            self._begin()
        raise StageError(f"{order.name} cannot be started: no process can be made; is the memory full?")

    def _begin(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(ANSWER_S)
        number = theirs.fileno()
        python = [sys.executable, "-X", "faulthandler"]  # also a crash of a library leaves a trace
        command = [*python, "-m", "pipeline.fork_server", str(number), str(os.getpid())]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[number], start_new_session=True
            )

    def _end(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


def serve(orders: socket.socket) -> Order | None:
    """Answer orders with process ids. The order, in the fork that carries it out; None where there is nothing to do."""
    while message := orders.recv(MESSAGE_BYTES):
        order = Order(**json.loads(message))
        for module in order.modules:
            with suppress(Exception):  # the stage meets it again, and says so in its log
                import_module(module)
        gc.freeze()
        read, told = os.pipe()  # a fork that nobody was told of must not begin: nobody would watch it
        pid = _fork_an_orphan()
        if pid == 0:
            os.close(told)
            return order if os.read(read, 1) else None
        os.close(read)
        orders.send(str(pid).encode())
        os.write(told, b"!")
        os.close(told)
    return None


def _fork_an_orphan() -> int:
    """The process id of a fork; 0 in that fork, once it is the child of whoever adopts orphans.

    Raises:
        OSError: the kernel gives no more processes.
    """
    read, write = os.pipe()
    if between := os.fork():
        os.close(write)
        with open(read, "rb") as told:  # noqa: PTH123
            pid = told.read()
        os.waitpid(between, 0)
        if not pid:
            raise OSError("no process")
        return int(pid)
    parent = os.getpid()
    try:
        if pid := os.fork():
            os.write(write, str(pid).encode())
            os._exit(0)
    except OSError:
        os._exit(1)
    os.close(read)
    os.close(write)
    while os.getppid() == parent:
        time.sleep(0.001)
    return 0


def carry_out(order: Order) -> NoReturn:
    """Be that stage until it ends, and leave at once: taking the interpreter apart would cost each stage 100 ms."""
    os.setsid()
    output = os.open(order.output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    ctypes.CDLL(None).prctl(PR_SET_NAME, f"takt:{order.name}".encode())
    status = stage.main(order.name, Path(order.run_file), order.supervisor)
    logging.shutdown()  # flushes what is to be kept; threads that still load something are left behind
    os._exit(status)


def main(number: int, supervisor: int) -> int:
    """Serve the socket of that number until `supervisor` closes it, or be a stage; the exit status."""
    stage.die_with(supervisor)
    with socket.socket(fileno=number) as orders:
        order = serve(orders)
    return 0 if order is None else carry_out(order)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
