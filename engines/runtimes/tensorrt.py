"""TensorRT on an NVIDIA card; the extra `tensorrt`. It compiles on the card that will run the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorrt  # pyright: ignore[reportMissingImports]

from engines import cuda, lanes, plans
from engines.lanes import OnCard
from engines.runtimes import AS_TAUGHT, Source

LIBRARY: Any = tensorrt

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")

FORMS = {"fp16": "fp16", "bf16": "bf16", "int8": "int8-signed", "fp8": "fp8"}


def version() -> str:
    """Versions of the installed library and of how networks are compiled with it."""
    return f"{LIBRARY.__version__} revision {plans.REVISION}"


def device() -> str:
    """The card that runs the network."""
    return cuda.card().identity


def made_from(precision: str) -> str:
    """See `engines.runtimes.Runtime`. Its integers lie around 0."""
    return FORMS.get(precision, AS_TAUGHT)


@contextmanager
def open_network(source: Source, precision: str, threads: int, max_batch: int) -> Iterator[OnCard]:
    """See `engines.runtimes.Runtime`."""
    lanes.check_precision(precision, cuda.card())
    with lanes.opened(LIBRARY, version(), source, max_batch) as network:
        yield network
