"""From a network's bytes to those of a derived graph."""

from collections.abc import Iterable

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.graphs import HALVES, half, int8


def rewritten(network: bytes, form: str, panels: Iterable[NDArray[np.float32]]) -> bytes:
    """See `engines.graphs.derive`."""
    model = _read(network)
    if form in HALVES:
        return half.derive(model, form).SerializeToString(deterministic=True)
    return int8.derive(model, panels, form.split("-")).SerializeToString(deterministic=True)


def _read(network: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_from_string(network)
    except DecodeError as error:
        raise EngineError("the network is no ONNX graph; copy the recipe again") from error
    if not model.graph.node:
        raise EngineError("the network is no ONNX graph: it has no nodes; copy the recipe again")
    return model
