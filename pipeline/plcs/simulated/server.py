"""The PLC's registers on Modbus TCP."""

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections.abc import AsyncIterator

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from pipeline.errors import PlcError
from pipeline.plcs import LineStatus, ResultSeen, registers

DEVICE_ID = 1
FUNCTIONS = (3, 6, 16, 23)  # those for holding registers; a coil's address would mean something else
LONGEST_PAUSE_NS = 20_000_000  # how long a stop may go unnoticed


class Memory:
    """The registers: the conveyor writes its own side, clients may write the vision system's and nothing else."""

    def __init__(self) -> None:
        self._words = [0] * registers.COUNT
        self._written = asyncio.Event()

    def put(self, name: str, value: int | str, slot: int | None = None) -> None:
        """Set one value of the PLC's side."""
        row = registers.find(name, slot)
        self._words[row.offset : row.offset + row.type.value] = row.encode(value)

    def code(self, slot: int) -> int:
        """The slot's code; 0: free."""
        return self._words[registers.result_start(slot)]

    def result(self, slot: int) -> ResultSeen:
        """What the vision system wrote in a slot."""
        start = registers.result_start(slot)
        return registers.unpack_result(self._words[start : start + registers.RESULT_COUNT])

    def status(self) -> LineStatus:
        """What the vision system wrote besides."""
        return registers.unpack_status(self._words[registers.STATUS_START :][: registers.STATUS_COUNT])

    async def wait(self, until_ns: int) -> None:
        """Until a client has written, or until `until_ns`, or for 20 ms."""
        left_ns = max(min(until_ns - time.monotonic_ns(), LONGEST_PAUSE_NS), 0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_ns / 1e9):
                await self._written.wait()
        self._written.clear()

    async def on_request(
        self,
        function_code: int,
        start_address: int,
        address: int,
        count: int,
        current_registers: list[int],
        set_values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Called by the server for every request: these words are the ones that count, its own are a copy."""
        if function_code not in FUNCTIONS:
            return ExcCodes.ILLEGAL_FUNCTION
        if set_values is not None:
            if address < registers.VISION_START:
                return ExcCodes.ILLEGAL_ADDRESS
            self._words[address : address + count] = set_values
            self._written.set()
        current_registers[: registers.COUNT] = self._words
        return None


@contextlib.asynccontextmanager
async def serving(memory: Memory, host: str, port: int) -> AsyncIterator[None]:
    """The memory on a port until the context ends.

    Raises:
        PlcError: the port cannot be listened on.
    """
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)
    _check_free(host, port)
    words = SimData(0, count=registers.COUNT, values=0, datatype=DataType.REGISTERS)
    device = SimDevice(DEVICE_ID, simdata=[words], action=memory.on_request)
    server = ModbusTcpServer(device, address=(host, port))
    if not await server.listen():
        raise PlcError(f"cannot listen on {host}:{port}; choose another port for the simulated PLC")
    try:
        yield
    finally:
        await server.shutdown()
        await asyncio.sleep(0)  # the connections are closed by the loop's next turn


def _check_free(host: str, port: int) -> None:
    """The server itself does not say why it cannot listen."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PlcError(_refused(host, port, error)) from error


def _refused(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; stop the other line or choose another port"
    return f"cannot listen on {host}:{port} ({error.strerror}); choose another address for the simulated PLC"
