"""TensorRT on an NVIDIA card; the extra `tensorrt`. It compiles on the card that will run the network."""

from typing import Any

import tensorrt  # pyright: ignore[reportMissingImports]

from engines import tensor_runtime

LIBRARY: Any = tensorrt
PRECISIONS = tensor_runtime.PRECISIONS

_RUNTIME = tensor_runtime.TensorRuntime(LIBRARY)
version, device, made_from, open_network = (
    _RUNTIME.version,
    _RUNTIME.device,
    _RUNTIME.made_from,
    _RUNTIME.open_network,
)
