"""A simulated conveyor with its PLC: triggers panels, decides by the contract's rule 3 alone, keeps its own record.

It is the second opinion on a simulated line: it shares the register table with the driver, and none of the vision
system's logic. It is no driver: the bridge talks to it through `pipeline.plcs.modbus`, as to any PLC.

    settings.py    what the conveyor does        rule3.py    when a panel passes (pure)
    line.py        takt, slots, windows (pure)   server.py   the registers on Modbus TCP
    record.py      what the PLC remembers        conveyor.py the whole, running (imported by whoever runs it)
"""

from pipeline.plcs.simulated.rule3 import UNDECIDED, Vision, accepts
from pipeline.plcs.simulated.settings import Settings

__all__ = ["UNDECIDED", "Settings", "Vision", "accepts"]
