"""A camera that replays the panels of a panel set, one a pulse of the trigger wire or one every `pace_ms`.

The wire's panel index says which panel, so that several cameras and the conveyor agree even when a pulse is lost;
index -1 is the empty field, black. Pictures are read ahead in threads, in natural order.
"""

import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

from calibration.panels import SUFFIXES, Frames, PanelSet, channel_names, natural, read_panel
from pipeline.cameras import Exposure
from pipeline.errors import CameraError, PanelError
from pipeline.simulation.shutter import EMPTY_FIELD, Shot, Shutter, Source
from pipeline.simulation.wire import Listener, Pulse

LaxPath = Annotated[Path, Strict(False)]


class Settings(BaseModel):
    """What is replayed: a `split` of a panel set, or the panels in `folders`, one folder after the other."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    set: LaxPath | None = None
    split: str = "test"
    defects: Annotated[tuple[str, ...], Strict(False)] = ()  # of the split; all when empty
    folders: Annotated[tuple[LaxPath, ...], Strict(False)] = ()
    wire: LaxPath | None = None  # without one, a panel every pace_ms
    pace_ms: Annotated[float, Field(gt=0)] = 500.0
    exposure_ms: Annotated[float, Field(gt=0)] = 2.0  # of each channel, one after the other
    loop: bool = False
    ahead: Annotated[int, Field(ge=1)] = 4  # panels in memory
    readers: Annotated[int, Field(ge=1)] = 2  # threads

    @model_validator(mode="after")
    def _one_source(self) -> "Settings":
        if (self.set is None) == (not self.folders):
            raise ValueError("name either a panel set (set) or the folders to replay (folders)")
        return self


@dataclass(frozen=True)
class Entry:
    """One panel of the replay; `name` is `<defect>/<panel>`."""

    name: str
    path: Path


def panels_of(settings: Settings) -> list[str]:
    """Names of the panels in the order of the replay; the wire's panel index counts in this list.

    Raises:
        PanelError: the set or a folder is not there.
    """
    return [entry.name for entry in _entries(settings)]


class FolderCamera:
    """Fulfils `Camera`; see `open_camera`. A panel that cannot be read costs one CameraError, not the next panel."""

    def __init__(self, settings: Settings, source: Source, reader: "_Reader", channels: int) -> None:
        self._shutter = Shutter(source, channels, settings.exposure_ms)
        self._reader, self._loop = reader, settings.loop

    def arm(self) -> None:
        self._shutter.arm()

    def grab(self, into: memoryview, timeout_ms: int) -> Exposure | None:
        deadline_ns = time.monotonic_ns() + timeout_ms * 1_000_000
        shot = self._shutter.next(timeout_ms)
        if shot is None or self._beyond(shot):
            return None
        frame = self._frame(shot, deadline_ns)
        if frame is None:
            return None
        if into.nbytes >= frame.nbytes:
            np.frombuffer(into, frame.dtype, frame.size).reshape(frame.shape)[:] = frame
        return Exposure(shot.counter, shot.exposed_ns, (frame.shape[0], frame.shape[1]), str(frame.dtype))

    def exhausted(self) -> bool:
        """True after the last panel, unless in a loop; the frames still waiting come first."""
        return not self._loop and self._shutter.latest >= len(self._reader) - 1 and not self._shutter.pending

    def _beyond(self, shot: Shot) -> bool:
        """After the end nothing is seen at all."""
        gone = not self._loop and shot.panel >= len(self._reader)
        if gone:
            self._shutter.discard(shot.panel)
        return gone

    def _frame(self, shot: Shot, deadline_ns: int) -> Frames | None:
        """The shot's pixels [H, W]; None, and the shot waits on, when the disk has not delivered in time."""
        index = max(self._shutter.latest, 0) if shot.panel == EMPTY_FIELD else shot.panel
        reading = self._reader.panel(index % len(self._reader))
        try:
            frames = reading.result(max(deadline_ns - time.monotonic_ns(), 0) / 1e9)
        except TimeoutError:
            self._shutter.put_back(shot)
            return None
        except PanelError as error:
            self._shutter.discard(shot.panel)
            raise CameraError(str(error)) from None
        frame = frames[shot.channel]
        return np.zeros_like(frame) if shot.panel == EMPTY_FIELD else frame


def gap_ms(settings: Settings) -> float:
    """From one exposure of a set to the next."""
    return settings.exposure_ms


@contextmanager
def open_camera(settings: Settings, channels: tuple[str, ...]) -> Iterator[FolderCamera]:
    """A replay of `channels`, which may be some of the panels' own.

    Raises:
        PanelError: the set is not there.
        CameraError: there is nothing to replay, a channel is not in the panels, the pace is faster than the
            exposures, or the wire cannot be connected.
    """
    entries = _entries(settings)
    if not entries:
        raise CameraError(f"no panels in {settings.set or settings.folders[0]}; expected {settings.split}/<defect>/")
    known = _known_channels(settings, entries)
    unknown = [name for name in channels if name not in known]
    if unknown:
        raise CameraError(f"{entries[0].path} has no channel {unknown[0]!r}; there is {', '.join(known)}")
    if settings.wire is None and settings.pace_ms < len(channels) * settings.exposure_ms:
        raise CameraError(f"pace_ms {settings.pace_ms} ends before {len(channels)} exposures do; make it longer")
    with ExitStack() as stack:
        source = _source(settings, stack, len(entries))
        reader = stack.enter_context(closing(_Reader(settings, [entry.path for entry in entries], known, channels)))
        yield FolderCamera(settings, source, reader, len(channels))


class _Reader:
    """Reads panels ahead: those from the one asked for last onwards lie in memory, no others."""

    def __init__(
        self, settings: Settings, paths: list[Path], known: tuple[str, ...], channels: tuple[str, ...]
    ) -> None:
        self._paths, self._known, self._loop = paths, known, settings.loop
        self._wanted = [known.index(name) for name in channels]
        self._ahead = settings.ahead
        self._threads = ThreadPoolExecutor(settings.readers, thread_name_prefix="replay")
        self._readings: dict[int, Future[Frames]] = {}
        self.panel(0)

    def __len__(self) -> int:
        return len(self._paths)

    def panel(self, index: int) -> Future[Frames]:
        """The pixels of panel `index`, in channel order, being read."""
        window = [index + step for step in range(min(self._ahead, len(self)))]
        near = [at % len(self) for at in window if self._loop or at < len(self)]
        for gone in self._readings.keys() - set(near):
            self._readings.pop(gone).cancel()
        for at in near:
            if at not in self._readings:
                self._readings[at] = self._threads.submit(self._read, self._paths[at])
        return self._readings[index]

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _read(self, path: Path) -> Frames:
        frames = read_panel(path, self._known)
        return frames if self._wanted == list(range(len(frames))) else frames[self._wanted]


class _Clock:
    """Pulses at an even pace from the first arming on, until every panel had its turn."""

    def __init__(self, pace_ms: float, panels: float) -> None:
        self._pace_ns, self._panels, self._next = int(pace_ms * 1e6), panels, 0
        self._due_ns: int | None = None

    def wait(self, timeout_ms: float) -> Pulse | None:
        deadline_ns = time.monotonic_ns() + int(max(timeout_ms, 0) * 1e6)
        due_ns = math.inf if self._due_ns is None or self._next >= self._panels else self._due_ns
        time.sleep(max(min(due_ns, deadline_ns) - time.monotonic_ns(), 0) / 1e9)
        if due_ns > deadline_ns:
            return None
        pulse = Pulse(self._next, int(due_ns))
        self._next, self._due_ns = self._next + 1, int(due_ns) + self._pace_ns
        return pulse

    def drain(self) -> None:
        self._due_ns = time.monotonic_ns() + self._pace_ns


def _source(settings: Settings, stack: ExitStack, panels: int) -> Source:
    if settings.wire is None:
        return _Clock(settings.pace_ms, math.inf if settings.loop else panels)
    try:
        return stack.enter_context(closing(Listener(settings.wire)))
    except OSError as error:
        raise CameraError(f"trigger wire {settings.wire} cannot be connected: {error}") from None


def _entries(settings: Settings) -> list[Entry]:
    if settings.set is None:
        return [entry for folder in settings.folders for entry in _of_folder(folder)]
    panels = PanelSet(settings.set)
    kinds = settings.defects or tuple(panels.defects(settings.split))
    found = [panel for kind in kinds for panel in panels.panels(settings.split, kind)]
    return [Entry(f"{panel.defect}/{panel.name}", panel.path) for panel in found]


def _of_folder(folder: Path) -> Iterator[Entry]:
    if not folder.is_dir():
        raise PanelError(f"{folder}: no such folder; name one that holds panels")
    for path in sorted(folder.iterdir(), key=lambda path: natural(path.name)):
        if not path.name.startswith(".") and (path.is_dir() or path.suffix.lower() in SUFFIXES):
            yield Entry(f"{folder.name}/{path.stem if path.is_file() else path.name}", path)


def _known_channels(settings: Settings, entries: list[Entry]) -> tuple[str, ...]:
    return PanelSet(settings.set).channels if settings.set else channel_names(entries[0].path)
