"""The convex blend: standardised, hard to collapse, and whole where a channel is missing."""

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

from engines.convex import DERIVED, ConvexBlend  # noqa: E402

LEVELS = (0.15, 0.3, 0.6, 0.8)


def panels(count: int = 6, seed: int = 0) -> "Tensor":
    """One texture under four lights of different strength, and a little noise."""
    random = torch.Generator().manual_seed(seed)
    texture = torch.rand(count, 1, 32, 32, generator=random) * 0.2 - 0.1
    levels = torch.tensor(LEVELS).view(1, 4, 1, 1)
    noise = 0.004 * torch.randn(count, 4, 32, 32, generator=random)
    return (levels * (1 + texture) + noise).clamp(0.01, 1)


def fitted(balanced: bool = False, third: str = "deviation") -> ConvexBlend:
    blend = ConvexBlend(4, balanced, third)  # type: ignore[arg-type]
    blend.fit(lambda: [panels()])
    return blend


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("third", ["deviation", "focus"])
def test_outputs_are_standardised_over_good_panels(balanced: bool, third: str) -> None:
    with torch.no_grad():
        out = fitted(balanced, third)(panels())
    assert out.shape == (6, 3, 32, 32)
    assert out.mean((0, 2, 3)).abs().max() < 0.15
    assert (out.std((0, 2, 3)) - 1).abs().max() < 0.15


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("third", "starts"), [("deviation", (0, 1, 2)), ("focus", (0, 1, 3))])
def test_where_nothing_is_learnt_the_outputs_are_the_maps_they_start_from(
    balanced: bool, third: str, starts: tuple[int, ...]
) -> None:
    learnt, whole = fitted(balanced, third), panels(seed=3)
    fixed = ConvexBlend(4, balanced, third, learnt=False)  # type: ignore[arg-type]
    fixed.load_state_dict(learnt.state_dict())
    partial = whole.clone()
    partial[0, 1] = partial[1, 0] = partial[1, 3] = 0
    with torch.no_grad():
        for sets in (whole, partial):
            assert torch.allclose(fixed(sets), learnt.maps(sets)[:, list(starts)], atol=1e-5)
            assert (fixed(sets) - learnt(sets)).abs().max() < 0.05, "learning begins there"
    assert fixed.weights().tolist() == [[float(column == start) for column in range(8)] for start in starts]
    assert not any(parameter.requires_grad for parameter in fixed.parameters())


@given(st.lists(st.floats(-20, 20), min_size=3 * (DERIVED + 4), max_size=3 * (DERIVED + 4)))
@settings(max_examples=50)
def test_weights_are_convex_whatever_is_learnt(logits: list[float]) -> None:
    blend = fitted()
    with torch.no_grad():
        blend.logits.copy_(torch.tensor(logits).view(3, -1))
        weights, maps, out = blend.weights(), blend.maps(panels(2)), blend(panels(2))
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(3), atol=1e-5)
    assert (out <= maps.amax(1, keepdim=True) + 1e-4).all()
    assert (out >= maps.amin(1, keepdim=True) - 1e-4).all()


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("lost", range(4))
def test_a_missing_channel_is_filled_in_from_the_others(balanced: bool, lost: int) -> None:
    blend, whole = fitted(balanced), panels(seed=1)
    partial = whole.clone()
    partial[:, lost] = 0
    with torch.no_grad():
        maps, known = blend.maps(partial)[:, DERIVED + lost], blend.maps(whole)[:, DERIVED + lost]
        error = (blend(partial) - blend(whole))[:, 0].square().mean().sqrt()
    assert torch.corrcoef(torch.stack([maps.flatten(), known.flatten()]))[0, 1] > 0.8
    assert error < 0.2


def test_a_set_that_lacks_nothing_is_not_touched() -> None:
    blend, whole = fitted(), panels(seed=2)
    with torch.no_grad():
        maps = blend.maps(whole)[:, DERIVED:] * blend.std[:, DERIVED:] + blend.mean[:, DERIVED:]
    assert torch.allclose(maps, whole, atol=1e-5)


def test_black_panels_give_finite_maps() -> None:
    with torch.no_grad():
        assert torch.isfinite(fitted()(torch.zeros(2, 4, 32, 32))).all()


def test_best_focus_follows_the_channel_with_contrast() -> None:
    flat = panels(2)
    sharp = flat.clone()
    flat[:, 1:] = flat[:, 1:].mean((2, 3), keepdim=True)  # only channel 0 is in focus
    blend = fitted(balanced=True)
    with torch.no_grad():
        focus = blend.maps(flat)[:, 3] * blend.std[:, 3] + blend.mean[:, 3]
        seen = blend.maps(sharp)[:, DERIVED] * blend.std[:, DERIVED] + blend.mean[:, DERIVED]
    inside = (slice(None), slice(4, -4), slice(4, -4))
    assert torch.corrcoef(torch.stack([focus[inside].flatten(), seen[inside].flatten()]))[0, 1] > 0.95
