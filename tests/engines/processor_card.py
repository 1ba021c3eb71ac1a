"""A card for tests: the processor. Its memory is the host's, its kernels are the product's own source compiled by g++,
in blocks of one thread one after the other, and its networks are run by onnxruntime."""

import ctypes
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import kernels
from engines.lanes import padded, sizes
from engines.preprocess import PER_THREAD
from engines.runtimes import Network, TensorSpec

CUDA = """
#include <algorithm>
#include <cmath>
#include <immintrin.h>
using std::max; using std::min;
struct Place { unsigned x, y, z; };
static Place blockIdx, threadIdx, blockDim = {1, 1, 1}, gridDim;
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(n)
static int __syncthreads_or(int any) { return any; }
static void __threadfence() {}
static unsigned atomicOr(unsigned *at, unsigned bits) { unsigned was = *at; *at |= bits; return was; }
static unsigned atomicAdd(unsigned *at, unsigned more) { unsigned was = *at; *at += more; return was; }
static unsigned atomicExch(unsigned *at, unsigned value) { unsigned was = *at; *at = value; return was; }
#define THREADS 1
"""
BLOCKS = """
#define BLOCKS(CALL)                                                                       \\
    gridDim = {x, y, z};                                                                   \\
    for (blockIdx.z = 0; blockIdx.z < z; ++blockIdx.z)                                     \\
        for (blockIdx.y = 0; blockIdx.y < y; ++blockIdx.y)                                 \\
            for (blockIdx.x = 0; blockIdx.x < x; ++blockIdx.x) CALL;
#define GATHER_HERE(NAME, OUT)                                                             \\
    extern "C" void run_##NAME(unsigned x, unsigned y, unsigned z, const void *rows,       \\
                               OUT *out, unsigned *seen, unsigned *done, int channels,     \\
                               int h, int w, float top, float scale) {                     \\
        BLOCKS(NAME((const Row *)rows, out, seen, done, channels, h, w, top, scale))       \\
    }
#define LIVING_HERE(NAME, IN)                                                              \\
    extern "C" void run_##NAME(unsigned x, unsigned y, unsigned z, const IN *pixels,       \\
                               const float *gain, unsigned *found, long long count,        \\
                               float top) {                                                \\
        BLOCKS(NAME(pixels, gain, found, count, top))                                      \\
    }
GATHER_HERE(gather_uint8_float32, float)
GATHER_HERE(gather_uint16_float32, float)
GATHER_HERE(gather_uint8_float16, unsigned short)
GATHER_HERE(gather_uint16_float16, unsigned short)
LIVING_HERE(living_uint8, unsigned char)
LIVING_HERE(living_uint16, unsigned short)
"""
KINDS = {"u": ctypes.c_void_p, "i": ctypes.c_longlong, "f": ctypes.c_float}  # of numpy scalars; addresses are unsigned


def kernels_here(place: Path) -> ctypes.CDLL:
    """The kernels' source as a library of the processor."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    (place / "kernel.cpp").write_text("\n".join([CUDA, kernels.source(), BLOCKS]))
    library = place / "kernel.so"
    options = ["-O1", "-shared", "-fPIC", "-mf16c", "-ffp-contract=off"]
    subprocess.run(["g++", *options, "-o", str(library), str(place / "kernel.cpp")], check=True)
    return ctypes.CDLL(str(library))


def launched(library: ctypes.CDLL, name: str, grid: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
    """Run a kernel; a line of a row is parted among blocks of one thread."""
    if name.startswith("gather"):
        grid = (-(-int(arguments[6]) // PER_THREAD), *grid[1:])
    given = [_as_c(each) for each in arguments]
    getattr(library, f"run_{name}")(*(ctypes.c_uint(side) for side in grid), *given)


def _as_c(value: Any) -> Any:
    kind = ctypes.c_int if value.dtype == np.int32 else KINDS[value.dtype.kind]
    return kind(value.item())


class Moment:
    """A timed event."""

    def __init__(self) -> None:
        self.at_s = time.perf_counter()

    def time_since(self, earlier: "Moment") -> float:
        return 1000 * (self.at_s - earlier.at_s)


class Stream:
    """Does at once what it is told."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.copied_in: list[int] = []  # addresses on the host

    def copy_in(self, target: int, source: NDArray) -> None:
        assert source.flags.c_contiguous
        self.copied_in.append(source.ctypes.data)
        ctypes.memmove(target, source.ctypes.data, source.nbytes)

    def fill_zero(self, target: int, count: int) -> None:
        ctypes.memset(target, 0, 4 * count)

    def launch(self, function: str, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any) -> None:
        launched(self._library, function, grid, arguments)

    def mark(self, event: object = None, timed: bool = False) -> object:
        return Moment() if timed else event or object()

    def follow(self, event: object) -> None:
        assert event is not None

    def wait(self, doing: str, patience_s: float = 0.0) -> None:
        pass


class Device:
    """See `engines.cuda.Device`."""

    def __init__(self) -> None:
        self.card = SimpleNamespace(arch="sm_90")
        self.lost = False
        self.taken: list[NDArray] = []
        self.registered: list[NDArray] = []
        self.entered = 0

    @contextmanager
    def current(self) -> Iterator[None]:
        self.entered += 1
        yield
        self.entered -= 1

    def allocate(self, count: int, what: str) -> Any:
        assert self.entered, "no context is current"
        memory = np.full(max(count, 16), 0xAB, np.uint8)
        self.taken.append(memory)
        return memory.ctypes.data

    def release(self, allocation: Any) -> None:
        assert self.entered, "no context is current"
        self.taken = [each for each in self.taken if each.ctypes.data != allocation]

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray:
        return np.zeros(shape, dtype)

    def register(self, memory: NDArray) -> None:
        self.registered.append(memory)

    def is_pinned(self, memory: NDArray) -> bool:
        return any(np.shares_memory(each, memory) for each in self.registered)

    def function(self, cubin: bytes, name: str) -> str:
        return name


class Lane:
    """See `engines.runtimes.Lane`."""

    def __init__(self, library: ctypes.CDLL, network: Network, max_batch: int) -> None:
        ((self._entry, spec),) = network.inputs.items()
        self._network, self.max_batch, self.stream = network, max_batch, Stream(library)
        self._batch = np.full((max_batch, *spec.shape), np.nan, spec.dtype)
        self.input = self._batch.ctypes.data
        self._answers: Mapping[str, NDArray] = {}
        self.under_way = 0
        self.computed: list[int] = []
        self.copied_out: list[int] = []

    def captured(self, rows: int) -> int:
        return padded(rows, sizes(self.max_batch))

    def enqueue(self, rows: int) -> None:
        assert not self.under_way, "the last batch was not finished"
        self.under_way = rows
        self.computed.append(self.captured(rows))
        batch = self._batch[: self.captured(rows)]
        assert np.isfinite(batch).all(), "a row was not gathered"
        self._answers = {name: each.copy() for name, each in self._network.run({self._entry: batch}).items()}
        self._batch[:] = np.nan

    def copy_out(self, rows: int) -> None:
        assert not self.under_way and rows == self.captured(rows)
        self.copied_out.append(rows)

    def finish(self, rows: int) -> Mapping[str, NDArray]:
        assert self.under_way == rows
        self.under_way = 0
        return {name: each[:rows] for name, each in self._answers.items()}


class OnProcessor:
    """A network with lanes; see `engines.runtimes.CardNetwork`."""

    def __init__(self, library: ctypes.CDLL, network: Network, max_batch: int) -> None:
        self.device = Device()
        self.inputs: Mapping[str, TensorSpec] = network.inputs
        self.outputs: Mapping[str, TensorSpec] = network.outputs
        self.lanes = tuple(Lane(library, network, max_batch) for _ in range(2))

    def run(self, tensors: Mapping[str, NDArray]) -> Mapping[str, NDArray]:
        raise AssertionError("panels go past the host")
