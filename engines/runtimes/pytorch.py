"""PyTorch on the CPU: the reference, built from the recipe's weights by its method; the extra `teach`."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata

import numpy as np
import torch
from numpy.typing import NDArray

from engines import cpu
from engines.errors import EngineError
from engines.models import model_of
from engines.rows import RowByRow, Tensors
from engines.runtimes import WEIGHTS, Source, TensorSpec

PRECISIONS = ("fp32",)

INPUT, OUTPUTS = "panels", ("map", "score")


def version() -> str:
    """Versions of the library, and of the methods' code, which are this package's."""
    return f"{metadata.version('torch')} takt {metadata.version('takt')}"


def device() -> str:
    """What runs the network on this host."""
    return cpu.device()


def made_from(precision: str) -> str:
    """See `engines.runtimes.Runtime`."""
    return WEIGHTS


@contextmanager
def open_network(source: Source, precision: str, threads: int, max_batch: int) -> Iterator[RowByRow]:
    """See `engines.runtimes.Runtime`. The number of threads is the process's, and is put back in the end."""
    recipe = source.recipe
    if recipe is None:
        raise EngineError(f"{source.name}: pytorch builds a network from a recipe, not from a graph")
    model, geometry = model_of(recipe), recipe.manifest.geometry
    inputs = {INPUT: TensorSpec((len(recipe.manifest.channels), geometry.height, geometry.width), "float32")}
    with _threads(threads):
        outputs = _outputs(model, inputs[INPUT])
        network = RowByRow(inputs, outputs, max_batch, partial(_infer, model, source.name))
        try:
            yield network
        finally:
            network.close()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _infer(model: torch.nn.Module, name: str, tensors: Tensors, outputs: Tensors) -> None:
    try:
        answer = _answer(model, tensors[INPUT])
    except RuntimeError as error:
        raise EngineError(f"{name}: pytorch failed: {str(error).splitlines()[0]}") from error
    for each, output in outputs.items():
        output[:] = answer[each]


def _outputs(model: torch.nn.Module, spec: TensorSpec) -> dict[str, TensorSpec]:
    answer = _answer(model, np.zeros((1, *spec.shape), spec.dtype))
    return {name: TensorSpec(each.shape[1:], each.dtype.name) for name, each in answer.items()}


def _answer(model: torch.nn.Module, batch: NDArray[np.float32]) -> dict[str, NDArray]:
    with torch.inference_mode():
        found = model(torch.from_numpy(batch))
    return {name: each.numpy() for name, each in zip(OUTPUTS, found, strict=True)}
