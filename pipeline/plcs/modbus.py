"""A PLC that is a Modbus TCP server; `registers.py` says what lies where.

Modbus has no authentication: keep it in a network zone of its own, and let the PLC map the contract's
registers only.
"""

import contextlib
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import ModbusPDU

from pipeline.errors import PlcError
from pipeline.plcs import LineStatus, Plc, PlcImage, Result, ResultSeen, registers

_SILENT = logging.CRITICAL + 1
_BROKEN = (ModbusException, OSError, struct.error, IndexError)  # the latter two: an answer that is no Modbus


class Settings(BaseModel):
    """Where the PLC listens. Give an address, not a name: nothing bounds a name look-up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 502
    device_id: Annotated[int, Field(ge=0, le=255)] = 1
    first_register: Annotated[int, Field(ge=0, le=65_535 - registers.COUNT)] = 0
    timeout_ms: Annotated[int, Field(ge=10, le=10_000)] = 250  # of a whole call, not of a transaction


@contextlib.contextmanager
def connect(settings: Settings) -> Iterator[Plc]:
    """The driver. Tries to reach the PLC once; one that is absent is reported by the first call."""
    logging.getLogger("pymodbus").setLevel(_SILENT)
    plc = ModbusPlc(settings)
    with contextlib.suppress(PlcError):
        plc.reconnect()
    try:
        yield plc
    finally:
        plc.close()


class ModbusPlc:
    """`Plc` over one TCP connection; used by one thread. See `pipeline.plcs.Plc` for the calls."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = _Client(settings)

    def read(self) -> PlcImage:
        """Everything the PLC says, in one transaction."""
        self._begin()
        address = self._settings.first_register + registers.PLC_START
        count, device_id = registers.PLC_COUNT, self._settings.device_id
        answer = self._ask(lambda: self._client.read_holding_registers(address, count=count, device_id=device_id))
        if (answer.function_code, len(answer.registers)) != (3, count):
            raise self._failed(f"{len(answer.registers)} registers came instead of {count}")
        return registers.unpack_image(answer.registers)

    def clear(self, slot: int) -> None:
        """Write code 0 and empty the slot, in one transaction."""
        self._begin()
        self._put(registers.result_start(slot), [0] * registers.RESULT_COUNT)

    def write(self, slot: int, result: Result) -> None:
        """Clear, then the payload, then `result_seq_copy`: exactly three transactions."""
        self._write(slot, registers.pack_result(result))

    def write_as_is(self, slot: int, wrong: ResultSeen) -> None:
        """As `write`, for `takt plc probe` alone: the check word and the copy may be wrong."""
        self._write(slot, registers.pack_seen(wrong))

    def _write(self, slot: int, words: list[int]) -> None:
        payload = registers.RESULT_COUNT - registers.COPY_COUNT
        start = registers.result_start(slot)
        self._begin()
        self._put(start, [0] * registers.RESULT_COUNT)
        self._put(start, words[:payload])
        self._put(start + payload, words[payload:])

    def status(self, status: LineStatus) -> None:
        """Heartbeat, state and counters, in one transaction."""
        words = registers.pack_status(status)
        self._begin()
        self._put(registers.STATUS_START, words)

    def reconnect(self) -> None:
        """Open the connection again, whatever became of the last one."""
        self.close()
        self._client = _Client(self._settings)
        try:
            self._client.open()
        except OSError as error:
            raise self._failed(error.strerror or str(error)) from error

    def close(self) -> None:
        """Close the connection; reconnect() opens it again."""
        self._client.close()

    def _begin(self) -> None:
        """Start the time of one call; the client itself would silently connect again."""
        if not self._client.connected:
            raise self._failed("not connected")
        self._client.start()

    def _put(self, offset: int, words: list[int]) -> None:
        address = self._settings.first_register + offset
        device_id = self._settings.device_id
        answer = self._ask(lambda: self._client.write_registers(address, words, device_id=device_id))
        if (answer.function_code, answer.address, answer.count) != (16, address, len(words)):
            raise self._failed(f"it confirmed other registers than {address} to {address + len(words) - 1}")

    def _ask(self, transaction: Callable[[], ModbusPDU]) -> ModbusPDU:
        try:
            answer = transaction()
        except _BROKEN as error:
            raise self._failed(_reason(error)) from error
        if answer.isError():
            raise self._failed(f"it refused the registers ({answer})")
        return answer

    def _failed(self, reason: str) -> PlcError:
        """Close the connection, so that no late answer is taken for a later one, and say why."""
        self.close()
        where = f"PLC at {self._settings.host}:{self._settings.port}"
        return PlcError(f"{where}: {reason}; check its power, cable, address and register map")


class _Client(ModbusTcpClient):
    """pymodbus' client with one deadline over all transactions of a call, and no retries."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_s = settings.timeout_ms / 1000
        self._deadline_s = 0.0
        # pymodbus' own time-out is of a piece, not of a call: ours has to come first
        super().__init__(settings.host, port=settings.port, timeout=2 * self._timeout_s, retries=0)

    def open(self) -> None:
        """Connect; small writes leave at once."""
        address = (self.comm_params.host, self.comm_params.port)
        self.socket = socket.create_connection(address, timeout=self._timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Start the time of a call."""
        self._deadline_s = time.monotonic() + self._timeout_s

    def send(self, request: bytes, addr: tuple | None = None) -> int:
        """Send the whole request before the call's deadline."""
        self._open_socket().sendall(request)
        return len(request)

    def recv(self, size: int | None) -> bytes:
        """What has come before the call's deadline; pymodbus' own waits anew for every piece."""
        try:
            data = self._open_socket().recv(size or 4096)
        except TimeoutError:
            raise self._late() from None
        if not data:
            raise ConnectionException("it closed the connection")
        return data

    def _open_socket(self) -> socket.socket:
        left_s = self._deadline_s - time.monotonic()
        if self.socket is None or left_s <= 0:
            raise self._late()
        self.socket.settimeout(left_s)
        return self.socket

    def _late(self) -> ConnectionException:
        return ConnectionException(f"no answer within {self._timeout_s * 1000:.0f} ms")


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionException):
        return error.string
    return getattr(error, "strerror", None) or "its answer is no Modbus"
