"""Tells the PLC that the line stands, where the bridge did not end in order and cannot tell it."""

import time

from pipeline import plcs
from pipeline.bus import Bus
from pipeline.config import LineConfig
from pipeline.errors import PlcError
from pipeline.open_panels import LineState
from pipeline.plcs import LineStatus
from pipeline.stage import Life

PATIENCE_S = 2.0
PAUSE_MS = 100


def main(config: LineConfig, part: str, life: Life, bus: Bus) -> None:
    """Write the state once; give up on a PLC that is not there."""
    end_s = time.monotonic() + PATIENCE_S
    with plcs.connect(config.plc.kind, config.plc.settings) as plc:
        while True:
            try:
                return plc.status(LineStatus(0, int(LineState.HALTED), 0, 0, 0))
            except PlcError:
                if life.stopping or time.monotonic() > end_s:
                    raise
                bus.poll(PAUSE_MS)
                _reconnect(plc)


def _reconnect(plc: plcs.Plc) -> None:
    try:
        plc.reconnect()
    except PlcError:
        return  # the next call tells
