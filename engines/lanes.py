"""A compiled network on the card: two lanes, each a stream with its own input, outputs and graphs.

A lane runs a batch by one call: a graph for each of some batch sizes, captured after it has run once, in which the
outputs become not a number, the network runs, and its small outputs go to the host. Sizes between are padded by what
follows in the input. All memory is taken when the network is opened. `trt` is the library's module.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines import cuda, plans
from engines.cuda import Card, Device, Graph, Stream
from engines.device_errors import code_in, device_error, other_card, out_of_memory
from engines.errors import DeviceError, EngineError, LostDeviceError
from engines.keeping import keep_proven, proven
from engines.rows import Infer, Tensors, WholeBatch
from engines.runtimes import Source, TensorSpec
from engines.waiting import FIRST_PATIENCE_S

LANES = 2
LEAST_CAPABILITY = {"bf16": (8, 0), "fp8": (8, 9)}
SPARE = 64 << 20  # bytes of the card that are left to kernels and graphs


def sizes(max_batch: int) -> tuple[int, ...]:
    """Batch sizes with a graph of their own: one, two, and in steps of at most a third up to the largest."""
    found, size = [], 1
    while size < max_batch:
        found.append(size)
        size = max(size + 1, size * 4 // 3)
    return (*found, max_batch)


def padded(rows: int, captured: Sequence[int]) -> int:
    """The smallest of the rising sizes `captured` that holds `rows`."""
    return next(size for size in captured if size >= rows)


class Memory:
    """Device memory of one owner, given back at once."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._held: list[Any] = []

    def take(self, count: int, what: str) -> int:
        """`count` bytes; their address."""
        self._held.append(self._device.allocate(count, what))
        return int(self._held[-1])

    def free(self) -> None:
        held, self._held = self._held, []
        for each in held:
            self._device.release(each)


class TensorLane:
    """One lane of a TensorRT engine; see `engines.runtimes.Lane`."""

    def __init__(
        self,
        device: Device,
        contexts: Sequence[Any],
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        max_batch: int,
        scratch: int,
    ) -> None:
        self.max_batch = max_batch
        self.stream = Stream(device)
        self._device, self._memory = device, Memory(device)
        self._contexts = contexts
        self._ends = [high for _, high in plans.profiles(max_batch)]
        (self._entry, self._spec), *_ = inputs.items()
        self.input = self._memory.take(max_batch * size_of(self._spec), "the batch")
        self._addresses = {
            name: self._memory.take(max_batch * size_of(spec), "the answers") for name, spec in outputs.items()
        }
        self.answers = {name: device.pinned((max_batch, *spec.shape), spec.dtype) for name, spec in outputs.items()}
        workspace = self._memory.take(scratch, "the network's inner values")
        for number, context in enumerate(contexts):
            self._set_up(number, context, workspace, scratch)
        self._graphs: dict[int, Graph] = {}

    def enqueue(self, rows: int) -> None:
        """Queue the network for the first `rows` of the input; what follows them is computed too, and left out."""
        for answer in self.answers.values():
            answer[:rows].fill(np.nan)
        self._graphs[self.captured(rows)].launch()

    def copy_out(self, rows: int) -> None:
        for name, address in self._addresses.items():
            self.stream.copy_out(self.answers[name][:rows], address)

    def captured(self, rows: int) -> int:
        return padded(rows, sizes(self.max_batch))

    def finish(self, rows: int) -> Tensors:
        """Wait, and the outputs of the first `rows`; overwritten by the next run."""
        self.stream.wait(f"inspecting a batch of {rows}")
        return {name: answer[:rows] for name, answer in self.answers.items()}

    def capture(self) -> None:
        """Run each size once, so that nothing is left to be compiled or loaded, and keep it as a graph."""
        for size in sizes(self.max_batch):
            self._queue(size)
            self.stream.wait(f"warming up for a batch of {size}", FIRST_PATIENCE_S)
            self._graphs[size] = self.stream.capture(partial(self._queue, size))
            self._graphs[size].launch()
            self.stream.wait(f"warming up for a batch of {size}", FIRST_PATIENCE_S)

    def free(self) -> None:
        graphs, self._graphs = self._graphs, {}
        if not self._device.lost:
            for graph in graphs.values():
                graph.free()
        self._memory.free()

    def _set_up(self, number: int, context: Any, workspace: int, scratch: int) -> None:
        context.set_device_memory(workspace, scratch)
        if not context.set_optimization_profile_async(number, self.stream.handle):
            raise EngineError("the network's optimisation profile cannot be set")
        self.stream.wait("setting a profile", FIRST_PATIENCE_S)
        for name, address in {self._entry: self.input, **self._addresses}.items():
            context.set_tensor_address(name, address)

    def _queue(self, rows: int) -> None:
        context = self._contexts[next(number for number, end in enumerate(self._ends) if rows <= end)]
        context.set_input_shape(self._entry, (rows, *self._spec.shape))
        for name, address in self._addresses.items():
            self.stream.fill_nan(address, self.answers[name][:rows].size)
        if not context.execute_async_v3(self.stream.handle):
            raise EngineError(f"the network cannot be run for a batch of {rows}")
        self.copy_out(rows)


class OnCard(WholeBatch):
    """A network on the card; see `engines.runtimes.Network` and `engines.runtimes.CardNetwork`."""

    def __init__(
        self,
        device: Device,
        lanes: Sequence[Any],
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        max_batch: int,
        infer: Infer,
    ) -> None:
        super().__init__(inputs, outputs, max_batch, infer)
        self.device, self.lanes = device, tuple(lanes)


def size_of(spec: TensorSpec) -> int:
    """Bytes of one row."""
    return prod(spec.shape) * np.dtype(spec.dtype).itemsize


def check_precision(precision: str, card: Card) -> None:
    """Raise where the card does not compute in it.

    Raises:
        DeviceError: it does not; from which compute capability on cards do.
    """
    least = LEAST_CAPABILITY.get(precision, (0, 0))
    if card.capability < least:
        own, needed = ("{}.{}".format(*each) for each in (card.capability, least))
        raise DeviceError(f"{precision} needs compute capability {needed}, {card.name} has {own}: take fp16 or int8")


@contextmanager
def opened(trt: Any, library: str, source: Source, max_batch: int) -> Iterator[OnCard]:
    """The network `source` on the first card, compiled where that was not done before.

    Raises:
        EngineError: the graph is damaged, or the library cannot compile it.
        DeviceError: there is no card, the library does not take it, or its memory is too small.
    """
    log, device = plans.log_of(trt), cuda.device()
    lanes: list[TensorLane] = []
    with device.current():
        plan = plans.obtained(trt, library, source, max_batch, device.card.identity)
        engine = _engine(trt, source, plan.content, log, device)
        try:
            inputs, outputs = specs(trt, engine)
            _check_memory(source.name, device, engine, [*inputs.values(), *outputs.values()], max_batch)
            jit = _Jit(source, plans.digest(source, library, device.card.identity, max_batch))
            for _ in range(LANES):
                contexts = [jit.context(trt, engine) for _ in plans.profiles(max_batch)]
                scratch = int(engine.device_memory_size_v2)
                lanes.append(TensorLane(device, contexts, inputs, outputs, max_batch, scratch))
                lanes[-1].capture()
            jit.keep()
        except BaseException:
            _free(lanes)
            raise
    network = OnCard(device, lanes, inputs, outputs, max_batch, HostRun(device, lanes[0], next(iter(inputs))))
    try:
        yield network
    finally:
        network.close()
        if not device.lost:
            with device.current():
                _free(lanes)


class HostRun:
    """One batch from host memory through a lane: staged in pinned memory, padded with its own first row."""

    def __init__(self, device: Device, lane: Any, entry: str) -> None:
        self._device, self._lane, self._entry = device, lane, entry
        self._staged: NDArray | None = None

    def __call__(self, tensors: Tensors, outputs: Tensors) -> None:
        batch = tensors[self._entry]
        rows, lane = len(batch), self._lane
        size = lane.captured(rows)
        with self._device.current():
            staged = self._room(batch)[:size]
            staged[:rows], staged[rows:] = batch, batch[:1]
            lane.stream.copy_in(lane.input, staged)
            lane.enqueue(rows)
            for name, answer in lane.finish(rows).items():
                outputs[name][:] = answer

    def _room(self, batch: NDArray) -> NDArray:
        if self._staged is None:
            self._staged = self._device.pinned((self._lane.max_batch, *batch.shape[1:]), str(batch.dtype))
        return self._staged


class _Jit:
    """What TensorRT-RTX compiles on the card at first use, kept for the next start; TensorRT has nothing of it."""

    def __init__(self, source: Source, name: str) -> None:
        self._path = source.kept / "plans" / f"{name}.jit" if source.kept else None
        self._cache: Any = None

    def context(self, trt: Any, engine: Any) -> Any:
        """An execution context that takes its memory from us."""
        by_us = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
            return _made(engine.create_execution_context(by_us))
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(by_us)
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            known = proven(self._path) if self._path else None
            if known:
                self._cache.deserialize(known)
        config.set_runtime_cache(self._cache)
        return _made(engine.create_execution_context(config))

    def keep(self) -> None:
        if self._cache is not None and self._path is not None:
            keep_proven(self._path, bytes(self._cache.serialize()))


def specs(trt: Any, engine: Any) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Inputs and outputs of an engine."""
    found: dict[bool, dict[str, TensorSpec]] = {True: {}, False: {}}
    for number in range(engine.num_io_tensors):
        name = engine.get_tensor_name(number)
        kind = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
        enters = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        found[enters][name] = TensorSpec(tuple(engine.get_tensor_shape(name))[1:], kind)
    return found[True], found[False]


def _engine(trt: Any, source: Source, content: bytes, log: Any, device: Device) -> Any:
    engine = trt.Runtime(log).deserialize_cuda_engine(content)
    if engine is None:
        raise refused(source.name, trt.__name__, log.said("it does not say why"), device.card.identity)
    return engine


def refused(name: str, library: str, said: str, card: str) -> EngineError:
    """Why a library does not load a plan: another card or version, a driver, or what it says itself."""
    if code_in(said) is not None:
        return device_error(f"loading {name}", None, said)
    lowered = said.lower()
    if any(word in lowered for word in ("compute capability", "different device", "incompatible device", "sm version")):
        return other_card(name, f"another card ({said})", card)
    return EngineError(f"{name}: {library} cannot load it on {card}: {said}")


def _made(context: Any) -> Any:
    if context is None:
        raise EngineError("the library does not make an execution context")
    return context


def _check_memory(name: str, device: Device, engine: Any, tensors: Sequence[TensorSpec], max_batch: int) -> None:
    """Said before it is tried: what is missing then can be stated in bytes."""
    each = int(engine.device_memory_size_v2) + max_batch * sum(map(size_of, tensors))
    wanted, free = LANES * each + SPARE, device.free_bytes()
    if wanted > free:
        raise out_of_memory(name, max_batch, wanted, free)


def _free(lanes: list[TensorLane]) -> None:
    while lanes:
        try:
            lanes.pop().free()
        except LostDeviceError:
            return
