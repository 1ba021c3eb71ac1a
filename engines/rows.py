"""A batch through a network: row by row, or whole.

On a CPU a batch gains next to nothing, and libraries compute a batch in another order than single rows. So a row's
answer depends neither on where it stands nor on what stands beside it, to the last bit.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.runtimes import TensorSpec

Tensors = Mapping[str, NDArray]
Infer = Callable[[Tensors, Tensors], None]


class RowByRow:
    """See `engines.runtimes.Network`.

    `infer` reads one row of every input and writes one row of every output; both come in the order of the specs.
    """

    def __init__(
        self,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        max_batch: int,
        infer: Infer,
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        self._max_batch = max_batch
        self._infer: Infer | None = infer
        self._memory = {name: np.empty((max_batch, *spec.shape), spec.dtype) for name, spec in outputs.items()}

    def run(self, tensors: Tensors) -> Tensors:
        if self._infer is None:
            raise EngineError("the network was closed")
        rows = self._rows(tensors)
        outputs = {name: memory[:rows] for name, memory in self._memory.items()}
        for output in outputs.values():
            output.fill(np.nan)
        self._compute(rows, tensors, outputs, self._infer)
        return outputs

    def _compute(self, rows: int, tensors: Tensors, outputs: Tensors, infer: Infer) -> None:
        for row in range(rows):
            infer({name: tensors[name][row : row + 1] for name in self.inputs}, _row(outputs, row))

    def close(self) -> None:
        """Let go of the network and of the outputs' memory."""
        self._infer = None
        self._memory.clear()

    def _rows(self, tensors: Tensors) -> int:
        if tensors.keys() != self.inputs.keys():
            raise EngineError(f"the network takes {', '.join(self.inputs)}, not {', '.join(tensors)}")
        for name, tensor in tensors.items():
            spec = self.inputs[name]
            fits = tensor.shape[1:] == spec.shape and tensor.dtype == spec.dtype and tensor.flags.c_contiguous
            if not fits or not 1 <= len(tensor) <= self._max_batch:
                given = f"{tensor.shape} {tensor.dtype}"
                raise EngineError(f"{name}: {given} does not fit {spec}, contiguous, {self._max_batch} rows")
        counts = {len(tensor) for tensor in tensors.values()}
        if len(counts) != 1:
            raise EngineError(f"the inputs differ in rows: {sorted(counts)}")
        return counts.pop()


class WholeBatch(RowByRow):
    """The same for a card, which is slow only in small portions: `infer` gets the batch as it is."""

    def _compute(self, rows: int, tensors: Tensors, outputs: Tensors, infer: Infer) -> None:
        infer(tensors, outputs)


def _row(tensors: Tensors, row: int) -> dict[str, NDArray]:
    """Views, one row each."""
    return {name: tensor[row : row + 1] for name, tensor in tensors.items()}
