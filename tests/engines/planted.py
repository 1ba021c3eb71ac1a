"""A runtime that is onnxruntime with a fault of one's choice, as an engine that was built wrongly would be."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from engines.detector import INPUT, MAP, SCORE
from engines.runtimes import Network, Source, onnxruntime

Tensors = Mapping[str, NDArray]
Fault = Callable[[Network, Tensors], Tensors]
NAME = "engines.runtimes.planted"


def runtime(fault: Fault) -> ModuleType:
    """To be put into `sys.modules` under `NAME`."""
    module = ModuleType(NAME)

    @contextmanager
    def open_network(source: Source, precision: str, threads: int, max_batch: int) -> Iterator[Network]:
        with onnxruntime.open_network(source, precision, threads, max_batch) as network:
            yield _Faulty(network, fault)

    same = {name: getattr(onnxruntime, name) for name in ("PRECISIONS", "version", "device", "made_from")}
    vars(module).update(same | {"open_network": open_network})
    return module


class _Faulty:
    def __init__(self, network: Network, fault: Fault) -> None:
        self.inputs, self.outputs = network.inputs, network.outputs
        self._network, self._fault = network, fault

    def run(self, tensors: Tensors) -> Tensors:
        return self._fault(self._network, tensors)


def _changed(network: Network, tensors: Tensors) -> dict[str, NDArray]:
    return {name: each.copy() for name, each in network.run(tensors).items()}


def none(network: Network, tensors: Tensors) -> Tensors:
    return network.run(tensors)


def swapped_channels(network: Network, tensors: Tensors) -> Tensors:
    return network.run({INPUT: np.ascontiguousarray(tensors[INPUT][:, ::-1])})


def missing_normalisation(network: Network, tensors: Tensors) -> Tensors:
    return network.run({INPUT: tensors[INPUT] * np.float32(255)})


def fp16_overflow(network: Network, tensors: Tensors) -> Tensors:
    answer = _changed(network, tensors)
    with np.errstate(over="ignore"):
        return {name: (each * 1e6).astype(np.float16).astype(np.float32) / 1e6 for name, each in answer.items()}


def row_dependent(network: Network, tensors: Tensors) -> Tensors:
    answer = _changed(network, tensors)
    answer[SCORE] *= 1 + 0.02 * np.arange(len(answer[SCORE]), dtype=np.float32)
    return answer


def wrong_from_row(first: int) -> Fault:
    def fault(network: Network, tensors: Tensors) -> Tensors:
        answer = _changed(network, tensors)
        answer[SCORE][first:] *= np.float32(1.5)
        return answer

    return fault


def row_for_row(network: Network, tensors: Tensors) -> Tensors:
    """Every row gets its neighbour's map; with a batch of one, none."""
    answer = _changed(network, tensors)
    return {MAP: np.roll(answer[MAP], 1, axis=0), SCORE: answer[SCORE]}


def uncovered_tile(network: Network, tensors: Tensors) -> Tensors:
    answer = _changed(network, tensors)
    answer[MAP][:, :8, :8] = np.nan
    return answer


def unrepeatable() -> Fault:
    runs = iter(range(1 << 30))

    def fault(network: Network, tensors: Tensors) -> Tensors:
        answer = _changed(network, tensors)
        answer[SCORE] += np.float32(0.05 * (next(runs) % 3))
        return answer

    return fault
