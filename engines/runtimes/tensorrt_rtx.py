"""TensorRT-RTX on an NVIDIA card; the extra `tensorrt-rtx`. It compiles for any card without one."""

from typing import Any

import tensorrt_rtx  # pyright: ignore[reportMissingImports]

from engines import tensor_runtime

LIBRARY: Any = tensorrt_rtx
PRECISIONS = tensor_runtime.PRECISIONS

_RUNTIME = tensor_runtime.TensorRuntime(LIBRARY)
version, device, made_from, open_network = (
    _RUNTIME.version,
    _RUNTIME.device,
    _RUNTIME.made_from,
    _RUNTIME.open_network,
)
