"""What this processor can do that changes how numbers come out of a network."""

import platform
from functools import cache
from pathlib import Path

TELLING = (
    "amx_bf16",
    "amx_int8",
    "avx2",
    "avx512_bf16",
    "avx512_vnni",
    "avx512f",
    "avx_vnni",
    "asimddp",
    "bf16",
    "i8mm",
)


@cache
def flags() -> frozenset[str]:
    """Those of `TELLING` that the first processor has; none where the system does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    named = (line.partition(":")[2].split() for line in text.splitlines() if line.startswith(("flags", "Features")))
    return frozenset(next(named, ())) & frozenset(TELLING)


def device() -> str:
    """Kind of processor and its `flags`: runtimes choose their arithmetic by them."""
    return "-".join(("cpu", platform.machine(), *sorted(flags())))


def saturates() -> bool:
    """Whether sums of two 8-bit products are kept in 16 bits, as on x86 without VNNI: weights then need 7 bits."""
    return platform.machine() in ("x86_64", "AMD64") and not flags() & {"avx512_vnni", "avx_vnni"}
