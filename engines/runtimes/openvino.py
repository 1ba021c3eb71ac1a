"""OpenVINO on the CPU: the fastest there; the extra `openvino`.

Left alone, OpenVINO computes in bf16 where the processor can. Here its own choice is always float32, and what is lower
stands in the graph: the trunks, and never the comparison.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from typing import Any

import openvino as ov
from openvino.op import Constant

from engines import cpu
from engines.errors import EngineError
from engines.rows import RowByRow, Tensors
from engines.runtimes import AS_TAUGHT, Source, TensorSpec

PRECISIONS = ("fp32", "bf16", "int8")

PREAMBLE = ("Exception from", "Check '", "FrontEnd API failed", "Model wasn't fully converted", "Summary:")


def version() -> str:
    """Version of the installed library."""
    return metadata.version("openvino")


def device() -> str:
    """What runs the network on this host."""
    return cpu.device()


def made_from(precision: str) -> str:
    """See `engines.runtimes.Runtime`. Its convolutions hand on what they have before it is rounded."""
    low = {"bf16": "bf16", "int8": "int8-sparing-7" if cpu.saturates() else "int8-sparing"}
    return low.get(precision, AS_TAUGHT)


@contextmanager
def open_network(source: Source, precision: str, threads: int, max_batch: int) -> Iterator[RowByRow]:
    """See `engines.runtimes.Runtime`."""
    try:
        model = _model(source)
        names = [[port.get_any_name() for port in ports] for ports in (model.inputs, model.outputs)]
        compiled = ov.Core().compile_model(model, "CPU", _settings(threads))
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"{source.name}: openvino cannot load it: {_said(error)}") from error
    inputs = dict(zip(names[0], map(_spec, compiled.inputs), strict=True))  # compiling may rename, in the same order
    outputs = dict(zip(names[1], map(_spec, compiled.outputs), strict=True))
    infer = partial(_infer, compiled.create_infer_request(), source.name)
    network = RowByRow(inputs, outputs, max_batch, infer)
    try:
        yield network
    finally:
        network.close()


def _infer(request: ov.InferRequest, name: str, tensors: Tensors, outputs: Tensors) -> None:
    """One row, read and written in place."""
    try:
        for number, each in enumerate(tensors.values()):
            request.set_input_tensor(number, ov.Tensor(each, shared_memory=True))
        for number, each in enumerate(outputs.values()):
            request.set_output_tensor(number, ov.Tensor(each, shared_memory=True))
        request.infer()
    except RuntimeError as error:
        raise EngineError(f"{name}: openvino failed: {_said(error)}") from error


def _settings(threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # the line's stages share few cores
    }


def _model(source: Source) -> ov.Model:
    """The graph for one row, of fixed shape."""
    model = ov.Core().read_model(source.network)
    model.reshape({port: ov.PartialShape([1, *list(port.get_partial_shape())[1:]]) for port in model.inputs})
    for node in model.get_ops():
        if node.get_type_name() == "MatMul":
            _give_own_constants(node)
    return model


def _give_own_constants(node: ov.Node) -> None:
    """Where products of different rank share a constant, 2026.4 fails to compile them ("matmul primitive")."""
    for entry in node.inputs():
        shared = entry.get_source_output()
        if isinstance(shared.get_node(), Constant) and len(shared.get_target_inputs()) > 1:
            entry.replace_source_output(Constant(shared.get_node().get_data()).output(0))


def _spec(port: ov.ConstOutput) -> TensorSpec:
    shape = port.get_partial_shape()
    if shape.is_dynamic:
        raise EngineError(f"{port.get_any_name()}: shape {shape} is open behind the batch; teach again")
    return TensorSpec(tuple(shape.to_shape())[1:], port.get_element_type().to_dtype().name)


def _said(error: Exception) -> str:
    """The line that says what is wrong; those before it name the library's own source files and steps."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    telling = (line for line in lines if not line.startswith(PREAMBLE))
    return next(telling, type(error).__name__)
