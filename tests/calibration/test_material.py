"""Panels with defects that come again: each as often as any other, always the same, asked about once."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

from torch import Tensor  # noqa: E402

from calibration import material  # noqa: E402
from calibration.material import Course, DefectsAgain, GoodPanels, Material, batches  # noqa: E402
from calibration.stack import Stack  # noqa: E402
from engines.methods import Schedule, Stage  # noqa: E402

CHANNELS = ("dark_left", "bright")
SCHEDULE = Schedule(image_passes=48, batch=4)


def good() -> Material:
    frames = np.random.default_rng(0).integers(60, 120, (6, 2, 64, 64), dtype=np.uint8)
    return Material(Stack(frames, tuple("abcdef"), 16), CHANNELS, 7)


def again(asked: list[int], variety: int = 12) -> DefectsAgain:
    def targets(batch: Tensor) -> list[Tensor]:
        asked.append(len(batch))
        return [batch.mean((2, 3)), batch[:, :, ::8, ::8]]

    stage = Stage("s", 96, (), lambda *_: torch.zeros(()), True, targets, 0.5, variety=variety)
    found = batches(good(), stage, Course(good(), stage, SCHEDULE))
    assert isinstance(found, DefectsAgain)
    return found


def test_every_panel_comes_once_before_any_comes_again_and_never_in_the_same_order() -> None:
    course = Course(good(), Stage("s", 96, (), lambda *_: torch.zeros(()), True), SCHEDULE)
    rounds = [[number for step in range(at, at + 3) for number in course.again(step, 12)] for at in (0, 3, 6)]
    assert all(sorted(one) == list(range(12)) for one in rounds)
    assert rounds[0] != rounds[1] != rounds[2]


def test_what_is_known_of_a_panel_is_asked_once_and_belongs_to_it() -> None:
    asked: list[int] = []
    shown = again(asked)
    for step in range(9):
        batch = shown.batch(step)
        assert batch.targets is not None and batch.masks is not None
        assert torch.allclose(batch.targets[0], batch.panels.mean((2, 3)), atol=1e-3)
        assert torch.allclose(batch.targets[1], batch.panels[:, :, ::8, ::8], atol=1e-3)
    assert sum(asked) == 12


def test_a_step_shows_the_same_whatever_was_shown_before() -> None:
    one, other = again([]), again([])
    for step in range(5):
        one.batch(step)
    first, second = one.batch(5), other.batch(5)
    assert torch.equal(first.panels, second.panels) and first.names == second.names
    assert first.masks is not None and second.masks is not None and torch.equal(first.masks, second.masks)


def test_most_panels_have_a_defect_and_some_lost_a_channel() -> None:
    shown = again([], variety=64)
    seen = [shown.batch(step) for step in range(16)]
    masks = torch.cat([batch.masks for batch in seen if batch.masks is not None])
    dark = torch.cat([batch.panels for batch in seen]).amax((2, 3)) == 0
    assert 0.5 < float(masks.any(2).any(1).float().mean()) < 0.95
    assert 0.3 < float(dark.any(1).float().mean()) < 0.7


def test_fewer_panels_come_again_where_memory_holds_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "LEAST_VARIETY", 4)
    monkeypatch.setattr(material, "CACHE_BYTES", 100_000)
    asked: list[int] = []
    shown = again(asked, variety=1000)
    for step in range(20):
        shown.batch(step)
    assert 4 <= sum(asked) < 20


def test_panels_that_memory_does_not_hold_are_drawn_again_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, asked = again([]), [0]
    monkeypatch.setattr(material, "CACHE_BYTES", 0)
    poor = again(asked)
    for step in range(6):
        assert torch.equal(whole.batch(step).panels, poor.batch(step).panels)
    assert sum(asked) == 1 + 6 * 4


def test_a_defect_that_shows_in_the_lost_channel_alone_leaves_no_mask() -> None:
    flat = Material(Stack(np.full((1, 2, 64, 64), 120, np.uint8), ("a",), 16), CHANNELS, 7, kinds=("dent",))
    marks = dict.fromkeys((None, 0, 1), 0)
    for seed in range(30):
        for lost in marks:
            row = material.Shown(0, 0, lost)
            _, masks = material.with_defects(flat, [row], np.random.default_rng(seed))
            marks[lost] += bool(masks.any())
    assert marks[None] > min(marks[0], marks[1])


def test_stages_without_defects_are_shown_good_panels() -> None:
    stage = Stage("s", 8, (), lambda *_: torch.zeros(()))
    batch = batches(good(), stage, Course(good(), stage, SCHEDULE)).batch(0)
    assert isinstance(batches(good(), stage, Course(good(), stage, SCHEDULE)), GoodPanels)
    assert batch.masks is None and batch.targets is None


def of_panels(count: int) -> Material:
    frames = np.zeros((count, 2, 8, 8), np.uint8)
    return Material(Stack(frames, tuple(f"p{n}" for n in range(count)), 8), CHANNELS, 0)


@pytest.mark.parametrize(("count", "unseen"), [(24, 4), (38, 4), (53, 6), (80, 10)])
def test_every_panel_either_trains_or_is_kept_for_the_output(count: int, unseen: int) -> None:
    taught, kept = of_panels(count).parted()
    assert kept is not None and len(kept.good.names) == unseen
    assert sorted(taught.good.names + kept.good.names) == sorted(of_panels(count).good.names)


def test_of_few_panels_all_train() -> None:
    taught, kept = of_panels(23).parted()
    assert kept is None and len(taught.good.names) == 23
