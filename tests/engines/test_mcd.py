"""mcd: pulls on good panels, pushes a bounded way on defects, does not collapse, and bears the loss of a channel."""

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")


if TYPE_CHECKING:
    from torch import Tensor

from engines.convex import ConvexBlend  # noqa: E402
from engines.methods import mcd  # noqa: E402

SMALL = {"height": 64, "width": 64, "teacher": "takt", "student_width": 4}
MARKED = torch.zeros(4, 64, 64, dtype=torch.bool)
MARKED[:2, 24:40, 24:40] = True


def panels(count: int = 4, channels: int = 4) -> "Tensor":
    random = torch.Generator().manual_seed(1)
    levels = torch.linspace(0.3, 0.7, channels).view(1, channels, 1, 1)
    return levels * (1 + 0.1 * torch.rand(count, 1, 64, 64, generator=random))


def defective() -> "Tensor":
    batch = panels()
    batch[:, 1] *= torch.where(MARKED, 0.4, 1.0)
    return batch


def fitted(channels: int = 4, **changes: object) -> mcd.Mcd:
    torch.manual_seed(0)
    model = mcd.build(channels, mcd.Settings(**{**SMALL, **changes}))  # type: ignore[arg-type]
    model.fit_input(lambda: [panels(channels=channels)])
    model.fit_output(lambda: [panels(channels=channels)])
    return model.eval()


def contrasted(model: mcd.Mcd, steps: int) -> list[float]:
    """Runs the contrastive stage alone on four panels, two of them defective."""
    *_, stage = (each for each in model.stages() if each.name == "contrast")
    optimiser = torch.optim.AdamW(stage.parameters, lr=stage.learning_rate or 1e-3)
    losses = []
    for _ in range(steps):
        loss = stage.loss(defective(), MARKED, None)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def ratio(model: mcd.Mcd) -> float:
    """Distance at defective locations against that at normal ones."""
    with torch.no_grad():
        distance = model._fused(model._pairs(defective()))
        marked = torch.nn.functional.max_pool2d(MARKED[:, None].float(), 4)[:, 0] > 0
    return float(distance[marked].mean() / distance[~marked].mean())


@pytest.mark.parametrize("channels", [1, 3, 4, 8])
def test_maps_have_stride_four_and_rows_do_not_depend_on_the_batch(channels: int) -> None:
    model = fitted(channels)
    with torch.no_grad():
        maps, scores = model(panels(channels=channels))
        one, score = model(panels(channels=channels)[2:3])
    assert maps.shape == (4, 16, 16)
    assert torch.allclose(maps[2:3], one, atol=1e-5)
    assert torch.allclose(scores[2:3], score, atol=1e-4)


def test_the_contrast_parts_defects_from_good_panels() -> None:
    model = fitted()
    before = ratio(model)
    losses = contrasted(model, 40)
    assert losses[-1] < losses[0]
    assert ratio(model) > before


def test_the_loss_is_bounded_whatever_the_network_answers() -> None:
    model = fitted()
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.mul_(-1e6)
        loss = model.loss(defective(), MARKED)
    assert 0 <= float(loss) <= 2 + model.settings.push


@pytest.mark.parametrize("push", [0.0, 1.0, 50.0])
def test_the_blend_keeps_its_spread_while_it_learns(push: float) -> None:
    model = fitted(push=push, contrast_rate=0.2)
    contrasted(model, 30)
    blend = model.blend
    assert isinstance(blend, ConvexBlend)
    with torch.no_grad():
        assert (blend(panels()).std((0, 2, 3)) > mcd.LEAST_SPREAD).all()


def test_a_spread_below_the_floor_costs() -> None:
    model = fitted()
    with torch.no_grad():
        assert float(model._guard(model.blend(panels()))) == 0
        flat = panels().mean((2, 3), keepdim=True).expand(4, 4, 64, 64)
        assert float(model._guard(model.blend(flat))) > 0.5


def test_a_lost_channel_moves_the_score_of_a_good_panel_little() -> None:
    model = fitted()
    with torch.no_grad():
        _, whole = model(panels())
        for lost in range(4):
            partial = panels()
            partial[:, lost] = 0
            assert float((model(partial)[1] - whole).abs().max()) < 0.2 * float(whole.mean())


def test_student_and_teacher_stand_still_while_the_contrast_acts() -> None:
    model = fitted()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    contrasted(model, 5)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"shares", "blend.logits", *(f"factors.{level}" for level in range(3))}


def test_the_student_moves_too_when_asked() -> None:
    model = fitted(push_student=0.1)
    before = model.student.state_dict()["conv1.weight"].clone()
    contrasted(model, 3)
    assert not torch.equal(model.student.state_dict()["conv1.weight"], before)


def test_panels_lose_channels_in_training_but_photographs_do_not() -> None:
    assert {stage.channel_dropout for stage in fitted(4).stages()} == {0.25}
    assert {stage.channel_dropout for stage in fitted(3).stages()} == {0.0}


def test_without_contrast_the_metric_is_that_of_mkd() -> None:
    model = fitted(contrast_passes=0)
    assert [stage.name for stage in model.stages()] == ["student"]
    assert all(not factor.any() for factor in model.factors)
