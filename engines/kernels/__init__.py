"""CUDA kernels: the source lies here, what is compiled of it in a cache by content. Compiling needs no card."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from pathlib import Path

from engines import cuda
from engines.errors import EngineError, UsageError
from engines.keeping import keep_proven, proven

PREPROCESS = "preprocess.cu"
_FUNCTION = re.compile(r"Compiling entry function '(\w+)'")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


@dataclass(frozen=True)
class Usage:
    """What the compiler reports of one kernel: registers of a thread, and bytes that did not fit into them."""

    kernel: str
    registers: int
    spilled: int


def source(name: str = PREPROCESS) -> str:
    """A kernel file's text."""
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def cubin(arch: str, name: str = PREPROCESS, kept: Path | None = None) -> bytes:
    """The file compiled for `arch`; `kept` is a folder where compiled code is kept by content.

    Raises:
        UsageError: no compiler is there.
        EngineError: it does not compile.
    """
    text = source(name)
    path = kept / f"{sha256(f'{arch} {text}'.encode()).hexdigest()[:32]}.cubin" if kept else None
    known = proven(path) if path else None
    if known is not None:
        return known
    code, _ = compiled(text, name, arch)
    if path:
        keep_proven(path, code)
    return code


def compiled(text: str, name: str, arch: str) -> tuple[bytes, str]:
    """Machine code and the compiler's report, by the run-time compiler or by nvcc.

    Raises:
        UsageError: there is neither.
        EngineError: it does not compile.
    """
    try:
        return cuda.compiled(text, name, arch)
    except UsageError:
        nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
        if nvcc is None:
            raise
        return _by_nvcc(nvcc, text, name, arch)


def usage(report: str) -> Iterator[Usage]:
    """What a compiler's report says of each kernel."""
    parts = _FUNCTION.split(report)[1:]
    for kernel, said in zip(parts[::2], parts[1::2], strict=True):
        registers, spills = _REGISTERS.search(said), _SPILLS.search(said)
        if registers and spills:
            yield Usage(kernel, int(registers[1]), int(spills[1]) + int(spills[2]))


def _by_nvcc(nvcc: str, text: str, name: str, arch: str) -> tuple[bytes, str]:
    with tempfile.TemporaryDirectory() as place:
        file, code = Path(place) / name, Path(place) / "code.cubin"
        file.write_text(text, encoding="utf-8")
        order = [nvcc, "-std=c++17", f"-arch={arch}", "-cubin", "-Xptxas", "-v", "-o", str(code), str(file)]
        done = subprocess.run(order, capture_output=True, text=True, check=False)
        if done.returncode:
            line = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr)
            raise EngineError(f"{name}: does not compile for {arch}: {line.strip()}")
        return code.read_bytes(), done.stderr
