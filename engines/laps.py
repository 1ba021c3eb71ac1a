"""How long the parts of an inspection take: the one stopwatch of detector, line and benchmark."""

import time

PREPARE, NETWORK, STITCH, DECIDE = "prepare", "network", "stitch", "decide"
PARTS = (PREPARE, NETWORK, STITCH, DECIDE)
HOST_IN, HOST_OUT = "host_in", "host_out"  # copies by the host; they lie inside of the parts


class Laps:
    """Nanoseconds by part since `begin`, and of the copies inside; what comes several times adds up."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Everything at 0, the clock runs."""
        self.ns: dict[str, int] = dict.fromkeys(PARTS, 0)
        self.copies_ns: dict[str, int] = dict.fromkeys((HOST_IN, HOST_OUT), 0)
        self._last_ns = time.monotonic_ns()

    def lap(self, part: str) -> None:
        """What has passed since the last lap was `part`."""
        now_ns = time.monotonic_ns()
        self.ns[part] += now_ns - self._last_ns
        self._last_ns = now_ns

    def copied(self, which: str, ns: int) -> None:
        """So much of what passes was a copy."""
        self.copies_ns[which] += ns
