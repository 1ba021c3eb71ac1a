"""Energy that devices count themselves: processors by the kernel's powercap files, NVIDIA cards by their driver.

Where neither can be read nothing is said; an estimate from a data sheet is no measurement.
"""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
Joules = Callable[[], float]


@dataclass
class Meter:
    """Joules that passed since it was made, by counter."""

    counters: dict[str, "Counter"] = field(default_factory=lambda: cpu_counters(POWERCAP) | gpu_counters())

    def __post_init__(self) -> None:
        self._began = {name: counter.read() for name, counter in self.counters.items()}
        self._since_s = time.monotonic()

    def used(self) -> dict[str, dict[str, float]]:
        """By counter joules and mean watts; empty where no device tells."""
        seconds = max(time.monotonic() - self._since_s, 1e-9)
        found = {name: counter.since(self._began[name]) for name, counter in self.counters.items()}
        return {name: {"joules": round(j, 3), "watts": round(j / seconds, 2)} for name, j in found.items()}


@dataclass(frozen=True)
class Counter:
    """One counter of joules; it begins anew after `wrap`, 0 where it does not."""

    read: Joules
    wrap: float = 0.0

    def since(self, before: float) -> float:
        now = self.read()
        return now - before if now >= before else now - before + self.wrap


def cpu_counters(folder: Path) -> dict[str, Counter]:
    """One a processor package, of those that this user may read."""
    found = {}
    for path in sorted(folder.glob("intel-rapl:*")):
        if path.name.count(":") > 1:  # a part of a package, counted in it
            continue
        try:
            name = (path / "name").read_text().strip()
            wrap = int((path / "max_energy_range_uj").read_text()) / 1e6
            _microjoules(path)
        except (OSError, ValueError):
            continue
        found[f"cpu {name}"] = Counter(lambda path=path: _microjoules(path), wrap)
    return found


def _microjoules(path: Path) -> float:
    return int((path / "energy_uj").read_text()) / 1e6


def gpu_counters() -> dict[str, Counter]:
    """One an NVIDIA card that counts its energy, by the driver's management library."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return {}
    count = ctypes.c_uint(0)
    if library.nvmlInit_v2() != 0 or library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return {}
    found = {}
    for number in range(count.value):
        device = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(device)) == 0:
            counter = Counter(lambda device=device: _millijoules(library, device))
            if counter.read() > 0:
                found[f"gpu {number}"] = counter
    return found


def _millijoules(library: ctypes.CDLL, device: ctypes.c_void_p) -> float:
    said = ctypes.c_ulonglong(0)
    status = library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(said))
    return said.value / 1000 if status == 0 else 0.0
