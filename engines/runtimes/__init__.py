"""Runtimes: one file a runtime. A file holds `PRECISIONS`, `version()`, `device()` and `open_network(...)`."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

from numpy.typing import NDArray

from engines import plugins
from engines.errors import UsageError


@dataclass(frozen=True)
class TensorSpec:
    """Shape behind the batch dimension, and element type as numpy names it."""

    shape: tuple[int, ...]
    dtype: str


class Network(Protocol):
    """One loaded network. Entering allocates, leaving frees. Used by one thread.

    Outputs are filled with NaN before each run and overwritten by the next one: copy what you keep.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    def run(self, tensors: Mapping[str, NDArray]) -> Mapping[str, NDArray]:
        """Outputs for one batch; every tensor has the same first dimension, 1 to `max_batch`.

        Raises:
            EngineError: the runtime failed.
        """
        ...


class Runtime(Protocol):
    """What a runtime's file offers. `version` and `device` need no network and touch no device."""

    PRECISIONS: tuple[str, ...]

    def version(self) -> str: ...

    def device(self) -> str: ...

    def open_network(
        self, path: Path, precision: str, threads: int, max_batch: int
    ) -> AbstractContextManager[Network]: ...


def load(kind: str, precision: str) -> ModuleType:
    """The runtime `kind`, which must offer `precision`.

    Raises:
        UsageError: there is no such runtime or precision, or its library is not installed.
    """
    module = plugins.load("engines.runtimes", kind)
    if precision not in module.PRECISIONS:
        raise UsageError(f"{kind} offers {', '.join(module.PRECISIONS)}, not {precision!r}")
    return module
