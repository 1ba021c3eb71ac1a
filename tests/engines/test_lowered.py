"""Half precision as `torch_cuda` has it, computed by the processor: which parts it is of, and how near it stays."""

from typing import Any

import barely_taught
import numpy as np
import pytest
from numpy.typing import NDArray

from engines import methods
from engines.errors import EngineError

torch = pytest.importorskip("torch", reason="needs the extra [teach]")
ERROR = {"fp16": 0.02, "bf16": 0.1}


def built(kind: str) -> Any:
    method = methods.load(kind)
    sides = {"height": barely_taught.SIDE, "width": barely_taught.SIDE}
    torch.manual_seed(0)
    return method.build(barely_taught.CHANNELS, methods.settings_of(method, sides | barely_taught.METHODS[kind])).eval()


def answer(model: Any) -> list[NDArray]:
    batch = np.random.default_rng(1).random(
        (2, barely_taught.CHANNELS, barely_taught.SIDE, barely_taught.SIDE), dtype=np.float32
    )
    with torch.inference_mode():
        found = model(torch.from_numpy(batch))
    assert all(each.dtype == torch.float32 for each in found)
    return [each.numpy() for each in found]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("kind", barely_taught.METHODS)
def test_every_method_stays_near_and_answers_in_float32(kind: str, precision: str) -> None:
    from engines.runtimes.torch_cuda import lowered

    exact, near = answer(built(kind)), answer(lowered(built(kind), precision))
    for known, found in zip(exact, near, strict=True):
        assert np.abs(found - known).max() <= ERROR[precision] * max(np.abs(known).max(), 1e-3), kind
    assert any((found != known).any() for known, found in zip(exact, near, strict=True))


def test_the_blend_and_the_comparison_are_not_lowered() -> None:
    from engines.runtimes.torch_cuda import lowered

    model = lowered(built("fused"), "fp16")
    halves = {name for name, each in model.named_parameters() if each.dtype == torch.float16}
    assert {name.partition(".")[0] for name in halves} <= {"teacher", "student", "heads", "decoder"}
    assert halves and not any(name.startswith("blend") for name in halves)
    assert all(each.dtype != torch.float16 for _, each in model.named_buffers())


def test_float32_is_left_as_it_is_and_weights_that_do_not_fit_are_refused() -> None:
    from engines.runtimes.torch_cuda import lowered

    model = built("mkd")
    assert lowered(model, "fp32") is model and all(each.dtype == torch.float32 for each in model.parameters())
    convolution = next(each for each in model.modules() if isinstance(each, torch.nn.Conv2d))
    with torch.no_grad():
        convolution.weight[0, 0, 0, 0] = 1e6
    teacher = next(each for name, each in model.named_children() if name == "teacher")
    with torch.no_grad():
        next(each for each in teacher.modules() if isinstance(each, torch.nn.Conv2d)).weight[0] = 1e6
    with pytest.raises(EngineError, match="too large for half precision; take bf16 or fp32"):
        lowered(model, "fp16")
