"""The weight mask is empty where both agree, the focal loss is its definition, the decoder ends at the finest level."""

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra.numpy import arrays  # noqa: E402

from engines.compare import cosine_distance  # noqa: E402
from engines.segmentation import Decoder, focal_loss, marked_cells, weight_mask  # noqa: E402

LOGITS = arrays(np.float64, (2, 2, 3, 4), elements=st.floats(-30, 30))
MARKED = arrays(np.bool_, (2, 3, 4))


def focal(logits: NDArray, marked: NDArray, gamma: float, alpha: float) -> float:
    """The definition, term by term."""
    odds = np.exp(logits[:, 1] - logits[:, 0])
    defect, good = odds / (1 + odds), 1 / (1 + odds)
    true, other = np.where(marked, defect, good), np.where(marked, good, defect)
    share = np.where(marked, alpha, 1 - alpha)
    return float((-share * other**gamma * np.log(true)).mean())


@given(LOGITS, MARKED, st.floats(0, 5), st.floats(0.05, 0.95))
def test_the_focal_loss_is_its_definition(logits: NDArray, marked: NDArray, gamma: float, alpha: float) -> None:
    found = focal_loss(torch.from_numpy(logits), torch.from_numpy(marked).double(), gamma, alpha)
    assert float(found) == pytest.approx(focal(logits, marked, gamma, alpha), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_focal_loss_can_be_descended_from_any_certainty(gamma: float) -> None:
    logits = torch.tensor([-200.0, 0.0, 200.0]).view(1, 1, 1, 3).repeat(1, 2, 1, 1)
    logits[:, 1] *= -1
    logits.requires_grad_()
    for marked in (torch.zeros(1, 1, 3), torch.ones(1, 1, 3)):
        loss = focal_loss(logits, marked, gamma, 0.75)
        (slope,) = torch.autograd.grad(loss, logits)
        assert bool(torch.isfinite(loss)) and bool(torch.isfinite(slope).all())


def test_the_weight_mask_is_zero_where_the_student_has_the_teachers_direction() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(2, 8, 4, 4)
    student = 3 * teacher
    student[:, :, 1, 2] *= -1
    found = weight_mask(teacher, cosine_distance(teacher, student))
    torch.testing.assert_close(found[:, :, 1, 2], 2 * teacher[:, :, 1, 2], rtol=1e-4, atol=1e-5)
    found[:, :, 1, 2] = 0
    assert float(found.abs().max()) < 1e-5


def test_the_weight_mask_is_the_teacher_itself_at_a_right_angle() -> None:
    teacher, student = torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    teacher[:, :2], student[:, 2:] = 1.5, 0.7
    torch.testing.assert_close(weight_mask(teacher, cosine_distance(teacher, student)), teacher)


def test_a_cell_is_marked_when_a_single_pixel_is() -> None:
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, 21, 10] = True
    for stride in (4, 8, 16):
        expected = torch.zeros(1, 32 // stride, 32 // stride)
        expected[0, 21 // stride, 10 // stride] = 1
        assert torch.equal(marked_cells(mask, stride), expected)


@pytest.mark.parametrize("inside", [(6,), (6, 8), (6, 8, 10, 12)])
def test_the_decoder_answers_at_the_finest_level_from_all(inside: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    decoder = Decoder(inside, tuple(range(4, 4 + len(inside)))).eval()
    levels = [torch.rand(2, width, 16 >> level, 24 >> level) for level, width in enumerate(inside)]
    with torch.no_grad():
        logits = decoder(levels)
        assert logits.shape == (2, 2, 16, 24)
        for level in range(len(inside)):
            changed = [one + (place == level) for place, one in enumerate(levels)]
            assert not torch.allclose(decoder(changed), logits)


@pytest.mark.parametrize("narrow", [None, (5, 4, 3)])
def test_the_decoder_weighs_levels_as_if_they_came_weighted(narrow: tuple[int, ...] | None) -> None:
    torch.manual_seed(0)
    decoder = Decoder((6, 8, 10), (4, 5, 6), narrow).eval()
    levels = [torch.rand(2, width, 16 >> level, 24 >> level) for level, width in enumerate((6, 8, 10))]
    distances = [torch.rand(2, *level.shape[2:]) for level in levels]
    weighted = [weight_mask(*pair) for pair in zip(levels, distances, strict=True)]
    with torch.no_grad():
        torch.testing.assert_close(decoder(levels, distances), decoder(weighted))


def test_the_decoders_reach_is_what_a_cell_depends_on_at_most() -> None:
    torch.manual_seed(0)
    decoder = Decoder((3, 3, 3), (4, 4, 4)).eval()
    coarsest = torch.rand(1, 3, 16, 2, requires_grad=True)
    levels = [torch.rand(1, 3, 64, 8), torch.rand(1, 3, 32, 4), coarsest]
    seen = []
    for row in range(28, 36):
        (slope,) = torch.autograd.grad(decoder(levels)[0, 1, row, 4], coarsest)
        rows = torch.nonzero(slope.abs().sum((0, 1, 3)))
        seen.append(int(rows.max() - rows.min() + 1) * 16)
    assert max(seen) == decoder.reach() + 16
