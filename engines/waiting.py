"""Waiting for a card, and giving it up."""

import time
from collections.abc import Callable

from engines.device_errors import timed_out

PATIENCE_S = 2.0  # a run that takes longer never ends
FIRST_PATIENCE_S = 120.0  # a first run loads and compiles kernels
SPIN_S, NAP_S = 0.002, 0.0002


def wait_until(done: Callable[[], bool], doing: str, patience_s: float = PATIENCE_S) -> None:
    """Ask again and again, at first without a pause, since most runs take less than a system's shortest.

    Raises:
        LostDeviceError: it is not done in time.
    """
    began = time.perf_counter()
    while not done():
        waited = time.perf_counter() - began
        if waited > patience_s:
            raise timed_out(doing, patience_s)
        if waited > SPIN_S:
            time.sleep(NAP_S)
