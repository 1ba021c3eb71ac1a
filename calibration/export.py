"""A taught network onto the disk, and the proof that it answers there as it did here."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from safetensors.torch import load_file, save_file

from calibration.stack import Stack
from engines import recipe, runtimes
from engines.detector import INPUT, MAP, SCORE
from engines.errors import EngineError
from engines.runtimes import Source

MAP_TOLERANCE, SCORE_TOLERANCE = 1e-4, 1e-3
EXPORT_BATCH = 64


def export(model: Any, stack: Stack, folder: Path) -> None:
    """Write `network.onnx` and `weights.safetensors` into `folder`, traced with two panels of `stack`."""
    example = torch.from_numpy(stack.floats(slice(0, 2)))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports which optional packages it lacks
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        torch.onnx.export(
            model,
            (example,),
            folder / recipe.NETWORK,
            dynamo=True,
            opset_version=20,
            input_names=[INPUT],
            output_names=[MAP, SCORE],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=EXPORT_BATCH)},),
            external_data=False,
            verbose=False,
        )
    _forget_where(folder / recipe.NETWORK)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / recipe.WEIGHTS)
    (folder / recipe.WEIGHTS).chmod(0o644)  # safetensors leaves it to its owner alone


def _forget_where(path: Path) -> None:
    """Take out of a network file in which source files of this machine its nodes were traced."""
    network = onnx.load(path)
    for each in (network, network.graph, *network.graph.node, *network.graph.value_info, *network.graph.initializer):
        del each.metadata_props[:]
        each.doc_string = ""
    onnx.save(network, path)


def prove(fresh: Any, stack: Stack, folder: Path) -> float:
    """Largest score difference of `weights.safetensors` in the model `fresh` and `network.onnx` in ONNX Runtime.

    Raises:
        EngineError: maps or scores differ by more than rounding.
    """
    fresh.load_state_dict(load_file(folder / recipe.WEIGHTS))
    batch = torch.from_numpy(stack.floats(slice(0, 8)))
    with torch.no_grad():
        map, score = (each.numpy() for each in fresh.eval()(batch))
    runtime = runtimes.load("onnxruntime", "fp32")
    path = folder / recipe.NETWORK
    with runtime.open_network(Source(str(path), path.read_bytes()), "fp32", 2, len(batch)) as network:
        answer = network.run({INPUT: batch.numpy()})
        map_error = float(np.abs(answer[MAP] - map).max())
        score_error = float((np.abs(answer[SCORE] - score) / (1 + np.abs(score))).max())
    if not (map_error <= MAP_TOLERANCE and score_error <= SCORE_TOLERANCE):
        raise EngineError(f"the exported network differs from the taught one (map {map_error}, score {score_error})")
    return score_error
