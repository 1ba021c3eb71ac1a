"""The method learns from good panels alone, in one graph, the same in a batch as alone."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

from torch.nn import ReLU  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

import pipeline  # noqa: E402
from engines import methods  # noqa: E402
from engines import recipe as recipes  # noqa: E402
from engines.backbones import Trunk, load_weights, receptive_field_px  # noqa: E402
from engines.errors import UsageError  # noqa: E402
from engines.methods import mkd  # noqa: E402
from engines.patches import smoothed  # noqa: E402

SMALL = {"height": 64, "width": 96, "teacher": "takt", "student_width": 4}


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
    model = fitted().train()
    before = {name: weights.clone() for name, weights in model.teacher.state_dict().items()}
    (stage,) = model.stages()
    losses = losses_of(stage, None, steps=24)
    assert losses[-1] < 0.8 * losses[0]
    for name, weights in model.teacher.state_dict().items():
        torch.testing.assert_close(before[name], weights)


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


def test_the_receptive_field_is_the_larger_of_the_two() -> None:
    assert receptive_field_px(2) == 211
    behind = smoothed(16, 4, 1.0)  # the coarsest level brought to the finest, and the Gaussian
    assert mkd.build(3, settings(teacher="resnet18", smooth=1.0)).receptive_field == 211 + behind
    assert mkd.build(3, settings(student_blocks=3, smooth=1.0)).receptive_field == receptive_field_px(3) + behind


def of_vgg(**changes: object) -> mkd.Mkd:
    model = mkd.build(3, settings(**{"teacher": "vgg16", "strides": [4, 8]} | changes))
    for convolution in model.teacher.modules():  # random, but of the size that trained ones have
        if isinstance(convolution, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(convolution.weight)
    return model


def before_activations(student: "Module") -> list[str]:
    """What stands in front of each activation: a norm, or the convolution itself."""
    layers = [layer for layer in student.modules() if not list(layer.children())]
    return [type(before).__name__ for before, layer in pairwise(layers) if isinstance(layer, ReLU)]


def test_the_student_of_vgg16_is_the_papers() -> None:
    torch.manual_seed(0)
    model = of_vgg(student_width=16, strides=[4, 8, 16, 32])
    widths = [layer.out_channels for layer in model.student.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert widths == [16, 16, 16, 128, 16, 16, 256, 16, 16, 512, 16, 16, 512]
    assert all(layer.bias is None for layer in model.student.modules() if isinstance(layer, torch.nn.Conv2d))
    two, three = ["BatchNorm2d", "Conv2d"], ["BatchNorm2d", "BatchNorm2d", "Conv2d"]
    assert before_activations(model.student) == two + two + three * 3
    assert model.student.widths == model.teacher.widths == (128, 256, 512, 512)
    assert not list(model.heads.parameters())


@pytest.mark.parametrize("direction", ["location", "flattened"])
@pytest.mark.parametrize("value_weight", [0.0, 0.5])
def test_a_student_of_vgg16_learns_in_either_form(direction: str, value_weight: float) -> None:
    torch.manual_seed(0)
    model = of_vgg(direction=direction, value_weight=value_weight).train()
    optimiser = torch.optim.AdamW(next(iter(model.stages())).parameters, lr=2e-3)
    losses = []
    for _ in range(10):
        loss = model.loss(panels(channels=3), None)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    model.eval().fit_output(lambda: panels(channels=3).split(3))
    with torch.no_grad():
        maps, scores = model(panels(channels=3))
        alone, score = model(panels(channels=3)[2:3])
    assert maps.shape == (6, 16, 24) and float(scores.mean()) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(maps[2:3], alone, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(scores[2:3], score, atol=1e-3, rtol=1e-3)


def test_the_flattened_loss_and_score_are_the_papers_sum() -> None:
    torch.manual_seed(0)
    model = of_vgg(direction="flattened", value_weight=0.5, strides=[4, 8, 16]).eval()
    batch = panels(channels=3)
    with torch.no_grad():
        seen = model.blend(batch)
        total = torch.zeros(6)
        for taught, imitated in zip(model.teacher(seen), model.student(seen), strict=True):
            cosine = torch.nn.functional.cosine_similarity(taught.flatten(1), imitated.flatten(1))
            total += 1 - cosine + 0.5 * (taught - imitated).square().flatten(1).mean(1)
        torch.testing.assert_close(model.loss(batch, None), total.mean(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(batch)[1], total, rtol=1e-4, atol=1e-5)  # before it is scaled


def test_the_value_term_sees_what_direction_does_not() -> None:
    for weight, differs in ((0.0, False), (0.5, True)):
        model = mkd.build(3, settings(value_weight=weight))
        maps = [torch.rand(2, 4, 3, 3) + 1 for _ in range(3)]
        near, far = (model._distances([(one, factor * one) for one in maps]) for factor in (1.0, 1.5))
        assert all(bool((a < b - 0.01).all()) is differs for a, b in zip(near, far, strict=True))


@pytest.mark.parametrize("teacher", ["resnet34", "wide_resnet50_2", "efficientnet_b0", "mobilenet_v2"])
def test_other_teachers_have_a_residual_student_with_heads(teacher: str) -> None:
    model = mkd.build(3, settings(teacher=teacher)).eval()
    with torch.no_grad():
        maps, _ = model(panels(2, channels=3))
    assert maps.shape == (2, 16, 24)
    assert [head.out_channels for head in model.heads] == list(model.teacher.widths)


def test_levels_can_be_chosen_and_the_map_is_the_finest() -> None:
    model = mkd.build(3, settings(teacher="resnet18", strides=[8, 32])).eval()
    with torch.no_grad():
        maps, _ = model(panels(2, channels=3))
    assert maps.shape == (2, 8, 12)
    with pytest.raises(UsageError, match="no map of stride 32; there is 4, 8, 16"):
        mkd.build(3, settings(strides=[8, 32]))
    for wrong in ([], [2, 4], [8, 4], [4, 4]):
        with pytest.raises(UsageError, match="strides"):
            settings(strides=wrong)


def test_settings_of_before_still_mean_the_shipped_recipe() -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs the extra [teach]")
    shipped = recipes.load(Path(pipeline.__file__).parent / "demo" / "recipe")
    later = {"direction", "value_weight"}
    before = {name: value for name, value in shipped.manifest.settings.items() if name not in later}
    model = mkd.build(len(shipped.manifest.channels), mkd.Settings.model_validate(before))
    model.load_state_dict(safetensors.load_file(shipped.weights))
    size = (shipped.manifest.geometry.width, shipped.manifest.geometry.height)
    for golden in shipped.golden:
        rows = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in golden.frames]
        with torch.no_grad():
            map, score = model.eval()(torch.from_numpy(np.stack(rows)).float()[None] / 255)
        assert float(score) == pytest.approx(golden.score, abs=0.02)
        np.testing.assert_allclose(map[0].numpy(), golden.map, atol=0.02)


def test_settings_say_what_is_wrong() -> None:
    with pytest.raises(UsageError, match=r"there is .*student_width"):
        settings(studentwidth=4)
    with pytest.raises(UsageError, match="height"):
        settings(height=65)


def test_weights_say_what_is_wrong(tmp_path: Path) -> None:
    folder = tmp_path
    trunk = Trunk(64, 2)
    with pytest.raises(UsageError, match="--teacher-weights DIR"):
        load_weights(trunk, "resnet18", None)
    with pytest.raises(UsageError, match="holds no resnet18"):
        load_weights(trunk, "resnet18", folder)
    (folder / "resnet18.pth").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_weights(trunk, "resnet18", folder)
    torch.save({"conv1.weight": trunk.state_dict()["conv1.weight"]}, folder / "resnet18.pth")
    with pytest.raises(UsageError, match=r"bn1\.weight is missing"):
        load_weights(trunk, "resnet18", folder)
    torch.save(trunk.state_dict(), folder / "resnet18.pth")
    name, digest = load_weights(trunk, "resnet18", folder)
    assert name == "resnet18" and len(digest) == 64


def test_the_same_seed_builds_the_same_model() -> None:
    with torch.no_grad():
        one, other = fitted()(panels()), fitted()(panels())
    np.testing.assert_array_equal(one[1].numpy(), other[1].numpy())
