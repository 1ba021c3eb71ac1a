"""How large a network's inner values are on good panels."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from engines.errors import EngineError
from engines.graphs.surgery import copy_of


def observed(
    model: onnx.ModelProto, names: Sequence[str], panels: Iterable[NDArray[np.float32]]
) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each named tensor over `panels`, each [C, h, w] and run for itself.

    Raises:
        EngineError: there is no panel, or a value is not finite.
    """
    if not names:  # nothing of this network is computed in integers
        return {}
    session = _session(model, names)
    entry = session.get_inputs()[0].name
    inner = [name for name in names if name != entry]
    found: dict[str, tuple[float, float]] = {}
    for panel in panels:
        answers = session.run(inner, {entry: panel[None]}) if inner else []
        values = dict(zip(inner, answers, strict=True)) | {entry: panel}
        for name in names:
            found[name] = _wider(found.get(name), np.asarray(values[name]))
    if not found:
        raise EngineError("int8 needs good panels to learn ranges from, and the recipe has no golden ones: teach again")
    unsound = [name for name, ends in found.items() if not np.isfinite(ends).all()]
    if unsound:
        raise EngineError(f"{unsound[0]}: not finite on a good panel; teach again")
    return found


def _wider(ends: tuple[float, float] | None, values: NDArray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if ends is None else (min(low, ends[0]), max(high, ends[1]))


def _session(model: onnx.ModelProto, names: Sequence[str]) -> ort.InferenceSession:
    """The network with `names` among its outputs; one thread, so that the same panels give the same numbers."""
    probe: Any = copy_of(model)
    there = {each.name for each in (*probe.graph.output, *probe.graph.input)}
    new = (name for name in names if name not in there)
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in new)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
