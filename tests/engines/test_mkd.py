"""The method learns from good panels alone, in one graph, the same in a batch as alone."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

if TYPE_CHECKING:
    from torch import Tensor

from engines import methods  # noqa: E402
from engines.backbones import Trunk, load_weights, receptive_field_px  # noqa: E402
from engines.errors import UsageError  # noqa: E402
from engines.methods import mkd  # noqa: E402

SMALL = {"height": 64, "width": 96, "teacher": "small", "student_width": 4}


def settings(**changes: object) -> mkd.Settings:
    return methods.settings_of(mkd, SMALL | changes)  # type: ignore[return-value]


def panels(count: int = 6, channels: int = 5) -> "Tensor":
    torch.manual_seed(3)
    return torch.rand(count, channels, 64, 96)


def fitted(channels: int = 5, **changes: object) -> mkd.Mkd:
    torch.manual_seed(0)
    model = mkd.build(channels, settings(**changes))

    def batches() -> Iterator["Tensor"]:
        yield from panels(channels=channels).split(3)

    model.fit_input(batches)
    model.eval().fit_output(batches)
    return model


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_maps_have_stride_four_and_rows_do_not_depend_on_the_batch(channels: int) -> None:
    model = fitted(channels)
    with torch.no_grad():
        maps, scores = model(panels(channels=channels))
        alone, score = model(panels(channels=channels)[2:3])
    assert maps.shape == (6, 16, 24) and scores.shape == (6,)
    torch.testing.assert_close(maps[2:3], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores[2:3], score, atol=1e-3, rtol=1e-3)


def losses_of(stage: methods.Stage, mask: "Tensor | None", steps: int = 12) -> list[float]:
    optimiser = torch.optim.AdamW(stage.parameters, lr=2e-3)
    losses = []
    for _ in range(steps):
        loss = stage.loss(panels(), mask, None)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def test_the_student_is_pulled_to_the_teacher_and_the_teacher_stays() -> None:
    model = fitted(teacher_passes=0).train()
    before = {name: weights.clone() for name, weights in model.teacher.state_dict().items()}
    (stage,) = model.stages()
    losses = losses_of(stage, None)
    assert losses[-1] < 0.8 * losses[0]
    for name, weights in model.teacher.state_dict().items():
        torch.testing.assert_close(before[name], weights)


def test_a_teacher_made_here_learns_from_defects_first_and_then_stands_still() -> None:
    model = fitted().train()
    stages = model.stages()
    first = next(stages)
    assert first.needs_defects
    mask = torch.zeros(6, 64, 96, dtype=torch.bool)
    mask[:, 8:24, 8:24] = True
    losses = losses_of(first, mask)
    assert losses[-1] < losses[0]
    second = next(stages)
    assert not second.needs_defects
    assert not any(weights.requires_grad for weights in model.teacher.parameters())
    assert not any(module.training for module in model.teacher.modules())


@pytest.mark.parametrize("blend", ["statistics", "balanced"])
def test_the_blend_is_standardised_and_does_not_collapse(blend: str) -> None:
    model = fitted(blend=blend)
    seen = model.blend(panels())
    assert seen.shape == (6, 3, 64, 96)
    torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(3), atol=1e-3, rtol=0)
    assert (seen.std((0, 2, 3)) > 0.9).all()


def test_one_dark_channel_counts_as_much_as_a_bright_one() -> None:
    torch.manual_seed(0)
    scale = torch.tensor([1.0, 0.02]).view(1, 2, 1, 1)
    good = torch.rand(4, 2, 64, 96) * scale
    model = mkd.build(2, settings(blend="balanced"))
    model.fit_input(lambda: iter([good]))
    moved = [good + scale * torch.eye(2)[channel].view(1, 2, 1, 1) for channel in (0, 1)]
    effects = [float((model.blend(one) - model.blend(good)).abs().mean()) for one in moved]
    assert effects[0] == pytest.approx(effects[1], rel=0.1)


def test_the_position_correction_takes_the_mean_map_away() -> None:
    corrected, plain = fitted(), fitted(position_correction=False)
    assert corrected.position.abs().max() > 0
    assert plain.position.abs().max() == 0


def test_good_panels_score_around_one() -> None:
    with torch.no_grad():
        _, scores = fitted()(panels())
    assert float(scores.mean()) == pytest.approx(1, abs=1e-3)


def test_resnet18_sees_211_pixels() -> None:
    assert receptive_field_px(2) == 211


def test_settings_say_what_is_wrong() -> None:
    with pytest.raises(UsageError, match=r"there is .*student_width"):
        settings(studentwidth=4)
    with pytest.raises(UsageError, match="height"):
        settings(height=65)


def test_weights_say_what_is_wrong(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    trunk = Trunk(64, 2)
    with pytest.raises(UsageError, match="--teacher-weights DIR"):
        load_weights(trunk, "resnet18", None)
    with pytest.raises(UsageError, match="holds no resnet18"):
        load_weights(trunk, "resnet18", folder)
    (folder / "resnet18.pth").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_weights(trunk, "resnet18", folder)
    torch.save({"conv1.weight": trunk.conv1.weight}, folder / "resnet18.pth")
    with pytest.raises(UsageError, match=r"bn1\.weight is missing"):
        load_weights(trunk, "resnet18", folder)
    torch.save(trunk.state_dict(), folder / "resnet18.pth")
    name, digest = load_weights(trunk, "resnet18", folder)
    assert name == "resnet18" and len(digest) == 64


def test_a_teacher_made_here_is_the_same_for_the_same_seed() -> None:
    with torch.no_grad():
        one, other = fitted()(panels()), fitted()(panels())
    np.testing.assert_array_equal(one[1].numpy(), other[1].numpy())
