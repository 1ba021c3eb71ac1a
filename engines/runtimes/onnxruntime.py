"""ONNX Runtime on the CPU: the runtime of the base install."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

import onnxruntime as ort

from engines import cpu
from engines.errors import EngineError
from engines.rows import RowByRow, Tensors
from engines.runtimes import AS_TAUGHT, Source, TensorSpec

PRECISIONS = ("fp32", "int8")

_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(float16)": "float16"}


def version() -> str:
    """Version of the installed library."""
    return metadata.version("onnxruntime")


def device() -> str:
    """What runs the network on this host."""
    return cpu.device()


def made_from(precision: str) -> str:
    """See `engines.runtimes.Runtime`. Its convolutions of integers round all that they make."""
    if precision == "fp32":
        return AS_TAUGHT
    return "int8-7" if cpu.saturates() else "int8"


@contextmanager
def open_network(source: Source, precision: str, threads: int, max_batch: int) -> Iterator[RowByRow]:
    """See `engines.runtimes.Runtime`."""
    session = _session(source, threads)
    inputs = {each.name: _spec(each) for each in session.get_inputs()}
    outputs = {each.name: _spec(each) for each in session.get_outputs()}
    network = RowByRow(inputs, outputs, max_batch, _Bound(session, source.name, 4 * max_batch))
    try:
        yield network
    finally:
        network.close()


class _Bound:
    """One row in place. The binding for the same arrays is made once: callers keep one batch array."""

    def __init__(self, session: ort.InferenceSession, name: str, kept: int) -> None:
        self._session, self._name, self._kept = session, name, kept
        self._bindings: dict[tuple, ort.IOBinding] = {}

    def __call__(self, tensors: Tensors, outputs: Tensors) -> None:
        try:
            self._session.run_with_iobinding(self._binding(tensors, outputs))
        except Exception as error:  # the library raises classes of its own, some of them bare Exception
            raise EngineError(f"{self._name}: onnxruntime failed: {_first_line(error)}") from error

    def _binding(self, tensors: Tensors, outputs: Tensors) -> ort.IOBinding:
        key = tuple(each.ctypes.data for each in (*tensors.values(), *outputs.values()))
        if key not in self._bindings:
            if len(self._bindings) > self._kept:
                self._bindings.clear()
            self._bindings[key] = self._bound(tensors, outputs)
        return self._bindings[key]

    def _bound(self, tensors: Tensors, outputs: Tensors) -> ort.IOBinding:
        binding = self._session.io_binding()
        for name, each in tensors.items():
            binding.bind_input(name, "cpu", 0, each.dtype, each.shape, each.ctypes.data)
        for name, each in outputs.items():
            binding.bind_output(name, "cpu", 0, each.dtype, each.shape, each.ctypes.data)
        return binding


def _session(source: Source, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # The line's stages share few cores: a worker that spins between panels would take theirs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(source.network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # see _Bound
        raise EngineError(f"{source.name}: onnxruntime cannot load it: {_first_line(error)}") from error


def _spec(value: ort.NodeArg) -> TensorSpec:
    shape = tuple(value.shape[1:])
    if not all(isinstance(size, int) for size in shape):
        raise EngineError(f"{value.name}: shape {value.shape} is open behind the batch; teach again")
    return TensorSpec(shape, _DTYPES.get(value.type or "", "unknown"))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
