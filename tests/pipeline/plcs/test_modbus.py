"""The driver towards PLCs that are absent, silent, slow or not PLCs at all."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import plcs
from pipeline.errors import PlcError
from pipeline.plcs import PASS_CODE, LineStatus, Plc, Result, modbus, registers

TIMEOUT_MS = 80  # where lateness is the matter
PATIENT_MS = 10_000  # where it is not, and the machine may be busy


@contextlib.contextmanager
def peer(answer: Callable[[socket.socket, bytes], None], timeout_ms: int = PATIENT_MS) -> Iterator[modbus.Settings]:
    """A TCP server that gives every request to `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, answer), daemon=True)
        thread.start()
        yield modbus.Settings(port=server.getsockname()[1], timeout_ms=timeout_ms)
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _serve(server: socket.socket, answer: Callable[[socket.socket, bytes], None]) -> None:
    with contextlib.suppress(OSError):
        while True:
            with server.accept()[0] as connection, contextlib.suppress(OSError):
                while request := connection.recv(4096):
                    answer(connection, request)


def _frame(request: bytes, pdu: bytes) -> bytes:
    return request[:4] + (len(pdu) + 1).to_bytes(2, "big") + request[6:7] + pdu


@contextlib.contextmanager
def _memory() -> Iterator[tuple[modbus.Settings, list[bytes]]]:
    """A peer that confirms every write and answers every read with zeros; what it was asked is listed."""
    asked = []

    def answer(connection: socket.socket, request: bytes) -> None:
        asked.append(request[7:])
        count = int.from_bytes(request[10:12], "big")
        read = bytes([3, 2 * count]) + bytes(2 * count)
        connection.sendall(_frame(request, read if request[7] == 3 else request[7:12]))

    with peer(answer) as where:
        yield where, asked


def _always(pdu: bytes) -> contextlib.AbstractContextManager[modbus.Settings]:
    return peer(lambda connection, request: connection.sendall(_frame(request, pdu)))


def _with(where: modbus.Settings, **changes: int) -> modbus.Settings:
    return where.model_copy(update=changes)


def _read_fails(where: modbus.Settings) -> None:
    with modbus.connect(where) as plc, pytest.raises(PlcError):
        plc.read()


def _bounded(call: Callable[[], object], match: str) -> None:
    start = time.monotonic()
    with pytest.raises(PlcError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < TIMEOUT_MS / 1000 + 0.25


def test_a_write_is_three_transactions_in_the_order_of_the_contract():
    with _memory() as (where, asked), modbus.connect(where) as plc:
        plc.write(2, Result(seq=0x0001_0002, code=PASS_CODE, fault=0, recipe_echo=3))
    start = registers.result_start(2)
    copy = registers.find("result_seq_copy", 2).offset
    assert [int.from_bytes(request[1:3], "big") for request in asked] == [start, start, copy]
    assert not any(asked[0][6:])
    assert int.from_bytes(asked[1][6:8], "big") == PASS_CODE
    assert asked[1][3:5] == (registers.RESULT_COUNT - 2).to_bytes(2, "big")
    assert asked[2][6:] == bytes([0, 1, 0, 2])


def test_read_clear_and_status_are_one_transaction_each():
    with _memory() as (where, asked), modbus.connect(where) as plc:
        plc.read()
        plc.clear(1)
        plc.status(LineStatus(1, 6, 0, 0, 0))
    assert [request[0] for request in asked] == [3, 16, 16]


def test_the_registers_may_begin_anywhere():
    with _memory() as (where, asked), modbus.connect(_with(where, first_register=1000)) as plc:
        plc.read()
        plc.clear(0)
    starts = [int.from_bytes(request[1:3], "big") for request in asked]
    assert starts == [1000 + registers.PLC_START, 1000 + registers.result_start(0)]


def test_small_writes_leave_at_once():
    with _memory() as (where, _), modbus.connect(where) as plc:
        assert isinstance(plc, modbus.ModbusPlc)
        assert plc._client.socket is not None
        assert plc._client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("call", ["read", "clear", "write", "status", "reconnect"])
def test_an_absent_plc_is_one_error_at_once(port, call):
    arguments = {"clear": (0,), "write": (0, Result(1, PASS_CODE, 0, 1)), "status": (LineStatus(0, 0, 0, 0, 0),)}
    with modbus.connect(modbus.Settings(port=port, timeout_ms=TIMEOUT_MS)) as plc:
        _bounded(lambda: getattr(plc, call)(*arguments.get(call, ())), "connect|refused")


def test_a_silent_plc_is_an_error_in_time_and_ends_the_connection():
    with peer(lambda connection, request: None, TIMEOUT_MS) as where, modbus.connect(where) as plc:
        _bounded(plc.read, "no answer within 80 ms")
        _bounded(plc.read, "not connected")


def test_an_answer_in_drops_does_not_stretch_the_time():
    def drip(connection: socket.socket, request: bytes) -> None:
        for byte in _frame(request, bytes([3, 134]) + bytes(134)):
            connection.sendall(bytes([byte]))
            time.sleep(0.02)

    with peer(drip, TIMEOUT_MS) as where, modbus.connect(where) as plc:
        _bounded(plc.read, "no answer within 80 ms")


def test_the_time_is_that_of_the_whole_write():
    def slowly(connection: socket.socket, request: bytes) -> None:
        time.sleep(0.045)
        connection.sendall(_frame(request, request[7:12]))

    with peer(slowly, TIMEOUT_MS) as where, modbus.connect(where) as plc:
        _bounded(lambda: plc.write(0, Result(1, PASS_CODE, 0, 1)), "no answer within 80 ms")


def test_a_plc_without_these_registers_is_an_error():
    with _always(b"\x83\x02") as where, modbus.connect(where) as plc:
        _bounded(plc.read, "refused the registers")


def test_too_few_registers_are_an_error():
    with _always(b"\x03\x02\0\0") as where, modbus.connect(where) as plc:
        _bounded(plc.read, "1 registers came instead of")


def test_a_confirmation_of_other_registers_is_an_error():
    with _always(b"\x10\0\0\0\1") as where, modbus.connect(where) as plc:
        _bounded(lambda: plc.clear(3), "confirmed other registers")


def test_a_closed_connection_is_an_error_and_can_be_opened_again():
    asked = []

    def once(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        if len(asked) == 1:
            connection.shutdown(socket.SHUT_RDWR)
        else:
            count = int.from_bytes(request[10:12], "big")
            connection.sendall(_frame(request, bytes([3, 2 * count]) + bytes(2 * count)))

    with peer(once) as where, modbus.connect(where) as plc:
        _bounded(plc.read, "closed|reset")
        plc.reconnect()
        assert plc.read().triggers == 0


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_whatever_comes_back_is_an_error_and_never_an_image(noise):
    with peer(lambda connection, request: connection.sendall(noise)) as where:
        _read_fails(_with(where, timeout_ms=10))


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_a_well_framed_but_wrong_answer_is_an_error(pdu):
    with _always(pdu) as where:
        _read_fails(_with(where, timeout_ms=10))


def test_errors_leave_nothing_on_stderr(port, capfd):
    _read_fails(modbus.Settings(port=port, timeout_ms=10))
    assert capfd.readouterr() == ("", "")


def test_the_driver_is_found_by_its_name(port):
    with plcs.connect("modbus", {"port": port, "timeout_ms": 20}) as plc:
        connected: Plc = plc
        with pytest.raises(PlcError):
            connected.read()


def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError, match="prot"):
        modbus.Settings.model_validate({"prot": 5020})
