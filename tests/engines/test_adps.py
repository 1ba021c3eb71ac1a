"""adps: patches do not see each other, both courses learn, the map is the smoothed mask, good panels score around 1."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

from calibration.fit import Checkpoint, fit  # noqa: E402
from calibration.limits import set_limits  # noqa: E402
from calibration.material import Material  # noqa: E402
from calibration.stack import Stack  # noqa: E402
from engines import methods, zones  # noqa: E402
from engines.compare import cosine_distance, interpolation  # noqa: E402
from engines.decide import Problem, decide  # noqa: E402
from engines.errors import UsageError  # noqa: E402
from engines.methods import adps  # noqa: E402
from engines.recipe import Promise  # noqa: E402

SMALL = {"height": 64, "width": 96, "student_width": 4, "decoder_widths": [8, 6, 4]}
MARKED = torch.zeros(6, 64, 96, dtype=torch.bool)
MARKED[:3, 8:40, 40:72] = True


def of(**changes: object) -> adps.Settings:
    return methods.settings_of(adps, SMALL | changes)  # type: ignore[return-value]


def panels(count: int = 6, channels: int = 4) -> "Tensor":
    random = torch.Generator().manual_seed(3)
    return 0.4 + 0.2 * torch.rand(count, channels, 64, 96, generator=random)


def batches(channels: int = 4) -> Iterator["Tensor"]:
    yield from panels(channels=channels).split(3)


def defective() -> "Tensor":
    batch = panels()
    batch[:, 1] *= torch.where(MARKED, 0.3, 1.0)
    return batch


def fitted(channels: int = 4, **changes: object) -> adps.Adps:
    torch.manual_seed(0)
    model = adps.build(channels, of(**changes))
    model.fit_input(lambda: batches(channels))
    model.eval().fit_output(lambda: batches(channels))
    return model


def taught(model: adps.Adps, stage: methods.Stage, steps: int = 10) -> list[float]:
    optimiser = torch.optim.AdamW(stage.parameters, lr=5e-3)
    batch, mask = (defective(), MARKED) if stage.needs_defects else (panels(), None)
    model.train()
    losses = []
    for _ in range(steps):
        assert stage.targets is not None
        loss = stage.loss(batch, mask, stage.targets(batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def moved(model: adps.Adps, before: "dict[str, Tensor]") -> set[str]:
    """The model's parts that are no longer what they were."""
    return {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def state(model: adps.Adps) -> "dict[str, Tensor]":
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def model() -> adps.Adps:
    return fitted()


@pytest.mark.parametrize("channels", [1, 3, 4, 8])
def test_maps_have_stride_four_and_rows_do_not_depend_on_the_batch(channels: int) -> None:
    model = fitted(channels)
    with torch.no_grad():
        maps, scores = model(panels(channels=channels))
        alone, score = model(panels(channels=channels)[2:3])
    assert maps.shape == (6, 16, 24) and scores.shape == (6,)
    torch.testing.assert_close(maps[2:3], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores[2:3], score, atol=1e-3, rtol=1e-3)


@settings(max_examples=12)
@given(y=st.integers(0, 63), x=st.integers(0, 95))
def test_a_change_inside_a_patch_changes_the_students_features_of_that_patch_alone(
    model: adps.Adps, y: int, x: int
) -> None:
    before = panels(1)
    after = before.clone()
    after[:, :, y, x] += 0.5
    own = torch.zeros(1, 64, 96, dtype=torch.bool)
    own[:, y // 32 * 32 : y // 32 * 32 + 32, x // 32 * 32 : x // 32 * 32 + 32] = True
    with torch.no_grad():
        pairs = zip(model._imitate(model.blend(before)), model._imitate(model.blend(after)), (4, 8, 16), strict=True)
        for one, other, stride in pairs:
            differs = (one != other).any(1)
            assert differs.any()
            assert not (differs & ~own[:, ::stride, ::stride]).any()


def test_the_students_maps_have_the_teachers_shape(model: adps.Adps) -> None:
    with torch.no_grad():
        seen = model.blend(panels())
        for teacher, student in zip(model.teacher(seen), model._imitate(seen), strict=True):
            assert teacher.shape == student.shape


def test_joint_teaching_moves_student_and_decoder_together() -> None:
    model = fitted()
    before = state(model)
    (stage,) = model.stages()
    assert stage.needs_defects
    losses = taught(model, stage)
    assert losses[-1] < 0.8 * losses[0]
    assert moved(model, before) == {"student", "heads", "decoder"}


def test_afterwards_the_decoder_learns_on_a_student_that_stands_still() -> None:
    model = fitted(course="after")
    before = state(model)
    stages = model.stages()
    first = next(stages)
    assert not first.needs_defects
    losses = taught(model, first)
    assert losses[-1] < 0.8 * losses[0]
    assert moved(model, before) == {"student", "heads"}
    before = state(model)
    second = next(stages)
    assert second.needs_defects and second.image_passes == model.settings.decoder_passes
    losses = taught(model, second)
    assert losses[-1] < 0.8 * losses[0]
    assert moved(model, before) == {"decoder"}
    assert next(stages, None) is None


def test_the_push_is_bounded_and_the_pull_is_not_felt_by_defects() -> None:
    teacher = torch.rand(2, 5, 4, 4) + 0.1
    everywhere, nowhere = torch.ones(2, 4, 4), torch.zeros(2, 4, 4)
    for student, pushed, pulled in ((teacher, 1, 0), (-1e6 * teacher, 0, 2), (torch.zeros_like(teacher), 0, 1)):
        distance = cosine_distance(teacher, student)
        assert float(adps.pulled_and_pushed(distance, everywhere)) == pytest.approx(pushed, abs=1e-5)
        assert float(adps.pulled_and_pushed(distance, nowhere)) == pytest.approx(pulled, abs=1e-5)


def test_a_teacher_in_training_mode_stays_what_it_is() -> None:
    model = fitted().train()
    assert not any(module.training for module in model.teacher.modules())
    assert all(module.training for module in (*model.student.modules(), *model.decoder.modules()))


def test_the_map_is_the_odds_of_the_smoothed_mask_against_those_of_good_panels(model: adps.Adps) -> None:
    with torch.no_grad():
        mask = torch.softmax(model.decoder(*model._compared(defective())), 1)[:, 1].double().numpy()
        map = model(defective())[0].numpy()
    smooth = interpolation(16, 16, 1.0) @ mask @ interpolation(24, 24, 1.0).T
    expected = np.log1p(smooth / (1 - smooth) / np.exp(float(model.typical)))
    np.testing.assert_allclose(map, expected, rtol=1e-3)


def test_the_maximum_alone_ranks_panels_as_the_papers_score_does() -> None:
    model = fitted(score="maximum")
    with torch.no_grad():
        smooth = torch.sigmoid(model._log_odds(defective()))
        _, scores = model(defective())
    assert torch.equal(scores.argsort(), smooth.amax((1, 2)).argsort())
    assert [part.cells for part in model.score_rule() if part.weight] == [1]
    with torch.no_grad():
        assert float(model(panels())[1].mean()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("course", ["joint", "after"])
def test_either_course_is_taught_from_good_panels_and_synthetic_defects(course: str, tmp_path: Path) -> None:
    schedule = {"image_passes": 8, "batch": 4}
    chosen = of(course=course, decoder_passes=8, schedule=schedule)
    model = adps.build(2, chosen)
    good = Stack((panels(8, 2).numpy() * 255).astype(np.uint8), tuple("abcdefgh"), 16)
    told: list[str] = []
    material = Material(good, ("bright_surface", "dark_surface"), 0)
    fit(model, material, chosen.schedule, Checkpoint(tmp_path / "c.pt"), lambda name, done, total: told.append(name))
    assert list(dict.fromkeys(told)) == {"joint": ["student and decoder"], "after": ["student", "decoder"]}[course]
    with torch.no_grad():
        scores = torch.cat([model(batch)[1] for batch in material.batches()])
    assert float(scores.mean()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("sure", [0.0, 5.0, 9.0])
def test_good_panels_score_around_one_however_sure_the_decoder_is(sure: float) -> None:
    """With `sure` 9 their mask is about e^-9 everywhere, and the scores still tell them apart."""
    model = fitted()
    with torch.no_grad():
        model.decoder.last.bias += torch.tensor([sure, 0.0])
        model.fit_output(batches)
        maps, scores = model(panels())
        assert float(torch.sigmoid(model._log_odds(panels())).max()) < 2 * np.exp(-sure)
    assert float(scores.mean()) == pytest.approx(1, abs=1e-3)
    assert float(scores.std()) > 1e-3
    assert float(maps.min()) > 0.1 and float(maps.median()) == pytest.approx(np.log(2), abs=1e-3)


def test_zeros_lie_below_everything_real(model: adps.Adps) -> None:
    with torch.no_grad():
        maps, scores = (each.numpy() for each in model(panels()))
    limits, _ = set_limits(scores.astype(float), maps, Promise(rate=0.5, confidence=0.6), 16)
    assert all(
        decide(map, float(score), limits, (64, 96)).problem is None for map, score in zip(maps, scores, strict=True)
    )
    finding = decide(np.zeros_like(maps[0]), 0.0, limits, (64, 96))
    assert not finding.passed and finding.problem is Problem.IMPLAUSIBLE


@pytest.mark.parametrize("score", ["both", "maximum"])
def test_the_score_follows_from_the_map_by_the_stated_rule(score: str) -> None:
    model = fitted(score=score)
    with torch.no_grad():
        maps, scores = (each.numpy() for each in model(defective()))
    for map, found in zip(maps, scores, strict=True):
        assert zones.whole(map, model.score_rule()) == pytest.approx(float(found), rel=1e-5)


@pytest.mark.parametrize("teacher", ["resnet34", "wide_resnet50_2", "vgg16", "efficientnet_b0", "mobilenet_v2"])
@pytest.mark.parametrize("student", ["thin", "twin"])
def test_other_teachers_have_a_student_of_either_kind(teacher: str, student: str) -> None:
    model = adps.build(3, of(teacher=teacher, student=student, strides=[4, 8], decoder_widths=[6, 4])).eval()
    assert all(weights.requires_grad for weights in model.student.parameters())
    if student == "twin":
        assert model.student.widths == model.teacher.widths and not list(model.heads.parameters())
    with torch.no_grad():
        maps, _ = model(panels(2, channels=3))
    assert maps.shape == (2, 16, 24)


@pytest.mark.parametrize("patch_px", [12, 24, 64, 8])
def test_a_patch_that_fits_no_grid_is_refused_in_one_line(patch_px: int) -> None:
    with pytest.raises(
        UsageError, match=r"patch_px.*divide height and width.*stride 16: take 16, 32; there is"
    ) as refused:
        of(patch_px=patch_px)
    assert "\n" not in str(refused.value)


def test_settings_say_what_is_wrong() -> None:
    for wrong in ([], [8, 16], [4, 16], [16, 8, 4]):
        with pytest.raises(UsageError, match="strides"):
            of(strides=wrong)
    with pytest.raises(UsageError, match="give 2 positive widths"):
        of(strides=[4, 8])
    with pytest.raises(UsageError, match="give 3 positive widths"):
        of(decoder_widths=[8, 0, 8])


def test_a_cell_of_the_map_sees_no_farther_than_the_receptive_field() -> None:
    torch.manual_seed(0)
    model = adps.build(3, of(height=512, width=64, smooth=0.0)).eval()
    picture = (0.4 + 0.2 * torch.rand(1, 3, 512, 64)).requires_grad_()
    model(picture)[0][0, 66, 8].backward()
    assert picture.grad is not None
    rows = torch.nonzero(picture.grad.abs().sum((0, 1, 3)))
    assert 128 < int(rows.max() - rows.min()) + 1 <= model.receptive_field
