"""PyTorch on an NVIDIA card, channels last, one CUDA graph for each of some batch sizes; the extra `teach`.

It runs on every card that PyTorch knows: the fallback where TensorRT refuses one, and what TensorRT is held against.
In half precision are the trunks, their heads and the decoder; the blend before and the comparison behind stay float32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engines import cuda
from engines.device_errors import NO_DEVICE, code_in, device_error
from engines.errors import DeviceError, EngineError, UsageError
from engines.lanes import LANES, padded, sizes
from engines.models import model_of
from engines.rows import Tensors, WholeBatch
from engines.runtimes import WEIGHTS, Source, TensorSpec
from engines.waiting import wait_until

PRECISIONS = ("fp32", "fp16", "bf16")

INPUT, OUTPUTS = "panels", ("map", "score")
TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
IN_FLOAT = ("blend",)
WARM_UP = 3  # runs before a capture: the library tries its kernels


def version() -> str:
    """Versions of the library, and of the methods' code, which are this package's."""
    with suppress(metadata.PackageNotFoundError):
        return f"{torch.__version__} takt {metadata.version('takt')}"
    return torch.__version__


def device() -> str:
    """The card that runs the network."""
    _check_there()
    major, minor = torch.cuda.get_device_capability(0)
    return f"{torch.cuda.get_device_name(0)} sm_{major}{minor} driver {cuda.driver_version() or torch.version.cuda}"


def made_from(precision: str) -> str:
    """See `engines.runtimes.Runtime`."""
    return WEIGHTS


@contextmanager
def open_network(source: Source, precision: str, threads: int, max_batch: int) -> Iterator["OnTorch"]:
    """See `engines.runtimes.Runtime`."""
    if source.recipe is None:
        raise EngineError(f"{source.name}: torch_cuda builds a network from a recipe, not from a graph")
    model, geometry = model_of(source.recipe), source.recipe.manifest.geometry
    _check_there()
    spec = TensorSpec((len(source.recipe.manifest.channels), geometry.height, geometry.width), "float32")
    with _told(f"opening {source.name} for a batch of {max_batch}"), _exact():
        lowered(model, precision).cuda().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        lanes = [TorchLane(model, spec, max_batch) for _ in range(LANES)]
    network = OnTorch(lanes, spec, max_batch)
    try:
        yield network
    finally:
        network.close()
        model.cpu()
        torch.cuda.empty_cache()


def lowered(model: nn.Module, precision: str) -> nn.Module:
    """The same model with its convolutions in half precision, but for those of the blend; outputs of parts are float32.

    Raises:
        EngineError: a weight is too large for it.
    """
    kind = TYPES.get(precision)
    if kind is None:
        return model
    for part in _parts(model):
        convolutions = [one for one in part.modules() if isinstance(one, (nn.Conv2d, nn.ConvTranspose2d))]
        for each in convolutions:
            each.to(kind)
            if not all(one.isfinite().all() for one in each.parameters()):
                raise EngineError("a weight is too large for half precision; take bf16 or fp32")
            each.register_forward_pre_hook(_takes(kind))
        if convolutions:
            part.register_forward_hook(_gives_float)
    return model


class TorchLane:
    """See `engines.runtimes.Lane`. Its stream is PyCUDA's where that is there, so that kernels may join it."""

    def __init__(self, model: nn.Module, spec: TensorSpec, max_batch: int) -> None:
        self.max_batch, self._model = max_batch, model
        self.device, self.stream = _joined()
        self._stream: Any = torch.cuda.ExternalStream(self.stream.handle) if self.stream else torch.cuda.Stream()
        self._input = torch.zeros((max_batch, *spec.shape), device="cuda")
        self.input = self._input.data_ptr()
        self._staged = torch.empty(self._input.shape, pin_memory=True)
        with self._at_work():
            found = model(self._input[:1])
        self._found = [torch.empty((max_batch, *each.shape[1:]), device="cuda") for each in found]
        self._host = [torch.empty(each.shape, pin_memory=True) for each in self._found]
        self.answers = {name: each.numpy() for name, each in zip(OUTPUTS, self._host, strict=True)}
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs = {size: self._captured(size) for size in reversed(sizes(max_batch))}

    def captured(self, rows: int) -> int:
        return padded(rows, sizes(self.max_batch))

    def enqueue(self, rows: int) -> None:
        for answer in self.answers.values():
            answer[:rows].fill(np.nan)
        with self._at_work():
            self._graphs[self.captured(rows)].replay()

    def finish(self, rows: int) -> Tensors:
        with _told(f"inspecting a batch of {rows}"):
            wait_until(self._stream.query, f"inspecting a batch of {rows}")
        return {name: answer[:rows] for name, answer in self.answers.items()}

    def copy_out(self, rows: int) -> None:
        with self._at_work():
            self._queue_out(rows)

    def take(self, batch: Any) -> None:
        """Queue a batch from host memory, the rest padded with its first row."""
        rows, size = len(batch), self.captured(len(batch))
        staged = self._staged[:size].numpy()
        staged[:rows], staged[rows:] = batch, batch[:1]
        with self._at_work():
            self._input[:size].copy_(self._staged[:size], non_blocking=True)

    def _queue(self, rows: int) -> None:
        for own in self._found:
            own[:rows].fill_(torch.nan)
        for own, found in zip(self._found, self._model(self._input[:rows]), strict=True):
            own[:rows].copy_(found)
        self._queue_out(rows)

    def _queue_out(self, rows: int) -> None:
        for own, answer in zip(self._found, self._host, strict=True):
            answer[:rows].copy_(own[:rows], non_blocking=True)

    def _captured(self, rows: int) -> Any:
        with self._at_work():
            for _ in range(WARM_UP):
                self._queue(rows)
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            self._queue(rows)
        return graph

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            yield


class OnTorch(WholeBatch):
    """See `engines.runtimes.Network`; with PyCUDA also `engines.runtimes.CardNetwork`."""

    def __init__(self, lanes: list[TorchLane], spec: TensorSpec, max_batch: int) -> None:
        outputs = {name: TensorSpec(each.shape[1:], each.dtype.name) for name, each in lanes[0].answers.items()}
        super().__init__({INPUT: spec}, outputs, max_batch, _Run(lanes[0]))
        self.device, self.lanes = lanes[0].device, tuple(lanes) if lanes[0].device else ()

    def close(self) -> None:
        super().close()
        self.lanes = ()


class _Run:
    """One batch from host memory."""

    def __init__(self, lane: TorchLane) -> None:
        self._lane = lane

    def __call__(self, tensors: Tensors, outputs: Tensors) -> None:
        rows = len(tensors[INPUT])
        with _told(f"inspecting a batch of {rows}"):
            self._lane.take(tensors[INPUT])
            self._lane.enqueue(rows)
        for name, answer in self._lane.finish(rows).items():
            outputs[name][:] = answer


def _parts(model: nn.Module) -> Iterator[nn.Module]:
    """What the model calls by itself; lists and pairs of modules are never called, but what is in them."""
    for name, child in model.named_children():
        if name in IN_FLOAT:
            continue
        if type(child).forward is nn.Module.forward:
            yield from _parts(child)
        else:
            yield child


def _takes(kind: torch.dtype) -> Callable[..., tuple[Tensor, ...]]:
    def hook(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(each.to(kind, memory_format=torch.channels_last) for each in given)

    return hook


def _gives_float(module: nn.Module, given: Any, answer: Any) -> Any:
    return answer.float() if isinstance(answer, Tensor) else type(answer)(each.float() for each in answer)


def _joined() -> tuple[Any, Any]:
    """The card as PyCUDA has it and a stream of it; nothing where PyCUDA is not there."""
    try:
        device = cuda.device()
        with device.current():
            return device, cuda.Stream(device)
    except (UsageError, DeviceError):
        return None, None


def _check_there() -> None:
    if not torch.backends.cuda.is_built():
        raise UsageError(f"torch {torch.__version__} is the build without CUDA: install the one with it")
    if not torch.cuda.is_available():
        raise device_error("looking for the card", NO_DEVICE)


@contextmanager
def _exact() -> Iterator[None]:
    """float32 is float32, not its short form."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        yield


@contextmanager
def _told(doing: str) -> Iterator[None]:
    """PyTorch's errors as ours."""
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if isinstance(error, torch.cuda.OutOfMemoryError) or code_in(said) is not None:
            raise device_error(doing, None, said) from error
        raise EngineError(f"torch_cuda, {doing}: {said.splitlines()[0]}") from error
