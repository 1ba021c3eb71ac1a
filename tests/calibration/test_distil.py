"""Distillation: the same numbers whether it was interrupted or not, pictures that no step showed, a small file."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

if TYPE_CHECKING:
    from torch import Tensor

from safetensors.torch import load_file  # noqa: E402

from calibration import distil  # noqa: E402
from calibration.distil import Distillation, Plan  # noqa: E402
from calibration.fit import Checkpoint  # noqa: E402
from engines.backbones import Imitation, ResNet  # noqa: E402
from engines.backbones.download import sha256_of  # noqa: E402
from engines.errors import UsageError  # noqa: E402

PLAN = Plan(steps=2, seed=5)
SMALL = replace(PLAN, batches=((64, 2, 0.5), (96, 2, 0.5)))
PANELS = [np.random.default_rng(0).integers(0, 255, (4, 80, 90), np.uint8)]


class PowerCutError(Exception):
    """The power went."""


def distillation(plan: Plan = SMALL) -> Distillation:
    torch.manual_seed(1)
    return Distillation(plan, ResNet((2, 2, 2, 2)).eval().requires_grad_(False), PANELS)


def test_an_interrupted_distillation_ends_with_the_same_numbers(tmp_path: Path) -> None:
    whole, cut, again = distillation(), distillation(), distillation()
    whole.go(Checkpoint(tmp_path / "whole.pt"), lambda step: None)
    checkpoint = Checkpoint(tmp_path / "cut.pt", every_s=0)

    def pull_the_plug(step: int) -> None:
        if step == 1:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        cut.go(checkpoint, pull_the_plug)
    steps: list[int] = []
    again.go(checkpoint, steps.append)
    assert steps == [1] and again.losses == whole.losses
    for name, value in again.student.state_dict().items():
        assert torch.equal(value, whole.student.state_dict()[name]), name
    with pytest.raises(UsageError, match="another plan"):
        distillation(replace(SMALL, steps=3)).go(checkpoint, lambda step: None)


def test_the_loss_is_zero_for_the_targets_own_answer_and_sees_direction_and_value() -> None:
    torch.manual_seed(0)
    target = [torch.rand(2, 8, 6, 6) for _ in range(3)]
    assert float(distil.loss(target, target, 0.5)) == pytest.approx(0, abs=1e-5)
    louder = [2 * one for one in target]
    assert float(distil.loss(louder, target, 0.5)) == pytest.approx(3 * 0.5, abs=1e-4)
    assert float(distil.loss(louder, target, 0.0)) == pytest.approx(0, abs=1e-5)
    turned = [one.flip(1) for one in target]
    assert float(distil.loss(turned, target, 0.0)) > 0.3


def test_a_step_shows_the_same_pictures_again_and_held_out_ones_never() -> None:
    batches = [distil.shown(PLAN, step, PANELS) for step in range(12)]
    assert all(torch.equal(batch, distil.shown(PLAN, step, PANELS)) for step, batch in enumerate(batches))
    assert not torch.equal(batches[0], distil.shown(replace(PLAN, seed=6), 0, PANELS))
    assert {batch.shape[2] for batch in batches} == {side for side, *_ in distil.BATCHES}
    held_out = distil.held_out(PLAN, PANELS, 6)["drawn"]
    large = torch.cat([batch for batch in batches if batch.shape[2] == held_out.shape[2]])
    assert torch.cdist(large.flatten(1), held_out.flatten(1)).min() > 1


def test_similarity_tells_what_all_pictures_share_from_what_is_known_of_each_place() -> None:
    class Fixed(torch.nn.Module):
        def __init__(self, change: float) -> None:
            super().__init__()
            self.change = change

        def forward(self, x: "Tensor") -> list["Tensor"]:
            return [5 + x + self.change * torch.randn_like(x)]

    batch = torch.randn(4, 16, 8, 8)
    ((same, centred),) = distil.similarity(Fixed(0), Fixed(0), batch)
    assert same == pytest.approx(1, abs=1e-5) and centred == pytest.approx(1, abs=1e-5)
    ((near, nothing),) = distil.similarity(Fixed(3), Fixed(0), batch - batch.mean(0))
    assert near > 0.7 and nothing < 0.6


def test_the_file_holds_the_student_in_less_than_five_megabytes(tmp_path: Path) -> None:
    student = Imitation()
    digest = distil.write(student, tmp_path / "takt.safetensors")
    assert digest == sha256_of(tmp_path / "takt.safetensors")
    assert (tmp_path / "takt.safetensors").stat().st_size < 5_000_000
    kept = load_file(tmp_path / "takt.safetensors")
    for name, value in student.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(kept[name].float(), value, rtol=1e-3, atol=1e-6)
