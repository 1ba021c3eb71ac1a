"""ONNX Runtime on the CPU: the runtime of the base install."""

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.runtimes import TensorSpec

PRECISIONS = ("fp32",)

_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(float16)": "float16"}


def version() -> str:
    """Version of the installed library."""
    return metadata.version("onnxruntime")


def device() -> str:
    """What runs the network on this host."""
    return f"cpu-{platform.machine()}"


class OnnxNetwork:
    """See `engines.runtimes.Network`."""

    def __init__(self, path: Path, threads: int, max_batch: int) -> None:
        self._path, self._threads, self._max_batch = path, threads, max_batch
        self._bindings: dict[tuple, ort.IOBinding] = {}

    def __enter__(self) -> "OnnxNetwork":
        self._session = _session(self._path, self._threads)
        self.inputs = {each.name: _spec(each) for each in self._session.get_inputs()}
        self.outputs = {each.name: _spec(each) for each in self._session.get_outputs()}
        self._memory = {
            name: np.full((self._max_batch, *spec.shape), np.nan, spec.dtype) for name, spec in self.outputs.items()
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bindings.clear()
        self._memory.clear()
        del self._session

    def run(self, tensors: Mapping[str, NDArray]) -> Mapping[str, NDArray]:
        batch = len(next(iter(tensors.values())))
        outputs = {name: memory[:batch] for name, memory in self._memory.items()}
        for output in outputs.values():
            output.fill(np.nan)
        try:
            self._session.run_with_iobinding(self._binding(tensors, outputs))
        except Exception as error:  # the library raises classes of its own, some of them bare Exception
            raise EngineError(f"{self._path.name}: onnxruntime failed: {_first_line(error)}") from error
        return outputs

    def _binding(self, tensors: Mapping[str, NDArray], outputs: Mapping[str, NDArray]) -> ort.IOBinding:
        """The binding for these very arrays, made once: callers keep one batch array."""
        key = tuple((name, each.ctypes.data, each.shape, each.dtype) for name, each in tensors.items())
        if key not in self._bindings:
            if len(self._bindings) > 4 * self._max_batch:
                self._bindings.clear()
            self._bindings[key] = self._bind(tensors, outputs)
        return self._bindings[key]

    def _bind(self, tensors: Mapping[str, NDArray], outputs: Mapping[str, NDArray]) -> ort.IOBinding:
        binding = self._session.io_binding()
        for name, each in tensors.items():
            self._check(name, each)
            binding.bind_input(name, "cpu", 0, each.dtype, each.shape, each.ctypes.data)
        for name, each in outputs.items():
            binding.bind_output(name, "cpu", 0, each.dtype, each.shape, each.ctypes.data)
        return binding

    def _check(self, name: str, tensor: NDArray) -> None:
        spec = self.inputs.get(name)
        fits = spec and tensor.shape[1:] == spec.shape and tensor.dtype == spec.dtype
        if not fits or not tensor.flags.c_contiguous or not 1 <= len(tensor) <= self._max_batch:
            raise EngineError(f"{name}: {tensor.shape} {tensor.dtype} does not fit {spec}, {self._max_batch} rows")


def open_network(path: Path, precision: str, threads: int, max_batch: int) -> OnnxNetwork:
    """The network at `path`, to be entered; `precision` is one of `PRECISIONS`."""
    return OnnxNetwork(path, threads, max_batch)


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # The line's stages share few cores: a worker that spins between panels would take theirs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # see run()
        raise EngineError(f"{path}: onnxruntime cannot load it: {_first_line(error)}") from error


def _spec(value: ort.NodeArg) -> TensorSpec:
    shape = tuple(value.shape[1:])
    if not all(isinstance(size, int) for size in shape):
        raise EngineError(f"{value.name}: shape {value.shape} is open behind the batch; teach again")
    return TensorSpec(shape, _DTYPES.get(value.type or "", "unknown"))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
