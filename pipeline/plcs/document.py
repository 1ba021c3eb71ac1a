"""Prints the register table and the hand-shake for the PLC's programmer: `python -m pipeline.plcs.document FOLDER`."""

import csv
import io
import sys
from collections.abc import Iterable
from pathlib import Path

from pipeline.plcs import SLOTS, registers, timing_diagram
from pipeline.plcs.registers import Overflow, Register, Side, Type

COLUMNS = ("offset", "holding_register", "words", "type", "written_by", "slot", "name", "meaning", "overflow")
FIRST_HOLDING = 40_001  # Modbus' own count of holding registers begins here
TYPES = {Type.U16: "u16", Type.U32: "u32", Type.TEXT16: "16 characters"}

INTRO = """\
# Registers

Printed by `python -m pipeline.plcs.document deploy/plc` from `pipeline/plcs/registers.py`, the table that the driver
uses; do not edit. `registers.csv` holds every register in a row of its own, for import.

All are Modbus **holding registers** of the PLC, which is the server. Offsets count from `first_register` in the line
file (default 0); the driver reads the {plc} registers of the PLC's side with one request (function 3) and writes the
other {vision} with function 16. A u32 takes two registers, **high word first**; text takes two characters a register,
the first in the high byte, filled up with zero bytes. Slot = sequence mod {slots}.

![The hand-shake: one panel that passes, and one that meets silence](handshake.svg)

What the PLC has to keep, `FB_TaktStation.st` and `FB_TaktSlot.st` do:

- It triggers into a slot only while that slot's `code` is 0, writes `panel_id`, `recipe_no` and `window_ms`, then
  `trigger_seq` last, and changes nothing there until it has acknowledged.
- It passes a panel only if `result_seq` = `result_seq_copy` = its own sequence, `check` fits, `recipe_echo` is its own
  `recipe_no`, `code` is 0x5A3C, `vision_state` is 6, 7 or 8, fewer than three heartbeats are missed, and its window,
  started at the trigger, is open. All else is a reject, silence included.
- It writes `ack_code`, then `ack_seq`: 1 passed, 2 rejected by the result, 3 rejected by its own window.
- Both words of a u32 change in one PLC cycle, and a request is answered between two cycles.
- `check` = low word of the sequence XOR its high word XOR `code` XOR `recipe_echo` XOR 0x3C96.

`takt plc probe LINE.toml` shows whether it does.
"""


def markdown() -> str:
    """The table for people, a slot's four offsets in one row."""
    intro = INTRO.format(plc=registers.PLC_COUNT, vision=registers.VISION_COUNT, slots=SLOTS)
    return "\n".join([intro, *_globals(Side.PLC), *_slots(Side.PLC), *_globals(Side.VISION), *_slots(Side.VISION)])


def table_csv() -> str:
    """Every register, one row each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in registers.TABLE:
        slot = "" if row.slot is None else row.slot
        place = (row.offset, FIRST_HOLDING + row.offset, row.type.value, TYPES[row.type])
        writer.writerow((*place, row.side.value, slot, row.name, row.meaning, row.overflow.value))
    return text.getvalue()


def files() -> dict[str, str]:
    """File name -> content of everything that is generated."""
    return {"registers.md": markdown(), "registers.csv": table_csv(), "handshake.svg": timing_diagram.svg()}


def main(arguments: list[str]) -> int:
    """Write the files into the folder that is named."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m pipeline.plcs.document FOLDER\n")
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (folder / name).write_text(content, encoding="utf-8")
    return 0


def _globals(side: Side) -> Iterable[str]:
    yield f"## Written by the {_who(side)}, once\n"
    yield from _heading("offset", "name", "type", "meaning")
    for row in registers.group(side, None):
        yield _line(row.offset, f"`{row.name}`", _type(row), row.meaning)
    yield ""


def _slots(side: Side) -> Iterable[str]:
    yield f"## Written by the {_who(side)}, in each slot\n"
    yield from _heading(*(f"slot {slot}" for slot in range(SLOTS)), "name", "type", "meaning")
    for row in registers.group(side, 0):
        offsets = (registers.find(row.name, slot).offset for slot in range(SLOTS))
        yield _line(*offsets, f"`{row.name}`", _type(row), row.meaning)
    yield ""


def _heading(*names: str) -> Iterable[str]:
    yield _line(*names)
    yield f"|{'---|' * len(names)}"


def _line(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _who(side: Side) -> str:
    return "PLC" if side is Side.PLC else "vision system"


def _type(row: Register) -> str:
    return TYPES[row.type] + ("" if row.overflow is Overflow.REFUSED else f", {row.overflow.value}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
