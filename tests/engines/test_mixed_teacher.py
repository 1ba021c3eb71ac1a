"""mixed_teacher: two pairs taught apart, students that start at random, one map whose scale good panels gave."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

if TYPE_CHECKING:
    from torch import Tensor

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from engines import methods  # noqa: E402
from engines.backbones import TEACHERS, ReducedResNet  # noqa: E402
from engines.errors import UsageError  # noqa: E402
from engines.methods import mixed_teacher  # noqa: E402
from engines.methods.mixed_teacher import Fusion, MixedTeacher  # noqa: E402
from engines.patches import smoothed  # noqa: E402

SMALL = {"height": 64, "width": 96, "second": "mobilenet_v2"}


def settings(**changes: object) -> mixed_teacher.Settings:
    return methods.settings_of(mixed_teacher, SMALL | changes)  # type: ignore[return-value]


def panels(count: int = 6, channels: int = 5) -> "Tensor":
    random = torch.Generator().manual_seed(3)
    return torch.rand(count, channels, 64, 96, generator=random)


def random_teachers(folder: Path, *kinds: str) -> Path:
    """Files of the right networks, with random numbers, scaled so that the features differ from cell to cell."""
    torch.manual_seed(7)
    for kind in kinds:
        trunk = TEACHERS[kind].trunk([4, 8, 16] if kind == "resnet18" else [4, 8, 16, 32])
        for layer in trunk.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        torch.save(trunk.state_dict(), folder / f"{kind}.pth")
    return folder


def built(channels: int = 5, **changes: object) -> MixedTeacher:
    torch.manual_seed(0)
    return mixed_teacher.build(channels, settings(**changes))


def fitted(channels: int = 5, **changes: object) -> MixedTeacher:
    model = built(channels, **changes)

    def batches() -> Iterator["Tensor"]:
        yield from panels(channels=channels).split(4)

    model.fit_input(batches)
    model.eval().fit_output(batches)
    return model


def trained(stage: methods.Stage, model: MixedTeacher, steps: int) -> list[float]:
    optimiser = torch.optim.AdamW(stage.parameters, lr=2e-3)
    model.train()
    losses = []
    for _ in range(steps):
        batch = panels()
        assert stage.targets
        loss = stage.loss(batch, None, stage.targets(batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(("channels", "fusion"), [(1, "product"), (3, "sum"), (8, "product")])
def test_maps_have_stride_four_and_rows_do_not_depend_on_the_batch(channels: int, fusion: str) -> None:
    model = fitted(channels, fusion=fusion)
    with torch.no_grad():
        maps, scores = model(panels(channels=channels))
        alone, score = model(panels(channels=channels)[2:3])
    assert maps.shape == (6, 16, 24) and float(scores.mean()) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(maps[2:3], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores[2:3], score, atol=1e-3, rtol=1e-3)


def test_the_reduced_student_is_the_papers() -> None:
    student = ReducedResNet()
    assert (student.strides, student.widths) == ((8, 16), (64, 128))
    assert student.names == ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2")
    steps = [(layer.kernel_size, layer.stride) for layer in student.modules() if isinstance(layer, torch.nn.Conv2d)]
    block = [((3, 3), (2, 2)), ((3, 3), (1, 1)), ((1, 1), (2, 2))]
    assert steps == [((7, 7), (2, 2)), *block, *block]
    assert 0.30e6 < sum(weights.numel() for weights in student.parameters()) < 0.34e6


def test_each_student_has_the_shape_of_what_it_imitates() -> None:
    model = built(levels=list(mixed_teacher.LEVELS)).eval()
    seen = model.blend(panels(2))
    with torch.no_grad():
        for pair in model._each():
            shapes = [one.shape for one in pair.targets(seen)]
            assert shapes == [one.shape for one in pair.student(seen)]
    early, late = model._each()
    finest = model.get_submodule("pairs.early.teacher")(seen)[0]
    torch.testing.assert_close(early.targets(seen)[0], torch.nn.functional.avg_pool2d(finest, 2))
    assert [level.shape[1] for level in late.targets(seen)] == [32, 96, 320]


@pytest.mark.parametrize("second", ["mobilenet_v2", "efficientnet_b0"])
def test_no_student_starts_as_its_teacher(second: str, tmp_path: Path) -> None:
    model = built(second=second).train()
    mixed_teacher.load_teacher(model, random_teachers(tmp_path, "resnet18", second))
    early, late = model._each()
    for stage in model.stages():
        assert float(stage.loss(panels(), None, None).detach()) > 0.05
    taught = dict(late.teacher.named_parameters())
    convolutions = [(name, weights) for name, weights in late.student.named_parameters() if weights.ndim == 4]
    assert len(convolutions) > 40
    assert not any(torch.equal(weights, taught[name]) for name, weights in convolutions)
    assert not torch.equal(early.student.state_dict()["conv1.weight"], early.teacher.state_dict()["conv1.weight"])


def test_a_stage_moves_its_own_student_alone_and_lowers_its_loss() -> None:
    model = fitted()
    for stage, mine in zip(model.stages(), ("pairs.early.student.", "pairs.late.student."), strict=True):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        losses = trained(stage, model, 8)
        assert losses[-1] < losses[0]
        moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        own = {id(value) for name, value in model.named_parameters() if name.startswith(mine)}
        assert {id(value) for value in stage.parameters} == own
        assert moved and all(name.startswith(mine) for name in moved)


def test_the_loss_is_half_the_squared_difference_of_normalised_features(tmp_path: Path) -> None:
    model = built().train()
    mixed_teacher.load_teacher(model, random_teachers(tmp_path, "resnet18", "mobilenet_v2"))
    seen = model.blend(panels())
    with torch.no_grad():
        for stage, pair in zip(model.stages(), model._each(), strict=True):
            expected = []
            for teacher, student in zip(pair.targets(seen), pair.student(seen), strict=True):
                one, other = (torch.nn.functional.normalize(each, dim=1) for each in (teacher, student))
                expected.append((0.5 * (one - other).square().sum(1)).mean())
            torch.testing.assert_close(
                stage.loss(panels(), None, None), torch.stack(expected).mean(), rtol=1e-3, atol=1e-5
            )


def levels_of(value: "Tensor | float", count: int = 3) -> "Tensor":
    return torch.as_tensor(value) * torch.ones(count, 4, 16, 24)


def test_the_product_of_nothing_is_nothing_and_constant_panels_stay_finite() -> None:
    fusion = Fusion(settings())
    assert float(fusion.distance(levels_of(0.0)).abs().max()) == 0
    for constant in (0.0, 0.3):
        fusion.fit_output(lambda constant=constant: [levels_of(constant)])
        map, scores = fusion(levels_of(constant))
        assert torch.isfinite(map).all() and torch.isfinite(scores).all()
    model = built()
    grey = torch.full((4, 5, 64, 96), 0.4)
    model.fit_input(lambda: [grey])
    model.eval().fit_output(lambda: [grey])
    with torch.no_grad():
        assert all(torch.isfinite(one).all() for one in model(grey))


@given(st.floats(0.01, 100), st.sampled_from(["product", "sum"]))
def test_the_second_maps_scale_is_learnt_from_good_panels(factor: float, fusion: str) -> None:
    """However loud the second pair is, map and score stay what they were."""
    random = torch.Generator().manual_seed(1)
    good = torch.rand(6, 4, 16, 24, generator=random) + 0.1
    louder = good * torch.tensor([1, 1, factor, factor]).view(1, 4, 1, 1)
    one, other = Fusion(settings(fusion=fusion)), Fusion(settings(fusion=fusion))
    one.fit_output(lambda: good.split(4))
    other.fit_output(lambda: louder.split(4))
    for plain, loud in zip(one(good), other(louder), strict=True):
        torch.testing.assert_close(plain, loud, rtol=1e-3, atol=1e-4)


def test_a_score_does_not_depend_on_what_else_is_inspected() -> None:
    fusion = Fusion(settings())
    good = torch.rand(6, 4, 16, 24) + 0.1
    fusion.fit_output(lambda: [good])
    loud = torch.cat([good[:1], 50 * good[1:2]])
    torch.testing.assert_close(fusion(loud)[1][0], fusion(good[:1])[1][0])


def test_the_product_asks_for_both_pairs_and_the_sum_for_one() -> None:
    seen = levels_of(0.5, 1)
    seen[:, :2, :, 12:] = 0  # the early pair sees nothing on the right
    product, total = (Fusion(settings(fusion=kind, smooth=0)).distance(seen) for kind in ("product", "sum"))
    assert float(product[..., 12:].abs().max()) == 0 and float(product[..., :12].min()) == pytest.approx(0.25)
    assert float(total[..., 12:].min()) == pytest.approx(0.25)


def test_the_map_is_smoothed_along_rows_and_columns_alike() -> None:
    point = torch.zeros(1, 4, 16, 24)
    point[:, :, 8, 12] = 1
    smooth = Fusion(settings(fusion="sum")).distance(point)[0]
    torch.testing.assert_close(smooth[8, 9:16], smooth[5:12, 12])
    assert float(smooth[9, 12]) > 0.3 * float(smooth[8, 12])


def test_levels_can_be_chosen_and_a_pair_without_any_is_left_out() -> None:
    assert fitted(levels=["early4"]).training_facts["fusion"] == "one pair alone"
    late = fitted(levels=["late16"])
    assert list(late.pairs) == ["late"] and late(panels())[0].shape == (6, 16, 24)
    assert mixed_teacher.teachers(settings(levels=["early8"])) == ("resnet18",)
    assert mixed_teacher.teachers(settings(second="auto")) == ("resnet18", "efficientnet_b0")
    for wrong in ([], ["early2"], ["late32", "early4"], ["early4", "early4"], "early4", 4):
        with pytest.raises(UsageError, match=r'setting levels: .*"auto", or a list of early4'):
            settings(levels=wrong)


def test_candidates_are_all_levels_shallow_first_and_none_where_they_are_named() -> None:
    asked = settings(levels="auto")
    there = mixed_teacher.candidates(asked)
    assert set(there) == set(mixed_teacher.LEVELS) and there[:3] == ("early4", "early8", "late8")
    assert mixed_teacher.candidates(settings()) == ()
    assert mixed_teacher.with_levels(asked, ["late16", "early8"]).levels == ("early8", "late16")


def test_the_receptive_field_covers_the_pooled_cell() -> None:
    networks = max(43 + 4, ReducedResNet([8]).fields[-1])
    assert built(levels=["early4"], smooth=1.0).receptive_field == networks + smoothed(8, 4, 1.0)


def test_the_second_teacher_is_the_papers_where_its_weights_are_at_hand(tmp_path: Path) -> None:
    asked = settings(second="auto")
    random_teachers(tmp_path, "resnet18", "mobilenet_v2")
    assert methods.settled(mixed_teacher, asked, tmp_path) == settings(second="mobilenet_v2")
    random_teachers(tmp_path, "efficientnet_b0")
    assert methods.settled(mixed_teacher, asked, tmp_path) == settings(second="efficientnet_b0")
    assert methods.settled(mixed_teacher, settings(), tmp_path) == settings()


def test_missing_weights_are_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = settings(second="auto")
    with pytest.raises(UsageError, match=r"holds no efficientnet_b0\*\.pth or mobilenet_v2\*\.pth; give"):
        mixed_teacher.settled(asked, tmp_path)
    with pytest.raises(UsageError, match=r"--teacher-weights DIR with resnet18\*\.pth and .*--download-weights"):
        mixed_teacher.settled(asked, None)
    with pytest.raises(UsageError, match=r"holds no resnet18\*\.pth"):
        mixed_teacher.load_teacher(built(), random_teachers(tmp_path, "mobilenet_v2"))


def test_both_teachers_are_told(tmp_path: Path) -> None:
    name, digests = mixed_teacher.load_teacher(built(), random_teachers(tmp_path, "resnet18", "mobilenet_v2"))
    assert name == "resnet18 and mobilenet_v2"
    assert [len(each) for each in digests.split()] == [64, 64]
