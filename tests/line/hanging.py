"""Plug-ins of another distribution: a camera, a runtime and a PLC driver of which one call never returns.

The call that finds the file of that kind's name below `TAKT_HANGS` takes it away and hangs; the next process works.
"""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engines.runtimes import Network, Source, onnxruntime
from pipeline.cameras import Exposure, simulated
from pipeline.errors import PlcError
from pipeline.plcs import PlcImage, modbus

DISTRIBUTION = """\
[takt.cameras]
hanging = hanging:HangingCameras
[takt.runtimes]
hanging = hanging:HangingRuntime
[takt.plcs]
hanging = hanging:HangingPlcs
"""


def perhaps(kind: str) -> None:
    place = Path(os.environ["TAKT_HANGS"]) / kind
    if place.exists():
        place.unlink()
        threading.Event().wait()


class _Camera:
    def __init__(self, camera: simulated.SimulatedCamera) -> None:
        self._camera = camera
        self.arm, self.exhausted = camera.arm, camera.exhausted

    def grab(self, into: memoryview, timeout_ms: int) -> Exposure | None:
        perhaps("camera")
        return self._camera.grab(into, timeout_ms)


class HangingCameras:
    """The simulated camera."""

    Settings = simulated.Settings

    @staticmethod
    @contextmanager
    def open_camera(settings: simulated.Settings, channels: tuple[str, ...]) -> Iterator[_Camera]:
        with simulated.open_camera(settings, channels) as camera:
            yield _Camera(camera)


class _Network:
    def __init__(self, network: Network) -> None:
        self._network, self.inputs, self.outputs = network, network.inputs, network.outputs

    def run(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        perhaps("runtime")
        return self._network.run(tensors)


class HangingRuntime:
    """ONNX Runtime."""

    PRECISIONS = onnxruntime.PRECISIONS
    version = staticmethod(onnxruntime.version)
    device = staticmethod(onnxruntime.device)
    made_from = staticmethod(onnxruntime.made_from)

    @staticmethod
    @contextmanager
    def open_network(source: Source, precision: str, threads: int, max_batch: int) -> Iterator[_Network]:
        with onnxruntime.open_network(source, precision, threads, max_batch) as network:
            yield _Network(network)


class _Plc(modbus.ModbusPlc):
    def read(self) -> PlcImage:
        perhaps("plc")
        return super().read()


class HangingPlcs:
    """Modbus TCP."""

    Settings = modbus.Settings

    @staticmethod
    @contextmanager
    def connect(settings: modbus.Settings) -> Iterator[_Plc]:
        plc = _Plc(settings)
        with suppress(PlcError):  # as the driver does: a PLC that is not there yet is waited for
            plc.reconnect()
        try:
            yield plc
        finally:
            plc.close()
