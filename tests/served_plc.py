"""Any PLC program on a real port: the product's register server, turned by a program of the test's."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from pipeline.bench.storm import free_port
from pipeline.plcs.simulated.server import Memory, serving

PATIENCE_S = 10.0


@contextlib.contextmanager
def served(program: Callable[[Memory], Callable[[int], int]]) -> Iterator[int]:
    """The port of a PLC; `program(memory)` gives what is called every cycle, with the time, and returns when again."""
    port, memory, stop, listening = free_port(), Memory(), threading.Event(), threading.Event()
    turn = program(memory)

    async def run() -> None:
        async with serving(memory, "127.0.0.1", port):
            listening.set()
            while not stop.is_set():
                await memory.wait(turn(time.monotonic_ns()))

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert listening.wait(PATIENCE_S)
        yield port
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
