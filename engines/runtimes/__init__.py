"""Runtimes: one file a runtime. What it offers is `Runtime`, what it opens `Network`."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from numpy.typing import NDArray

from engines import plugins
from engines.errors import UsageError
from engines.recipe import Recipe

if TYPE_CHECKING:
    from engines.cuda import Device, Stream

AS_TAUGHT, WEIGHTS = "network", "weights"  # what an engine is made from, besides the forms of `engines.graphs`


@dataclass(frozen=True)
class Source:
    """What an engine is made from, read once: what was verified is what is loaded.

    `network` is an ONNX graph. A runtime that builds the network itself takes method, settings and weights of `recipe`.
    """

    name: str  # for messages
    network: bytes = field(repr=False, default=b"")
    recipe: Recipe | None = None
    kept: Path | None = None  # where a runtime keeps what it compiles, by content; None: nowhere


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
        """Outputs for one batch; every tensor is contiguous and has the same first dimension, 1 to `max_batch`.

        Raises:
            EngineError: a tensor is missing or does not fit, or the runtime failed.
        """
        ...


class Lane(Protocol):
    """One way over a card: a stream with its own input and outputs there. Its device's context is to be current."""

    max_batch: int
    input: int  # address of [max_batch, C, h, w] on the card
    stream: "Stream"

    def enqueue(self, rows: int) -> None:
        """Queue the network for the first `rows` of the input, behind what is queued already.

        It may compute rows that follow them; `captured` says how many.
        """
        ...

    def captured(self, rows: int) -> int:
        """How many rows are computed where `rows` are asked for; the surplus is to hold something that is finite."""
        ...

    def copy_out(self, rows: int) -> None:
        """Queue what `enqueue` ends with: outputs of `rows`, as the card has them, to the host."""
        ...

    def finish(self, rows: int) -> Mapping[str, NDArray]:
        """Wait, and the outputs of the first `rows`, overwritten by the lane's next run."""
        ...


class CardNetwork(Network, Protocol):
    """A network whose input can be written on the card, past the host."""

    device: "Device"
    lanes: tuple[Lane, ...]


class Runtime(Protocol):
    """What a runtime's file offers. All but `open_network` need no network and touch no device."""

    PRECISIONS: tuple[str, ...]

    def made_from(self, precision: str) -> str:
        """What it loads: `AS_TAUGHT`, `WEIGHTS`, or a form of `engines.graphs`."""
        ...

    def version(self) -> str: ...

    def device(self) -> str: ...

    def open_network(
        self, source: Source, precision: str, threads: int, max_batch: int
    ) -> AbstractContextManager[Network]:
        """The network, to be entered.

        Raises:
            EngineError: when entered: the source is damaged, or of operators that the library does not know.
        """
        ...


def load(kind: str, precision: str) -> ModuleType:
    """The runtime `kind`, which must offer `precision`.

    Raises:
        UsageError: there is no such runtime or precision, or its library is not installed.
    """
    module = plugins.load("engines.runtimes", kind)
    if precision not in module.PRECISIONS:
        raise UsageError(f"{kind} offers {', '.join(module.PRECISIONS)}, not {precision!r}")
    return module
