"""Graphs derived from a recipe's float32 network by rewriting, without PyTorch: fp16, bf16, int8, fp8.

Which nodes are computed in low precision is told by one rule, see `engines.graphs.region`. The same network, form and
panels give the same bytes on one machine. It needs the library `onnx`, which the extra `int8` brings.
"""

from collections.abc import Iterable
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from engines import plugins
from engines.errors import UsageError

REVISION = 2  # of the rewriting: counts up when the same network gives another graph
HALVES = ("fp16", "bf16")
# int8: `signed` has activations around 0; `7` has weights of 7 bits, see `engines.cpu.saturates`; `sparing` is for
# runtimes whose convolutions hand on what they have before it is rounded, see `engines.graphs.int8.Scheme`.
INTEGERS = ("int8", "int8-7", "int8-sparing", "int8-sparing-7", "int8-signed")
FORMS = (*HALVES, *INTEGERS, "fp8")


def derive(network: bytes, form: str, panels: Iterable[NDArray[np.float32]] = ()) -> bytes:
    """The ONNX graph `network` rewritten into `form`, one of `FORMS`.

    `panels` are good ones as the network takes them, each [C, h, w]; int8 learns from them how large values are.

    Raises:
        UsageError: there is no such form, or onnx is not installed.
        EngineError: the graph is damaged, or cannot be rewritten.
    """
    if form not in FORMS:
        raise UsageError(f"no graph {form!r}; there is {', '.join(FORMS)}")
    try:
        rewriting = import_module("engines.graphs.rewriting")
    except ModuleNotFoundError as missing:
        raise plugins.lacking("int8", missing) from missing
    return rewriting.rewritten(network, form, panels)
