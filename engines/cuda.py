"""The CUDA driver: memory, streams, kernels and the primary context by PyCUDA, the rest by cuda-bindings.

No other file imports either. PyCUDA has no graphs and no run-time compiler, and its registering of host memory fails
with numpy 2. Both act on the primary context, which PyTorch shares, and both are imported when first needed: PyCUDA
loads only where there is a driver. Streams, memory and kernels want the context current, see `Device.current`.
"""

import atexit
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import DTypeLike, NDArray

from engines.device_errors import NO_DEVICE, device_error
from engines.errors import DeviceError, EngineError, LostDeviceError, UsageError
from engines.waiting import PATIENCE_S, wait_until

NAN_32 = 0x7FC00000
DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Card:
    """One NVIDIA card. `driver` is the version of its kernel module, empty where the system does not say."""

    number: int
    name: str
    capability: tuple[int, int]
    memory: int  # bytes
    processors: int
    cuda: int  # the newest CUDA that the driver knows, 1000 * major + 10 * minor
    driver: str

    @property
    def arch(self) -> str:
        """As compilers name it, "sm_90"."""
        return f"sm_{self.capability[0]}{self.capability[1]}"

    @property
    def identity(self) -> str:
        """What an engine that was compiled for it depends on."""
        driver = f"driver {self.driver}" if self.driver else f"cuda {self.cuda}"
        return f"{self.name} {self.arch} {driver}"


@cache
def card(number: int = 0) -> Card:
    """The card `number`, asked without a context.

    Raises:
        DeviceError: there is none, or its driver does not do.
        UsageError: PyCUDA is not installed.
    """
    drv = _drv()
    with _told("looking for the card"):
        if drv.Device.count() <= number:
            raise device_error("looking for the card", NO_DEVICE)
        found = drv.Device(number)
        processors = found.get_attribute(drv.device_attribute.MULTIPROCESSOR_COUNT)
        facts = found.name(), found.compute_capability(), found.total_memory(), processors
        return Card(number, *facts, drv.get_driver_version(), driver_version())


def driver_version(file: Path = DRIVER) -> str:
    """Of the NVIDIA kernel module, as the system states it."""
    try:
        words = file.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return ""
    return next((word for word in words if word[0].isdigit() and word.count(".") >= 1), "")


class Stream:
    """A queue of work for the card, and what it is waited for by."""

    def __init__(self, device: "Device") -> None:
        self._device, self._drv = device, _drv()
        with _told("making a stream", self._device):
            self._stream = self._drv.Stream(1)  # does not wait for the default stream

    @property
    def handle(self) -> int:
        """For libraries that take a CUstream."""
        return self._stream.handle

    def copy_in(self, target: int, source: NDArray) -> None:
        """Queue host -> card; `source` is contiguous, and stays as it is until the copy is done."""
        with _told("copying to the card", self._device):
            self._drv.memcpy_htod_async(target, source, self._stream)

    def copy_out(self, target: NDArray, source: int) -> None:
        """Queue card -> host."""
        with _told("copying from the card", self._device):
            self._drv.memcpy_dtoh_async(target, source, self._stream)

    def copy_within(self, target: int, source: int, count: int) -> None:
        """Queue `count` bytes, card -> card."""
        with _told("copying on the card", self._device):
            self._drv.memcpy_dtod_async(target, source, count, self._stream)

    def fill_nan(self, target: int, count: int) -> None:
        """Queue: `count` float32 become not a number."""
        with _told("filling memory", self._device):
            self._drv.memset_d32_async(target, NAN_32, count, self._stream)

    def fill_zero(self, target: int, count: int) -> None:
        """Queue: `count` words of 32 bits become 0."""
        with _told("filling memory", self._device):
            self._drv.memset_d32_async(target, 0, count, self._stream)

    def launch(self, function: Any, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any) -> None:
        """Queue a kernel; `arguments` are numpy scalars, addresses as uint64."""
        with _told("starting a kernel", self._device):
            function(*arguments, block=block, grid=grid, stream=self._stream)

    def mark(self, event: Any = None, timed: bool = False) -> Any:
        """Queue an event, a new one where none is given; a timed one's `time_since` another are milliseconds."""
        with _told("marking a stream", self._device):
            event = event or self._drv.Event(0 if timed else self._drv.event_flags.DISABLE_TIMING)
            event.record(self._stream)
            return event

    def follow(self, event: Any) -> None:
        """Queue: wait on the card for an event of another stream."""
        with _told("joining streams", self._device):
            self._stream.wait_for_event(event)

    def wait(self, doing: str, patience_s: float = PATIENCE_S) -> None:
        """Until all that was queued is done.

        Raises:
            LostDeviceError: it is not done in time: the card is not waited for again.
            DeviceError: something that was queued failed.
        """
        try:
            wait_until(lambda: self._done(doing), doing, patience_s)
        except LostDeviceError:
            self._device.lost = True
            raise

    def capture(self, work: Callable[[], None]) -> "Graph":
        """A graph of what `work` queues here."""
        driver = _bindings("driver")
        stream = driver.CUstream(self.handle)
        _check(
            "capturing", driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
        )
        try:
            work()
        finally:
            ended = driver.cuStreamEndCapture(stream)
        (graph,) = _check("capturing", ended)
        try:
            (ready,) = _check("making a graph", driver.cuGraphInstantiate(graph, 0))
        finally:
            driver.cuGraphDestroy(graph)
        return Graph(ready, stream)

    def _done(self, doing: str) -> bool:
        with _told(doing, self._device):
            return self._stream.is_done()


class Graph:
    """Work that one call queues."""

    def __init__(self, ready: Any, stream: Any) -> None:
        self._ready, self._stream = ready, stream
        _check("uploading a graph", _bindings("driver").cuGraphUpload(ready, stream))

    def launch(self) -> None:
        _check("starting a graph", _bindings("driver").cuGraphLaunch(self._ready, self._stream))

    def free(self) -> None:
        _bindings("driver").cuGraphExecDestroy(self._ready)


@dataclass
class Device:
    """A card with its primary context. `lost` is true once it stopped answering: nothing is asked of it any more."""

    card: Card
    context: Any
    lost: bool = False
    _registered: dict[int, int] = field(default_factory=dict)  # address -> bytes

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context this thread's.

        Raises:
            LostDeviceError: the card stopped answering before; it is not asked again.
        """
        if self.lost:
            raise LostDeviceError("GPU lost: it stopped answering before; this process has to start anew")
        with _told("entering its context", self):
            self.context.push()
        try:
            yield
        except LostDeviceError:
            self.lost = True
            raise
        finally:
            with suppress(Exception):  # of a lost card; one that was not left would have the process aborted at its end
                _drv().Context.pop()

    def leave(self) -> None:
        """Let go of the context, at the process's end: PyCUDA by itself would not know that it is the primary one."""
        if not self.lost:
            self.context.detach()

    def allocate(self, count: int, what: str) -> Any:
        """`count` bytes there; its int() is the address, its `free` gives them back."""
        with _told(f"allocating {count:,} bytes for {what}", self):
            return _drv().mem_alloc(max(count, 16))

    def release(self, allocation: Any) -> None:
        """Give back what `allocate` took; a card that is lost is not asked, since it might never answer."""
        if not self.lost:
            with _told("giving memory back", self):
                allocation.free()

    def free_bytes(self) -> int:
        """Memory that no process holds."""
        with _told("asking for its memory", self):
            return _drv().mem_get_info()[0]

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        """Host memory that the card reads and writes without a copy in between."""
        with _told("pinning host memory", self):
            return _drv().pagelocked_empty(shape, dtype)

    def register(self, memory: NDArray) -> None:
        """Pin memory that is there already, such as a ring; it stays mapped as long as the process lives."""
        if self.is_pinned(memory):
            return
        with self.current():
            _check("pinning a ring", _bindings("driver").cuMemHostRegister(memory.ctypes.data, memory.nbytes, 0))
        self._registered[memory.ctypes.data] = memory.nbytes

    def is_pinned(self, memory: NDArray) -> bool:
        """Whether all of it lies in memory that was registered."""
        first, last = memory.ctypes.data, memory.ctypes.data + memory.nbytes
        return any(at <= first and last <= at + size for at, size in self._registered.items())

    def function(self, cubin: bytes, name: str) -> Any:
        """A kernel of compiled code; the code stays loaded as long as the process lives."""
        with _told("loading a kernel", self):
            module = _drv().module_from_buffer(cubin)
            function = module.get_function(name)
        _MODULES.append(module)
        return function


_MODULES: list[Any] = []


@cache
def device(number: int = 0) -> Device:
    """The card `number` with its primary context, one in a process.

    Raises:
        DeviceError: see `card`.
    """
    found = card(number)
    with _told("opening the card"):
        opened = Device(found, _drv().Device(number).retain_primary_context())
    atexit.register(opened.leave)
    return opened


def compiled(source: str, name: str, arch: str, options: tuple[str, ...] = ()) -> tuple[bytes, str]:
    """CUDA C++ -> machine code for `arch`, and what the compiler reports; needs no card.

    Raises:
        UsageError: there is no run-time compiler.
        EngineError: it does not compile.
    """
    nvrtc = _bindings("nvrtc")
    given = [f"--gpu-architecture={arch}", "--std=c++17", "--ptxas-options=-v", *options]
    try:
        _, program = nvrtc.nvrtcCreateProgram(source.encode(), name.encode(), 0, [], [])
    except RuntimeError:  # cuda-bindings is there and the compiler's library is not
        raise UsageError("the kernels need a compiler: pip install nvidia-cuda-nvrtc") from None
    (error,) = nvrtc.nvrtcCompileProgram(program, len(given), [one.encode() for one in given])
    report = _filled(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program).decode(errors="replace")
    if int(error):
        line = next((line for line in report.splitlines() if "error" in line), report) or str(error)
        raise EngineError(f"{name}: does not compile for {arch}: {line.strip()}")
    return _filled(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program), report.strip("\0 \n")


def _filled(size: Callable[[Any], Any], read: Callable[[Any, bytes], Any], program: Any) -> bytes:
    content = b" " * size(program)[1]
    read(program, content)
    return content


@cache
def _drv() -> Any:
    """PyCUDA's driver module, initialised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of what the error says
            drv = import_module("pycuda.driver")
    except ModuleNotFoundError:
        raise UsageError("NVIDIA cards need pycuda and a CUDA compiler: pip install 'takt[tensorrt]'") from None
    except ImportError as error:  # its library needs the driver's
        raise DeviceError(f"GPU: no NVIDIA driver on this host ({error}): install it") from None
    with _told("starting the driver"):
        drv.init()
    return drv


def _bindings(part: str) -> Any:
    try:
        return import_module(f"cuda.bindings.{part}")
    except ImportError:
        raise UsageError("NVIDIA cards need cuda-bindings: pip install 'takt[tensorrt]'") from None


@contextmanager
def _told(doing: str, device: Device | None = None) -> Iterator[None]:
    """PyCUDA's errors as ours."""
    try:
        yield
    except (DeviceError, UsageError):
        raise
    except Exception as error:  # its classes exist only once it is imported
        if not type(error).__module__.startswith("pycuda"):
            raise
        found = device_error(doing, None, str(error))
        if device is not None and isinstance(found, LostDeviceError):
            device.lost = True
        raise found from error


def _check(doing: str, answer: tuple) -> tuple:
    """What cuda-bindings answered behind the error code."""
    code, *found = answer
    if int(code):
        raise device_error(doing, int(code), str(code))
    return tuple(found)
