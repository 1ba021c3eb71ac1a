"""The floor below which no engine gets on this machine: operations at the measured matrix rate, bytes at the measured
copy rate. Both are measured here, by the same runtime and as many threads."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from engines import runtimes
from engines.errors import TaktError
from engines.runtimes import AS_TAUGHT, Source

COPY_MB, SIZE, CHAIN, TRIES = 64, 1024, 4, 6  # of the matrices: some 9 Gop a run


@dataclass(frozen=True)
class Rates:
    """Measured: operations a second by matrix products, None where not; bytes a second by copies, both ways counted."""

    operations: float | None
    bytes: float
    why: str = ""  # there is no rate of operations


@dataclass(frozen=True)
class Floor:
    """Of one run of a batch, milliseconds."""

    compute_ms: float | None
    bytes_ms: float | None

    @property
    def ms(self) -> float | None:
        """The larger of the two; None while the operations are not known, which are nearly always the larger."""
        if self.compute_ms is None or self.bytes_ms is None:
            return None
        return max(self.compute_ms, self.bytes_ms)


def rates(runtime: str, precision: str, threads: int) -> Rates:
    """Of this machine, the best of some tries, since others only slow it."""
    copied = copy_rate(threads)
    try:
        return Rates(matrix_rate(runtime, precision, threads), copied)
    except (TaktError, ModuleNotFoundError) as error:
        return Rates(None, copied, str(error))


def copy_rate(threads: int) -> float:
    """Bytes a second, read and written, of arrays that no cache holds."""
    parts = [(np.ones(COPY_MB << 17), np.empty(COPY_MB << 17)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def copied() -> None:
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), parts))

        return 2 * threads * (COPY_MB << 20) / _shortest_s(copied)


def matrix_rate(runtime: str, precision: str, threads: int) -> float:
    """Operations a second.

    Raises:
        UsageError: the runtime is not there.
        EngineError: it takes no graph as it is, in this precision.
        ModuleNotFoundError: onnx is not installed.
    """
    module = runtimes.load(runtime, precision)
    if module.made_from(precision) != AS_TAUGHT:
        raise TaktError(f"no matrix rate of {precision} on {runtime}: it takes no graph as it is")
    graph = import_module("engines.graphs.work").matrices(SIZE, CHAIN)
    start = np.random.default_rng(0).standard_normal((1, SIZE, SIZE)).astype(np.float32)
    with module.open_network(Source("matrices", graph), precision, threads, 1) as network:
        return 2 * CHAIN * SIZE**3 / _shortest_s(lambda: network.run({"a": start}))


def floor_of(network: bytes, rows: int, measured: Rates) -> Floor:
    """The floor of a batch of `rows` through the float32 ONNX graph `network`."""
    try:
        done = import_module("engines.graphs.work").work(network)
    except (TaktError, ModuleNotFoundError):
        return Floor(None, None)
    bytes_ms = 1000 * (rows * done.moved + done.weights) / measured.bytes
    return Floor(1000 * rows * done.operations / measured.operations if measured.operations else None, bytes_ms)


def _shortest_s(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(TRIES):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken)
