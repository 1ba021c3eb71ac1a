"""What a figure was measured on: processors, clocks, memory, GPU, versions. Nothing is asked but the system itself."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from engines import cpu

LIBRARIES = ("takt", "numpy", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "torch", "pyzmq", "pymodbus")
GPU_FACTS = ("name", "driver_version", "memory.total", "clocks.sm", "clocks.max.sm", "pstate", "power.limit")
CPU = Path("/sys/devices/system/cpu")


def facts() -> dict[str, Any]:
    """JSON of the machine; what it does not tell is left out."""
    known = {
        "cpu": _cpu_name(),
        "cpu_kind": cpu.device(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "memory_gb": _memory_gb(),
        "governor": _text(CPU / "cpu0/cpufreq/scaling_governor"),
        "cpu_mhz": _cpu_mhz(),
        "boost": _text(CPU / "cpufreq/boost"),
        "hypervisor": "hypervisor" in _cpu_info("flags") or None,
        "system": f"{platform.system()} {platform.release()}",
        "distribution": _distribution(),
        "python": platform.python_version(),
        "clock": _text(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        "load": round(os.getloadavg()[0], 2),
        "gpus": _gpus() or None,
        "versions": _versions(),
    }
    return {name: value for name, value in known.items() if value is not None}


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def _cpu_info(name: str) -> str:
    lines = (_text(Path("/proc/cpuinfo")) or "").splitlines()
    found = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name)
    return next(found, "")


def _cpu_name() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_mhz() -> float | None:
    now = _text(CPU / "cpu0/cpufreq/scaling_cur_freq")
    return int(now) / 1000 if now else float(_cpu_info("cpu MHz") or 0) or None


def _memory_gb() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _gpus() -> list[dict[str, str]]:
    """What the driver's own tool says of each NVIDIA card; none without it."""
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU_FACTS)}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = ([cell.strip() for cell in line.split(",")] for line in said.splitlines() if line.strip())
    return [dict(zip(GPU_FACTS, row, strict=False)) for row in rows]
