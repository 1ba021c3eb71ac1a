"""PLCs: one file a kind. A file holds `Settings`, a pydantic model, and `connect(settings)`."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol, runtime_checkable

from engines import plugins
from engines.errors import UsageError
from engines.settings import checked

SLOTS = 4
PASS_CODE, REJECT_CODE = 0x5A3C, 0xA5C3
ACK_PASSED, ACK_REJECTED, ACK_TIMED_OUT = ACKS = 1, 2, 3


@dataclass(frozen=True)
class SlotSeen:
    """What the PLC says in one slot."""

    trigger_seq: int
    panel_id: str
    recipe_no: int
    window_ms: int
    ack_seq: int
    ack_code: int


@dataclass(frozen=True)
class PlcImage:
    """Everything the PLC says, read in one transaction."""

    slots: tuple[SlotSeen, ...]
    heartbeat: int
    triggers: int
    passed: int
    rejected: int


@dataclass(frozen=True)
class Result:
    """What the vision system says in one slot; the contract's fields in the contract's units."""

    seq: int
    code: int
    fault: int
    recipe_echo: int
    defect_class: int = 0
    defect_count: int = 0
    x_mm10: int = 0
    y_mm10: int = 0
    area_mm2_100: int = 0
    score_x1000: int = 0
    latency_ms: int = 0
    engine_hash16: int = 0


@dataclass(frozen=True)
class ResultSeen:
    """A result slot as it lies in the PLC; nothing in it is to be believed before it was checked."""

    result: Result
    check: int
    seq_copy: int


@dataclass(frozen=True)
class LineStatus:
    """What the vision system says besides the slots."""

    heartbeat: int
    state: int  # numbered as OPC 40100-1, see `handshake.LineState`
    triggers: int
    passed: int
    rejected: int


def check_word(seq: int, code: int, recipe_echo: int) -> int:
    """The contract's check word, u16."""
    return (seq & 0xFFFF) ^ (seq >> 16) ^ code ^ recipe_echo ^ 0x3C96


class Plc(Protocol):
    """A connection to a PLC. Every call is bounded in time and raises PlcError when the PLC is not there.

    After a PlcError the connection is closed; `reconnect()` opens it again.
    """

    def read(self) -> PlcImage: ...

    def clear(self, slot: int) -> None:
        """Write code 0 and empty the slot."""
        ...

    def write(self, slot: int, result: Result) -> None:
        """Clear, then the payload, then `result_seq_copy` in its own transaction."""
        ...

    def status(self, status: LineStatus) -> None: ...

    def reconnect(self) -> None: ...


@runtime_checkable
class ProbingPlc(Plc, Protocol):
    """A driver that can also write what no bridge writes, so that `takt plc probe` sees the PLC refuse it."""

    def write_as_is(self, slot: int, wrong: ResultSeen) -> None:
        """As `write`, in the same transactions, with whatever check word and copy are given."""
        ...


def drivers() -> list[str]:
    """The kinds that can be connected; beside them lie the register table and the simulated PLC."""
    return [kind for kind in plugins.kinds(__name__) if _connects(kind)]


def _connects(kind: str) -> bool:
    try:
        return hasattr(plugins.load(__name__, kind), "connect")
    except UsageError:  # its library is not installed: a driver all the same
        return True


def driver(kind: str) -> ModuleType:
    """The module of a kind of PLC.

    Raises:
        UsageError: there is no such kind.
    """
    module = plugins.load(__name__, kind)
    if not hasattr(module, "connect"):
        raise UsageError(f"{kind!r} is no kind of PLC; there is {', '.join(drivers())}")
    return module


def connect(kind: str, settings: dict) -> AbstractContextManager[Plc]:
    """The driver `kind` with its own settings, which are checked here; does not wait for the PLC."""
    module = driver(kind)
    return module.connect(checked(module.Settings, settings, f"plc {kind}"))
