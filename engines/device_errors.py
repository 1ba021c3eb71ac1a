"""What the CUDA driver says, in our words. Pure: no library is needed to know what an error means."""

from dataclasses import dataclass

from engines.errors import DeviceError, LostDeviceError, OutOfDeviceMemoryError

OUT_OF_MEMORY = 2
NO_DEVICE = 100
UNKNOWN = 999


@dataclass(frozen=True)
class Meaning:
    """One error of the driver: what it calls it, whether the process can go on, and what to do."""

    text: str
    says: str
    lost: bool = False


MEANINGS = {
    1: Meaning("invalid argument", "the request does not fit the card; this is a mistake of takt"),
    OUT_OF_MEMORY: Meaning("out of memory", "its memory is full: lower engine.max_batch"),
    3: Meaning("initialization error", "the driver could not start: run nvidia-smi, then restart the host"),
    4: Meaning("driver shutting down", "the driver is shutting down", lost=True),
    34: Meaning("CUDA driver is a stub library", "libcuda.so.1 is a stub: install the NVIDIA driver"),
    35: Meaning("CUDA driver version is insufficient for CUDA runtime version", "its driver is too old: update it"),
    46: Meaning("CUDA-capable device(s) is/are busy or unavailable", "another process holds it alone"),
    NO_DEVICE: Meaning("no CUDA-capable device is detected", "there is no NVIDIA card, or this user may not open it"),
    101: Meaning("invalid device ordinal", "there is no card of this number"),
    200: Meaning("device kernel image is invalid", "a kernel was compiled for another card: empty the engine cache"),
    201: Meaning("invalid device context", "it has no context in this thread; this is a mistake of takt"),
    209: Meaning(
        "no kernel image is available for execution on the device", "the library has no kernels for this card"
    ),
    214: Meaning("uncorrectable ECC error encountered", "its memory is damaged: replace it", lost=True),
    218: Meaning("a PTX JIT compilation failed", "its driver cannot compile the kernel: update it"),
    220: Meaning("uncorrectable NVLink error detected during the execution", "its link failed", lost=True),
    222: Meaning("the provided PTX was compiled with an unsupported toolchain.", "its driver is too old: update it"),
    226: Meaning("Invalid resource", "the driver has no such resource"),
    304: Meaning("OS call failed or operation not supported on this OS", "the operating system refused: see dmesg"),
    700: Meaning("an illegal memory access was encountered", "a kernel reached outside its memory", lost=True),
    702: Meaning("the launch timed out and was terminated", "a kernel took too long", lost=True),
    709: Meaning("context is destroyed", "its context is gone", lost=True),
    710: Meaning("device-side assert triggered", "a kernel stopped itself", lost=True),
    712: Meaning("part or all of the requested memory range is already mapped", "this memory is registered already"),
    714: Meaning("hardware stack error", "a kernel's stack failed", lost=True),
    715: Meaning("an illegal instruction was encountered", "a kernel is damaged", lost=True),
    716: Meaning("misaligned address", "a kernel read a wrong address", lost=True),
    717: Meaning("operation not supported on global/shared address space", "a kernel is damaged", lost=True),
    718: Meaning("invalid program counter", "a kernel is damaged", lost=True),
    719: Meaning("unspecified launch failure", "a kernel failed", lost=True),
    802: Meaning("system not yet initialized", "the card is not ready yet: wait for its services"),
    803: Meaning(
        "system has unsupported display driver / cuda driver combination", "its driver's parts differ: reboot the host"
    ),
    804: Meaning("forward compatibility was attempted on non supported HW", "its driver is too old: update it"),
    UNKNOWN: Meaning("unknown error", "it fell off: see dmesg", lost=True),
}
_LONGEST_FIRST = sorted(MEANINGS, key=lambda code: -len(MEANINGS[code].text))


def code_in(text: str) -> int | None:
    """The error's number in a library's message such as "cuMemAlloc failed: out of memory"; None: none of ours."""
    lowered = text.lower()
    return next((code for code in _LONGEST_FIRST if MEANINGS[code].text.lower() in lowered), None)


def device_error(doing: str, code: int | None, text: str = "") -> DeviceError:
    """What to raise where the driver answered `code`, or `text` where no number is known, while `doing` something."""
    code = code_in(text) if code is None else code
    known = None if code is None else MEANINGS.get(code)
    if known is None:
        return DeviceError(f"GPU, {doing}: {_first_line(text) or f'error {code} of the driver'}")
    if known.lost:
        return LostDeviceError(f"GPU lost, {doing}: {known.says} ({known.text}); this process has to start anew")
    if known is MEANINGS[OUT_OF_MEMORY]:
        return OutOfDeviceMemoryError(f"GPU, {doing}: {known.says}")
    return DeviceError(f"GPU, {doing}: {known.says} ({known.text})")


def out_of_memory(name: str, batch: int, wanted: int, free: int) -> OutOfDeviceMemoryError:
    """An engine of `batch` rows that needs `wanted` bytes where `free` are left."""
    less = f"lower engine.max_batch to {batch // 2}" if batch > 1 else "take a lower precision or a larger card"
    sizes = f"needs {_mb(wanted)} of GPU memory, {_mb(free)} are free"
    return OutOfDeviceMemoryError(f"{name}: batch {batch} {sizes}: {less}, or let engine.smaller_batch do so")


def timed_out(doing: str, seconds: float) -> LostDeviceError:
    """A card that does not answer: it is not waited for, since it may never do so."""
    return LostDeviceError(f"GPU lost, {doing}: no answer within {seconds:g} s; this process has to start anew")


def other_card(name: str, made_for: str, here: str) -> DeviceError:
    """An engine that was compiled on another card, or by another driver or library."""
    return DeviceError(f"{name}: the engine is of {made_for}, this is {here}: takt build it here")


def _mb(count: int) -> str:
    return f"{count:,} bytes ({count / 1e6:.0f} MB)"


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
