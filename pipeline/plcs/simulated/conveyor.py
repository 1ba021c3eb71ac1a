"""The conveyor, running: its logic turned by the clock and by what clients write."""

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial

from pipeline.plcs.simulated import record
from pipeline.plcs.simulated.line import Line
from pipeline.plcs.simulated.server import Memory, serving
from pipeline.plcs.simulated.settings import Settings
from pipeline.simulation import wire


class Conveyor:
    """A simulated conveyor and its PLC on 127.0.0.1.

    After the last panel the record gets its last line and `finished` is called; the PLC goes on answering until
    `stop` is set, since the bridge may still want its acknowledgements. `listening` is set once it answers.
    """

    def __init__(
        self,
        settings: Settings,
        finished: Callable[[], None] = lambda: None,
        stop: threading.Event | None = None,
    ) -> None:
        self._settings, self._finished = settings, finished
        self._stop = stop or threading.Event()
        self.listening = threading.Event()

    def run(self) -> None:
        """Run the line until `stop` is set.

        Raises:
            PlcError: the port is in use, or the record cannot be written.
        """
        with record.opened(self._settings.record) as (panels, remembered):
            asyncio.run(self._run(panels, remembered))

    async def _run(self, panels: record.PanelRecord, remembered: record.Remembered) -> None:
        memory = Memory()
        pulse = partial(wire.pulse, list(self._settings.wires))
        line = Line(self._settings, memory, panels, remembered, pulse)
        async with serving(memory, self._settings.host, self._settings.port):
            self.listening.set()
            if not await self._turn_until_over(line, memory):
                line.stop(time.monotonic_ns())
                line.end("stopped")
                return
            line.end("finished")
            self._finished()
            await self._turn_until_stopped(line, memory)

    async def _turn_until_over(self, line: Line, memory: Memory) -> bool:
        """True after the last panel, False when stopped before."""
        while not self._stop.is_set():
            due_ns = line.turn(time.monotonic_ns())
            if line.is_over(time.monotonic_ns()):
                return True
            await memory.wait(due_ns)
        return False

    async def _turn_until_stopped(self, line: Line, memory: Memory) -> None:
        while not self._stop.is_set():
            await memory.wait(line.turn(time.monotonic_ns()))


def run_simulated_plc(
    settings: Settings, finished: Callable[[], None] = lambda: None, stop: threading.Event | None = None
) -> None:
    """Run a conveyor until `stop` is set; see `Conveyor`."""
    Conveyor(settings, finished, stop).run()
