"""The training loop: the same numbers whether it was interrupted or not, and a clear end where it goes astray."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

if TYPE_CHECKING:
    from torch import Tensor

from calibration.fit import Checkpoint, fit  # noqa: E402
from calibration.material import Course, Defective, Material, with_defects  # noqa: E402
from calibration.stack import Stack  # noqa: E402
from engines.blend import Batches  # noqa: E402
from engines.errors import UsageError  # noqa: E402
from engines.methods import Schedule, Stage, mcd  # noqa: E402

CHANNELS = ("dark_left", "dark_right", "bright")
SCHEDULE = Schedule(image_passes=48, batch=4)
SETTINGS = mcd.Settings(height=64, width=64, teacher="takt", student_width=4, contrast_passes=24, schedule=SCHEDULE)


class PowerCutError(Exception):
    """The power went."""


def material(seed: int = 0, defective: Defective | None = None) -> Material:
    frames = np.random.default_rng(seed).integers(60, 120, (10, 3, 64, 64), dtype=np.uint8)
    return Material(Stack(frames, tuple(f"p{n}" for n in range(10)), 16), CHANNELS, seed, defective)


def taught(checkpoint: Checkpoint, cut: tuple[str, int] | None = None) -> tuple[dict, list[float]]:
    """The taught weights; the run is cut at a step of a stage."""
    torch.manual_seed(3)
    model = mcd.build(3, SETTINGS)

    def tell(stage: str, done: int, total: int) -> None:
        if cut == (stage, done):
            raise PowerCutError

    losses = fit(model, material(), SCHEDULE, checkpoint, tell)
    return model.state_dict(), losses


@pytest.mark.parametrize("cut", [("student", 2), ("contrast", 0), ("contrast", 4)])
def test_an_interrupted_training_ends_with_the_same_numbers(tmp_path: Path, cut: tuple[str, int]) -> None:
    whole, losses = taught(Checkpoint(tmp_path / "whole.pt"))
    checkpoint = Checkpoint(tmp_path / "cut.pt", every_s=0)
    with pytest.raises(PowerCutError):
        taught(checkpoint, cut)
    steps: list[tuple[str, int]] = []
    torch.manual_seed(3)
    model = mcd.build(3, SETTINGS)
    again = fit(model, material(), SCHEDULE, checkpoint, lambda stage, done, total: steps.append((stage, done)))
    assert steps[0] == cut
    assert again == pytest.approx(losses, rel=1e-5)
    for name, value in model.state_dict().items():
        assert torch.allclose(value.float(), whole[name].float(), atol=2e-3), name


def test_a_training_that_goes_astray_names_step_panels_and_cause(tmp_path: Path) -> None:
    wild = SCHEDULE.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(UsageError, match=r"stopped at step \d+: .*lower schedule.learning_rate \(panels p\d"):
        fit(mcd.build(3, SETTINGS), material(), wild, Checkpoint(tmp_path / "c.pt"), lambda *_: None)


class Keeper(torch.nn.Module):
    """Learns a number, and notes which panels it saw for what."""

    keeps_unseen = True

    def __init__(self) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(()))
        self.training_facts: dict[str, int] = {}
        self.trained: set[int] = set()

    def fit_input(self, batches: Batches) -> None:
        self.seen = _marks(batches())

    def stages(self) -> Iterator[Stage]:
        yield Stage("number", 96, [self.number], self.loss)

    def loss(self, batch: "Tensor", mask: object, targets: object) -> "Tensor":
        self.trained |= _marks([batch])
        return (self.number - 1).square()

    def fit_output(self, batches: Batches, unseen: Batches) -> None:
        self.good, self.unseen = _marks(batches()), _marks(unseen())


def _marks(batches: "Iterable[Tensor]") -> set[int]:
    """The panels, by their level of grey."""
    return {round(255 * float(panel.mean())) for batch in batches for panel in batch}


def test_what_is_kept_for_the_output_trains_nothing(tmp_path: Path) -> None:
    frames = np.repeat(np.arange(32, dtype=np.uint8), 64).reshape(32, 1, 8, 8)
    good = Material(Stack(frames, tuple(map(str, range(32))), 8), ("grey",), 0)
    model = Keeper()
    fit(model, good, SCHEDULE, Checkpoint(tmp_path / "c.pt"), lambda *_: None)
    assert model.unseen == {7, 15, 23, 31} and model.trained == set(range(32)) - model.unseen
    assert model.good == model.seen == set(range(32))
    assert model.training_facts == {"panels_kept_for_output": 4}


def test_a_part_of_the_panels_is_shown_as_often_as_it_would_be_among_all(tmp_path: Path) -> None:
    steps = {}
    for share in (1.0, 2 / 3):
        model, path = Keeper(), tmp_path / f"{share}.pt"
        steps[share] = len(fit(model, material(), SCHEDULE, Checkpoint(path), lambda *_: None, False, share))
    assert steps == {1.0: 24, 2 / 3: 16}


def test_a_part_of_the_defects_comes_again_as_often() -> None:
    whole = Stage("s", 48, (), lambda *_: torch.zeros(()), True, variety=12)
    part = whole.part(0.5)
    assert (part.image_passes, part.variety) == (24, 6)
    assert Stage("s", 48, (), lambda *_: torch.zeros(())).part(0.5).variety is None


def course(**stage: object) -> Course:
    return Course(material(), Stage("s", 40, (), lambda *_: torch.zeros(()), **stage), SCHEDULE)  # type: ignore[arg-type]


def test_every_panel_is_shown_once_before_any_twice() -> None:
    rows = [row.index for step in range(10) for row in course().rows(step, course().rng(step))]
    assert all(sorted(rows[at : at + 10]) == list(range(10)) for at in range(0, 40, 10))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_channels_are_lost_as_often_as_asked(share: float) -> None:
    wanted = course(channel_dropout=share)
    rows = [row for step in range(200) for row in wanted.rows(step, wanted.rng(step))]
    lost = [row.lost for row in rows if row.lost is not None]
    assert len(lost) == pytest.approx(share * len(rows), abs=0.08 * len(rows))
    assert set(lost) <= {0, 1, 2}
    assert share == 0 or set(lost) == {0, 1, 2}


def test_a_lost_channel_is_dark_and_the_others_stay() -> None:
    wanted = course(channel_dropout=1.0)
    rng = wanted.rng(0)
    rows = wanted.rows(0, rng)
    batch, _ = with_defects(material(), rows, rng)
    for panel, row in zip(batch, rows, strict=True):
        dark = [not bool(channel.any()) for channel in panel]
        assert dark == [number == row.lost for number in range(3)]


def test_labelled_defects_are_shown_instead_of_synthetic_ones() -> None:
    marked = np.zeros((1, 64, 64), bool)
    marked[0, 5:9, 20:30] = True
    known = material(defective=Defective(np.full((1, 3, 64, 64), 255, np.uint8), marked))
    rows = course().rows(0, course().rng(0))
    shown = [with_defects(known, rows, np.random.default_rng(seed)) for seed in range(10)]
    masks = torch.cat([masks for _, masks in shown])
    batch = torch.cat([batch for batch, _ in shown])
    assert {int(mask.sum()) for mask in masks} == {0, 40}
    assert all(bool((panel == 1).all()) == bool(mask.any()) for panel, mask in zip(batch, masks, strict=True))
