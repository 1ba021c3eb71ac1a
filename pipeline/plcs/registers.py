"""THE register table: what the PLC and the vision system write, where, and as what.

Driver, simulated PLC and the printed table are derived from `TABLE`. Everything is a Modbus holding
register; the PLC's side is contiguous so that one read gets it whole, the vision system's side follows it.

How a half-updated value is kept out:

- Trigger: the PLC writes panel_id, recipe_no and window_ms, then `trigger_seq` **last**. In the slot it lies
  at the lowest address, so that a server which copies upwards while the PLC works hands out a new sequence
  only together with what belongs to it. Then nothing in the slot changes until the panel is acknowledged and
  `code` is 0 again.
- Acknowledgement: `ack_code`, then `ack_seq` last; `ack_seq` lies below `ack_code` for the same reason.
- Result: the slot is cleared, then the payload, then `result_seq_copy` alone, at the highest address. Who
  catches the middle sees two different sequences, or a check word that does not fit.
- The two words of one u32 must change in one PLC cycle, and the PLC must answer a request between cycles:
  a demand on the PLC, since nothing in 32 bits could tell.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import Enum, StrEnum
from functools import lru_cache

from pipeline.errors import PlcError
from pipeline.plcs import SLOTS, LineStatus, PlcImage, Result, ResultSeen, SlotSeen, check_word

MAX_READ = 125  # registers in one Modbus read


class Side(StrEnum):
    """Who writes a register."""

    PLC = "PLC"
    VISION = "vision"


class Type(Enum):
    """How many registers a value takes: u32 with the high word first, text two characters a register."""

    U16 = 1
    U32 = 2
    TEXT16 = 8


class Overflow(StrEnum):
    """What becomes of a number that does not fit."""

    REFUSED = "refused"
    SATURATES = "saturates"
    WRAPS = "wraps"


@dataclass(frozen=True)
class Register:
    """One row of the table. `offset` counts from the contract's first register; globals have slot None."""

    name: str
    side: Side
    slot: int | None
    offset: int
    type: Type
    meaning: str
    overflow: Overflow = Overflow.REFUSED

    def encode(self, value: int | str) -> list[int]:
        """The words of `value`.

        Raises:
            PlcError: it does not fit and may be neither saturated nor wrapped.
        """
        if isinstance(value, str):
            return _text_words(self.name, value)
        number = self._fitted(value)
        return [number] if self.type is Type.U16 else [number >> 16, number & 0xFFFF]

    def decode(self, words: Sequence[int]) -> int | str:
        """The value of `words`, one per register of this row; never fails, whatever they hold."""
        if self.type is Type.TEXT16:
            return _text(words)
        return words[0] if self.type is Type.U16 else words[0] << 16 | words[1]

    def _fitted(self, value: int) -> int:
        limit = (1 << 16 * self.type.value) - 1
        if 0 <= value <= limit:
            return value
        if self.overflow is Overflow.REFUSED:
            raise PlcError(f"{self.name} = {value} does not fit a register (0 to {limit}); edit the line file")
        return value & limit if self.overflow is Overflow.WRAPS else min(max(value, 0), limit)


def _text_words(name: str, text: str) -> list[int]:
    if len(text) > 16 or not (text.isascii() and text.isprintable()):
        raise PlcError(f"{name} {text!r} is not at most 16 printable ASCII characters; shorten it in the PLC")
    data = text.encode("ascii").ljust(16, b"\0")
    return [high << 8 | low for high, low in zip(data[::2], data[1::2], strict=True)]


def _text(words: Iterable[int]) -> str:
    data = b"".join(word.to_bytes(2, "big") for word in words).partition(b"\0")[0]
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "?" for byte in data).rstrip(" ")


_Row = tuple[str, Type, str] | tuple[str, Type, str, Overflow]

_PLC_GLOBALS: list[_Row] = [
    ("plc_heartbeat", Type.U16, "changes at 20 Hz while the PLC runs", Overflow.WRAPS),
    ("plc_triggers", Type.U32, "panels triggered so far", Overflow.WRAPS),
    ("plc_passed", Type.U32, "panels passed so far", Overflow.WRAPS),
    ("plc_rejected", Type.U32, "panels rejected so far, for whatever reason", Overflow.WRAPS),
]
_PLC_SLOT: list[_Row] = [
    ("trigger_seq", Type.U32, "counts up by one per panel; written last"),
    ("panel_id", Type.TEXT16, "serial or bar code, ASCII, filled up with zero bytes"),
    ("recipe_no", Type.U16, "product as the PLC knows it"),
    ("window_ms", Type.U16, "the PLC's patience, counted from the trigger"),
    ("ack_seq", Type.U32, "the panel that ack_code belongs to; written after it"),
    ("ack_code", Type.U16, "1 passed, 2 rejected by result, 3 rejected by the PLC's own window"),
]
_VISION_GLOBALS: list[_Row] = [
    ("vision_heartbeat", Type.U16, "changes at 20 Hz while the inspector's loop turns", Overflow.WRAPS),
    ("vision_state", Type.U16, "state numbered as OPC 40100-1"),
    ("vision_triggers", Type.U32, "triggers seen so far", Overflow.WRAPS),
    ("vision_passed", Type.U32, "panels acknowledged as passed so far", Overflow.WRAPS),
    ("vision_rejected", Type.U32, "panels that ended otherwise so far", Overflow.WRAPS),
]
_VISION_SLOT: list[_Row] = [
    ("code", Type.U16, "0 nothing yet, 0x5A3C pass, 0xA5C3 reject; all else is a reject"),
    ("fault", Type.U16, "0, or the fault's number"),
    ("defect_class", Type.U16, "of the worst defect", Overflow.SATURATES),
    ("defect_count", Type.U16, "defects found", Overflow.SATURATES),
    ("x_mm10", Type.U16, "of the worst defect, 0.1 mm", Overflow.SATURATES),
    ("y_mm10", Type.U16, "of the worst defect, 0.1 mm", Overflow.SATURATES),
    ("area_mm2_100", Type.U16, "of the worst defect, 0.01 mm2", Overflow.SATURATES),
    ("score_x1000", Type.U16, "anomaly score, 0.001", Overflow.SATURATES),
    ("latency_ms", Type.U16, "trigger seen to result written", Overflow.SATURATES),
    ("recipe_echo", Type.U16, "recipe_no of the trigger"),
    ("engine_hash16", Type.U16, "low 16 bits of the engine's hash", Overflow.WRAPS),
    ("result_seq", Type.U32, "trigger_seq of the trigger"),
    ("check", Type.U16, "low(seq) ^ high(seq) ^ code ^ recipe_echo ^ 0x3C96"),
    ("result_seq_copy", Type.U32, "result_seq again, written last in its own transaction"),
]


def _laid_out(rows: list[_Row], side: Side, slot: int | None, start: int) -> list[Register]:
    registers = []
    for name, kind, meaning, *overflow in rows:
        registers.append(Register(name, side, slot, start, kind, meaning, *overflow))
        start += kind.value
    return registers


def _side(side: Side, top: list[_Row], slot: list[_Row], start: int) -> list[Register]:
    table = _laid_out(top, side, None, start)
    for number in range(SLOTS):
        table += _laid_out(slot, side, number, start + width(table))
    return table


def width(registers: Iterable[Register]) -> int:
    """How many registers these rows take."""
    return sum(register.type.value for register in registers)


PLC_SIDE = _side(Side.PLC, _PLC_GLOBALS, _PLC_SLOT, 0)
VISION_SIDE = _side(Side.VISION, _VISION_GLOBALS, _VISION_SLOT, width(PLC_SIDE))
TABLE = [*PLC_SIDE, *VISION_SIDE]
COUNT = width(TABLE)
_BY_NAME = {(register.name, register.slot): register for register in TABLE}


def find(name: str, slot: int | None = None) -> Register:
    """The row of that name; slot None for the globals."""
    return _BY_NAME[name, slot]


def group(side: Side, slot: int | None) -> list[Register]:
    """The rows of one side's slot, or of its globals."""
    return [register for register in TABLE if register.side is side and register.slot == slot]


PLC_START, PLC_COUNT = PLC_SIDE[0].offset, width(PLC_SIDE)
VISION_START, VISION_COUNT = VISION_SIDE[0].offset, width(VISION_SIDE)
STATUS_START, STATUS_COUNT = VISION_START, width(group(Side.VISION, None))
RESULT_COUNT = width(group(Side.VISION, 0))
COPY_COUNT = find("result_seq_copy", 0).type.value
_SLOT_COUNT = width(group(Side.PLC, 0))
_PLC_ROWS = {slot: group(Side.PLC, slot) for slot in (None, *range(SLOTS))}
_STATUS_ROWS = group(Side.VISION, None)
_RESULT_ROWS = group(Side.VISION, 0)


def result_start(slot: int) -> int:
    """Offset of a slot's first result register."""
    return find("code", slot).offset


def _pack(rows: list[Register], values: Mapping[str, int | str]) -> list[int]:
    return [word for row in rows for word in row.encode(values[row.name])]


def _unpack(rows: list[Register], words: Sequence[int]) -> dict:
    start = rows[0].offset
    return {row.name: row.decode(words[row.offset - start :][: row.type.value]) for row in rows}


def pack_image(image: PlcImage) -> list[int]:
    """The PLC's side, [PLC_COUNT] words."""
    words = _pack(_PLC_ROWS[None], _prefixed("plc", image))
    for slot, seen in enumerate(image.slots):
        words += _pack(_PLC_ROWS[slot], asdict(seen))
    return words


def unpack_image(words: Sequence[int]) -> PlcImage:
    """The PLC's side from [PLC_COUNT] words."""
    counts = _bare("plc", _unpack(_PLC_ROWS[None], words))
    slots = (words[_PLC_ROWS[slot][0].offset - PLC_START :][:_SLOT_COUNT] for slot in range(SLOTS))
    return PlcImage(tuple(_slot_of(tuple(slot)) for slot in slots), **counts)


@lru_cache(maxsize=4 * SLOTS)  # looked at some hundred times a second, and mostly as it was
def _slot_of(words: tuple[int, ...]) -> SlotSeen:
    return SlotSeen(**_unpack(_PLC_ROWS[0], words))


def pack_result(result: Result) -> list[int]:
    """One result slot, [RESULT_COUNT] words; the last COPY_COUNT of them are `result_seq_copy`."""
    return pack_seen(ResultSeen(result, check_word(result.seq, result.code, result.recipe_echo), result.seq))


def pack_seen(seen: ResultSeen) -> list[int]:
    """One result slot as it is, right or wrong, [RESULT_COUNT] words."""
    result = seen.result
    values = asdict(result) | {"result_seq": result.seq, "check": seen.check, "result_seq_copy": seen.seq_copy}
    return _pack(_RESULT_ROWS, values)


def unpack_result(words: Sequence[int]) -> ResultSeen:
    """One result slot from [RESULT_COUNT] words."""
    return _result_of(tuple(words))


@lru_cache(maxsize=4 * SLOTS)
def _result_of(words: tuple[int, ...]) -> ResultSeen:
    values = _unpack(_RESULT_ROWS, words)
    values["seq"] = values.pop("result_seq")
    check, seq_copy = values.pop("check"), values.pop("result_seq_copy")
    return ResultSeen(Result(**values), check, seq_copy)


def pack_status(status: LineStatus) -> list[int]:
    """The vision system's globals, [STATUS_COUNT] words."""
    return _pack(_STATUS_ROWS, _prefixed("vision", status))


def unpack_status(words: Sequence[int]) -> LineStatus:
    """The vision system's globals from [STATUS_COUNT] words."""
    return _status_of(tuple(words))


@lru_cache(maxsize=4)
def _status_of(words: tuple[int, ...]) -> LineStatus:
    return LineStatus(**_bare("vision", _unpack(_STATUS_ROWS, words)))


def _prefixed(prefix: str, message: PlcImage | LineStatus) -> dict:
    return {f"{prefix}_{field.name}": getattr(message, field.name) for field in fields(message)}


def _bare(prefix: str, values: Mapping[str, int | str]) -> dict:
    return {name.removeprefix(f"{prefix}_"): value for name, value in values.items()}
