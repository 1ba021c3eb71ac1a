"""fused: two maps on one scale, patches, levels left out, each stage moving its own part, tiles as the whole."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

if TYPE_CHECKING:
    from torch import Tensor

from engines import methods  # noqa: E402
from engines.errors import UsageError  # noqa: E402
from engines.methods import fused  # noqa: E402
from engines.patches import halo  # noqa: E402

SMALL = {
    "height": 64,
    "width": 96,
    "teacher": "resnet18",
    "student_width": 4,
    "patch_px": 32,
    "decoder_widths": [8, 6, 4],
    "decoder_narrow": [6, 5, 4],
}
MARKED = torch.zeros(6, 64, 96, dtype=torch.bool)
MARKED[:3, 8:40, 40:72] = True


def of(**changes: object) -> fused.Settings:
    return methods.settings_of(fused, SMALL | changes)  # type: ignore[return-value]


def panels(count: int = 6, channels: int = 4) -> "Tensor":
    random = torch.Generator().manual_seed(3)
    return 0.4 + 0.2 * torch.rand(count, channels, 64, 96, generator=random)


def batches(channels: int = 4) -> Iterator["Tensor"]:
    yield from panels(channels=channels).split(3)


def defective() -> "Tensor":
    batch = panels()
    batch[:, 1] *= torch.where(MARKED, 0.3, 1.0)
    return batch


def fitted(channels: int = 4, **changes: object) -> fused.Fused:
    torch.manual_seed(0)
    model = fused.build(channels, of(**changes))
    model.fit_input(lambda: batches(channels))
    model.eval().fit_output(lambda: batches(channels))
    return model


def stage(model: fused.Fused, name: str) -> methods.Stage:
    """The stage of this name, those before it left out."""
    return next(one for one in model.stages() if one.name == name)


def taught(model: fused.Fused, one: methods.Stage, steps: int = 10) -> list[float]:
    optimiser = torch.optim.AdamW(one.parameters, lr=5e-3)
    batch, mask = (defective(), MARKED) if one.needs_defects else (panels(), None)
    losses = []
    for _ in range(steps):
        loss = one.loss(batch, mask, one.targets(batch) if one.targets else None)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_maps_have_stride_four_and_rows_do_not_depend_on_the_batch(channels: int) -> None:
    model = fitted(channels)
    with torch.no_grad():
        maps, scores = model(panels(channels=channels))
        one, score = model(panels(channels=channels)[2:3])
    assert maps.shape == (6, 16, 24)
    assert torch.allclose(maps[2:3], one, atol=1e-4)
    assert torch.allclose(scores[2:3], score, atol=1e-4)


@pytest.mark.parametrize("passes", [0, 8])
def test_other_good_panels_score_around_one(passes: int) -> None:
    others = 0.4 + 0.2 * torch.rand(12, 4, 64, 96, generator=torch.Generator().manual_seed(99))
    with torch.no_grad():
        scores = fitted(decoder_passes=passes)(others)[1]
    assert float(scores.min()) > 0.5 and float(scores.max()) < 2


def test_both_maps_are_brought_to_one_scale() -> None:
    model = fitted()
    assert model.decoder is not None
    with torch.no_grad():
        model.decoder.last.weight.mul_(50)
        model.fit_output(batches)
        both = model._two_maps(panels()) * model.gain.view(2, 1, 1, 1)
    for map in both.numpy():
        assert np.quantile(map, 0.995) - np.quantile(map, 0.9) == pytest.approx(0.1, abs=0.01)


def test_a_panel_calmer_than_any_that_taught_still_scores_above_zero() -> None:
    calm = panels().mean((2, 3), keepdim=True).expand(6, 4, 64, 96)
    with torch.no_grad():
        assert float(fitted()(calm)[1].min()) > 0


def test_scales_and_score_are_learnt_from_what_trained_nothing_and_the_mean_map_from_all() -> None:
    model = fitted()
    assert model.decoder is not None and model.keeps_unseen
    position = model.position.clone()
    others = 0.3 + 0.4 * torch.rand(4, 4, 64, 96, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        model.decoder.last.weight.mul_(50)
        model.fit_output(batches, lambda: [others])
        both = model._two_maps(others) * model.gain.view(2, 1, 1, 1)
        assert float(model(others)[1].mean()) == pytest.approx(1, abs=1e-3)
    assert torch.equal(model.position, position)
    for map in both.numpy():
        assert np.quantile(map, 0.995) - np.quantile(map, 0.9) == pytest.approx(0.1, abs=0.01)


def test_without_a_decoder_all_good_panels_train() -> None:
    assert not fitted(decoder_passes=0).keeps_unseen


def test_a_recipe_from_before_levels_were_narrowed_has_the_decoder_of_then() -> None:
    stored = of().model_dump(mode="json")
    assert methods.stored_settings(fused, stored) == of()
    del stored["decoder_narrow"]
    settings = methods.stored_settings(fused, stored)
    assert settings == of(decoder_narrow=None)
    decoder = fused.build(4, settings).decoder  # type: ignore[arg-type]
    assert decoder is not None and not any(name.startswith("narrow") for name in decoder.state_dict())


def test_without_share_the_map_is_that_of_the_distances() -> None:
    model, alone = fitted(), fitted(decoder_passes=0)
    model.settings = model.settings.model_copy(update={"decoder_share": 0.0})
    with torch.no_grad():
        maps, wanted = model(defective())[0], alone(defective())[0]
    assert torch.allclose(maps, wanted * model.gain[0], atol=1e-4)


def test_each_stage_moves_its_own_part_alone() -> None:
    model = fitted(contrast_passes=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    for one in model.stages():
        model.train()
        taught(model, one, 2)
        now = model.state_dict()
        seen.append({name.split(".")[0] for name, value in now.items() if not torch.equal(value, before[name])})
        before = {name: value.clone() for name, value in now.items()}
    assert seen == [{"student", "heads"}, {"blend", "factors", "shares"}, {"decoder"}]


@pytest.mark.slow
def test_the_decoder_learns_where_defects_are() -> None:
    model = fitted()
    decoder = stage(model, "decoder")
    assert decoder.variety == 1200 and decoder.targets is not None
    model.train()
    losses = taught(model, decoder, 60)
    assert losses[-1] < 0.5 * losses[0]
    model.eval().fit_output(batches)
    with torch.no_grad():
        mask = model._two_maps(defective())[1]
    marked = torch.nn.functional.max_pool2d(MARKED[:, None].float(), 4)[:, 0] > 0
    assert float(mask[marked].mean()) > float(mask[~marked].mean())


def test_a_level_that_is_left_out_is_imitated_and_not_compared() -> None:
    model = fitted(levels=[8])
    with torch.no_grad():
        model.heads[0].weight.zero_()  # type: ignore[union-attr]
        distance = model.distance(panels())
        model.heads[2].weight.zero_()  # type: ignore[union-attr]
        assert torch.equal(model.distance(panels()), distance)
        model.heads[1].weight.zero_()  # type: ignore[union-attr]
        assert not torch.allclose(model.distance(panels()), distance)
    pull = stage(model, "student")
    before = model.heads[0].weight.clone()  # type: ignore[union-attr]
    taught(model, pull, 2)
    assert not torch.equal(model.heads[0].weight, before)  # type: ignore[union-attr]


def test_a_level_that_is_left_out_stays_out_while_the_contrast_acts() -> None:
    model = fitted(levels=[4, 16], contrast_passes=8)
    taught(model, stage(model, "contrast"), 5)
    shares = torch.softmax(model.shares.detach(), 0)
    assert float(shares[1]) == 0 and float(shares[0]) > 0.1 and float(shares[2]) > 0.1


def test_level_maps_and_their_fusion_answer_as_the_network_without_decoder() -> None:
    model = fitted(levels=[4, 8], decoder_passes=0)
    fusion = fused.fusion(model.settings)  # type: ignore[arg-type]
    with torch.no_grad():
        fusion.fit_output(lambda: [model.level_maps(batch) for batch in batches()])
        maps, scores = fusion(model.level_maps(defective()))
        wanted_maps, wanted_scores = model(defective())
    assert torch.allclose(maps, wanted_maps, atol=1e-4)
    assert torch.allclose(scores, wanted_scores, atol=1e-3)


def test_all_levels_are_tried_in_one_short_lesson_without_contrast_and_decoder() -> None:
    settings = of(levels="auto", contrast_passes=480, schedule={"image_passes": 4000})
    assert fused.candidates(settings) == ("4", "8", "16")
    [lesson] = fused.trials(settings, ("4", "8", "16"))
    assert (lesson.levels, lesson.contrast_passes, lesson.decoder_passes) == ((4, 8, 16), 0, 0)
    assert lesson.schedule.image_passes == settings.choice_passes
    assert fused.with_levels(settings, ["16", "4"]).levels == (4, 16)
    assert fused.candidates(of()) == ()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"patch_px": 48}, "take 16, 32"),
        ({"levels": [8, 4]}, "rising"),
        ({"levels": []}, "rising"),
        ({"levels": [32]}, "rising"),
        ({"strides": [4, 8]}, "set levels"),
        ({"direction": "flattened"}, "location"),
        ({"decoder_narrow": [8, 8]}, "decoder_narrow"),
        ({"decoder_share": 0.6}, "decoder_share"),
        ({"decoder_share": 0}, "decoder_share"),
        ({"decoder_widths": [0, 8, 8]}, "decoder_widths"),
        ({"value_weight": 0.5}, "directions alone"),
        ({"decoder_widths": [8, 8]}, "decoder_widths"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(changes: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        of(**changes)


@pytest.mark.parametrize(("height", "width", "patch"), [(256, 256, 64), (224, 224, 32), (96, 160, 32), (352, 320, 32)])
def test_patches_part_a_panel_of_any_size_that_networks_take(height: int, width: int, patch: int) -> None:
    settings = of(height=height, width=width, patch_px=None)
    assert settings.patch == patch
    with torch.no_grad():
        maps, _ = fused.build(1, settings).eval()(torch.zeros(1, 1, height, width))
    assert maps.shape == (1, height // 4, width // 4)


def test_a_mask_that_is_sure_of_every_cell_does_not_drown_the_distances() -> None:
    model = fitted()
    assert model.decoder is not None
    with torch.no_grad():
        model.decoder.last.weight.zero_()
        model.fit_output(batches)
    assert float(model.gain[1]) <= fused.HIGH_IS / fused.LEAST_STEP[1] + 1e-6


def test_a_cell_sees_no_farther_than_the_receptive_field() -> None:
    settings = {"height": 64, "width": 1024, "smooth": 0.5}
    model = fused.build(3, of(**settings)).eval()
    model.double()
    batch = torch.rand(1, 3, 64, 1024, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    batch.requires_grad_(True)
    model.answer(batch)[0][0, 8, 128].backward()
    assert batch.grad is not None
    columns = torch.nonzero(batch.grad.abs().sum((0, 1, 2)) > 1e-6 * batch.grad.abs().max())[:, 0]
    assert 128 < int(columns.max() - columns.min()) + 1 <= model.receptive_field
    assert model.training_facts["halo_px"] == halo(model.receptive_field, 32)


def test_tiles_with_their_halo_answer_as_the_whole_panel() -> None:
    torch.manual_seed(2)
    shape = {"height": 64, "patch_px": 32, "position_correction": False}
    margin = halo(fused.build(4, of(width=512, **shape)).receptive_field, 32)
    inside = 128
    size, whole_width = inside + 2 * margin, 3 * inside + 2 * margin
    whole, tile = (fused.build(4, of(width=width, **shape)).eval() for width in (whole_width, size))
    panel = torch.rand(4, 4, 64, whole_width, generator=torch.Generator().manual_seed(5))
    whole.fit_input(lambda: [panel])
    whole.fit_output(lambda: [panel])
    same = {name: value for name, value in whole.state_dict().items() if name != "position"}
    tile.load_state_dict(same, strict=False)
    with torch.no_grad():
        maps, scores = whole(panel)
        seen = [tile(panel[..., at : at + size])[0] for at in (0, inside, 2 * inside)]
    cut, end = margin // 4, (margin + inside) // 4
    stitched = torch.cat([seen[0][..., :end], seen[1][..., cut:end], seen[2][..., cut:]], -1)
    assert stitched.shape == maps.shape
    in_scores = float((stitched - maps).abs().max() * whole.score_weight.sum())
    assert in_scores < 1e-3 * float(scores.min())
