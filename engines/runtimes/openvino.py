"""OpenVINO on the CPU: the fastest there; the extra `openvino`.

Left alone, OpenVINO computes in bf16 where the processor can. Here its own choice is always float32, and what is lower
stands in the graph: the trunks, and never the comparison.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata

import openvino as ov

from engines import cpu
from engines.errors import EngineError
from engines.rows import RowByRow, Tensors
from engines.runtimes import AS_TAUGHT, Source, TensorSpec

PRECISIONS = ("fp32", "bf16", "int8")


def version() -> str:
    """Version of the installed library."""
    return metadata.version("openvino")


def device() -> str:
    """What runs the network on this host."""
    return cpu.device()


def made_from(precision: str) -> str:
    """See `engines.runtimes.Runtime`. It adds to what a convolution has before rounding."""
    low = {"bf16": "bf16", "int8": "int8-sparing-7" if cpu.saturates() else "int8-sparing"}
    return low.get(precision, AS_TAUGHT)


@contextmanager
def open_network(source: Source, precision: str, threads: int, max_batch: int) -> Iterator[RowByRow]:
    """See `engines.runtimes.Runtime`."""
    compiled = _compiled(source, threads)
    inputs = {port.get_any_name(): _spec(port) for port in compiled.inputs}
    outputs = {port.get_any_name(): _spec(port) for port in compiled.outputs}
    infer = partial(_infer, compiled.create_infer_request(), source.name)
    network = RowByRow(inputs, outputs, max_batch, infer)
    try:
        yield network
    finally:
        network.close()


def _infer(request: ov.InferRequest, name: str, tensors: Tensors, outputs: Tensors) -> None:
    """One row, read and written in place."""
    try:
        for tensor, each in (*tensors.items(), *outputs.items()):
            request.set_tensor(tensor, ov.Tensor(each, shared_memory=True))
        request.infer()
    except RuntimeError as error:
        raise EngineError(f"{name}: openvino failed: {_said(error)}") from error


def _compiled(source: Source, threads: int) -> ov.CompiledModel:
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # the line's stages share few cores
    }
    try:
        core = ov.Core()
        model = core.read_model(source.network)
        model.reshape({port: ov.PartialShape([1, *list(port.get_partial_shape())[1:]]) for port in model.inputs})
        return core.compile_model(model, "CPU", settings)
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"{source.name}: openvino cannot load it: {_said(error)}") from error


def _spec(port: ov.ConstOutput) -> TensorSpec:
    shape = port.get_partial_shape()
    if shape.is_dynamic:
        raise EngineError(f"{port.get_any_name()}: shape {shape} is open behind the batch; teach again")
    return TensorSpec(tuple(shape.to_shape())[1:], port.get_element_type().to_dtype().name)


def _said(error: Exception) -> str:
    """The line that says what is wrong; those before it name the library's own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = (line for line in lines if not line.startswith(("Exception from", "Check '")))
    return next(telling, type(error).__name__)
