"""TensorRT and TensorRT-RTX as runtimes: their modules have the same names, so one class serves both files."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from engines import cuda, lanes, plans
from engines.lanes import OnCard
from engines.runtimes import AS_TAUGHT, Source

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")

FORMS = {"fp16": "fp16", "bf16": "bf16", "int8": "int8-signed", "fp8": "fp8"}


@dataclass(frozen=True, eq=False)
class TensorRuntime:
    """The functions of `engines.runtimes.Runtime`; `library` is the imported module."""

    library: Any

    def version(self) -> str:
        """Versions of the installed library and of how networks are compiled with it."""
        return f"{self.library.__version__} revision {plans.REVISION}"

    def device(self) -> str:
        """The card that runs the network."""
        return cuda.card().identity

    def made_from(self, precision: str) -> str:
        """See `engines.runtimes.Runtime`. Its integers lie around 0."""
        return FORMS.get(precision, AS_TAUGHT)

    @contextmanager
    def open_network(self, source: Source, precision: str, threads: int, max_batch: int) -> Iterator[OnCard]:
        """See `engines.runtimes.Runtime`."""
        lanes.check_precision(precision, cuda.card())
        with lanes.opened(self.library, self.version(), source, max_batch) as network:
            yield network
