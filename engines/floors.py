"""How fast a card moves bytes and multiplies matrices: the two rates from which the least time of a network follows.

Measured with PyTorch, whose matrix product is the vendor's: medians of several runs after a warm-up, by the card's own
clock, each long against what starting and waiting cost.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engines.device_errors import NO_DEVICE, device_error
from engines.errors import UsageError

RUNS, WARM_UP = 7, 2
CARD_BYTES, ACROSS_BYTES = 1 << 30, 1 << 27
CARD_SIDE = 8192
CARD_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Floors:
    """Rates of one card. `copy` counts bytes read and written; `across` is host to card.

    `multiply` is in operations per second (2 n^3 a product) by precision.
    """

    device: str
    copy: float
    across: float
    multiply: dict[str, float] = field(default_factory=dict)

    def least_ms(self, operations: float, moved: float, precision: str, over: float = 0.0) -> float:
        """Below this no network takes: `operations` done and `moved` bytes, whichever is slower, after `over` bytes
        have come from the host."""
        rate = self.multiply[precision]
        return 1000 * (max(operations / rate, moved / self.copy) + over / self.across)


def of_card() -> Floors:
    """The first NVIDIA card's.

    Raises:
        UsageError: PyTorch with CUDA is not installed.
        DeviceError: there is no card.
    """
    torch = _torch()
    with torch.inference_mode():
        source = torch.ones(CARD_BYTES // 4, device="cuda")
        target = torch.empty_like(source)
        copied = _on_card(torch, lambda: target.copy_(source))
        host = torch.empty(ACROSS_BYTES, dtype=torch.uint8, pin_memory=True)
        there = torch.empty(ACROSS_BYTES, dtype=torch.uint8, device="cuda")
        crossed = _on_card(torch, lambda: there.copy_(host, non_blocking=True))
        rates = {name: _multiplied(torch, kind) for name, kind in CARD_TYPES.items()}
    return Floors(torch.cuda.get_device_name(0), 2 * CARD_BYTES / copied, ACROSS_BYTES / crossed, rates)


def _torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError:
        raise UsageError("a card's rates are measured with torch: pip install torch with CUDA") from None
    if not torch.backends.cuda.is_built():
        raise UsageError(f"torch {torch.__version__} is the build without CUDA: install the one with it")
    if not torch.cuda.is_available():
        raise device_error("measuring its rates", NO_DEVICE)
    return torch


def _multiplied(torch: Any, kind: str) -> float:
    """Operations per second of a product of random matrices: of zeros it would be faster, and no network's."""
    side = CARD_SIDE
    one = torch.rand((side, side), device="cuda").to(getattr(torch, kind))
    other, product = one.flip(0), torch.empty_like(one)
    return 2 * side**3 / _on_card(torch, lambda: torch.matmul(one, other, out=product))


def _on_card(torch: Any, run: Callable[[], object]) -> float:
    """Seconds by the card's own clock."""
    taken = []
    for number in range(WARM_UP + RUNS):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        run()
        ended.record()
        ended.synchronize()
        if number >= WARM_UP:
            taken.append(began.elapsed_time(ended) / 1000)
    return float(np.median(taken))
