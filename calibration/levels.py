"""Which levels of its teachers a method compares, chosen on good panels kept back, against synthetic defects on them.

Every level is first taught shortly, alone or with the others, from three quarters of the good panels. Asked are the
other panels, each as it is and with synthetic defects; the figure is the image AUROC. The best level is taken, then
again and again the one that adds most, while it adds more than one standard error of that gain; the shallower of two
that are equal. Levels are tried together on the maps of those students, so that nothing is taught anew for it.

No test panel is read. The choice has seen the panels that later set the limits, as one of few; it has not seen those
that are held out by `hold_out_every`. Zones do not count here. Needs the extra [teach].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor

from calibration import anomalies, pages
from calibration.fit import Checkpoint, fit
from calibration.material import Material
from calibration.specimens import different
from calibration.stack import Tell, floats
from engines.methods import MethodSettings

KEPT_BACK, MOST_ASKED, ROUNDS = 4, 40, 4  # every fourth panel, at most so many, each with so many defects

Scores = NDArray[np.float64]  # [panels, 1 + rounds]: of each panel as it is, then with its defects


@dataclass(frozen=True)
class Tried:
    """`levels` together: image AUROC, what the last of them added, and the standard error of that."""

    levels: tuple[str, ...]
    auroc: float
    gain: float
    error: float
    taken: bool


@dataclass(frozen=True)
class Choice:
    """The levels taken, in the order in which they were, and everything that was tried."""

    levels: tuple[str, ...]
    tried: tuple[Tried, ...]

    def said(self) -> str:
        """One line: each level alone, and what was added."""
        alone = ", ".join(f"{one.levels[0]} {one.auroc:.3f}" for one in self.tried if len(one.levels) == 1)
        more = (f"+{one.levels[-1]} {one.gain:+.3f} ({one.error:.3f})" for one in self._added())
        return "; ".join([alone, *more])

    def _added(self) -> list[Tried]:
        return [one for one in self.tried if one.taken and len(one.levels) > 1]


@dataclass(frozen=True, eq=False)
class Trial:
    """What every candidate is taught from and asked, `asked` [panels, 1 + rounds, C, h, w], and where it may work."""

    method: Any
    settings: MethodSettings
    material: Material
    asked: NDArray
    weights: Path | None
    work: Path


def choose(candidates: Sequence[str], scores: Callable[[tuple[str, ...]], Scores]) -> Choice:
    """Greedily, from `candidates`, the shallowest first; `scores` of any of them together."""
    alone = {level: scores((level,)) for level in candidates}
    first = max(candidates, key=lambda level: auroc(alone[level]))  # of equal ones the first
    told = [Tried((level,), auroc(alone[level]), 0.0, 0.0, level == first) for level in candidates]
    chosen, best = (first,), alone[first]
    while rest := [level for level in candidates if level not in chosen]:
        found = {level: scores((*chosen, level)) for level in rest}
        next_one = max(rest, key=lambda level: auroc(found[level]))
        steps = [_step(chosen, level, found[level], best, level == next_one) for level in rest]
        told += steps
        if not any(step.taken for step in steps):
            break
        chosen, best = (*chosen, next_one), found[next_one]
    return Choice(chosen, tuple(told))


def _step(chosen: tuple[str, ...], level: str, found: Scores, best: Scores, adds_most: bool) -> Tried:
    gain, error = gained(found, best)
    return Tried((*chosen, level), auroc(found), gain, error, adds_most and gain > error)


def auroc(scores: Scores) -> float:
    """Probability that a panel with a defect scores above one without, ties half."""
    return float(_wins(scores).mean())


def gained(scores: Scores, others: Scores) -> tuple[float, float]:
    """By how much the AUROC of `scores` is above that of `others`, and its standard error.

    The error is the jackknife's over panels, each left out with all its defects; infinite for fewer than three.
    """
    wins, count = _wins(scores) - _wins(others), len(scores)
    if count < 3:
        return float(wins.mean()), float("inf")
    without = (wins.sum() - wins.sum(0) - wins.sum(1) + np.diagonal(wins)) / (count - 1) ** 2
    return float(wins.mean()), float(np.sqrt((count - 1) * without.var()))


def _wins(scores: Scores) -> NDArray[np.float64]:
    """[panels, panels]: the share of the row's defective panels above the column's good one."""
    good, defective = scores[None, None, :, 0], scores[:, 1:, None]
    return ((defective > good) + 0.5 * (defective == good)).mean(1)


def chosen(
    method: Any,
    settings: MethodSettings,
    candidates: Sequence[str],
    material: Material,
    weights: Path | None,
    work: Path,
    tell: Tell,
) -> Choice:
    """The levels for this material. What was found is kept in the folder `work`, as are levels taught until then.

    Raises:
        UsageError: weights are missing, or a training went astray.
    """
    known, adapter = work / "levels.json", TypeAdapter(Choice)
    if known.is_file():
        return adapter.validate_json(known.read_bytes())
    trial = _trial(method, settings, material, weights, work)
    maps: dict[str, tuple[Tensor, Tensor]] = {}
    lessons = method.trials(settings, candidates)
    for number, lesson in enumerate(lessons, 1):
        title = f"levels, {' '.join(map(str, lesson.levels))} ({number} of {len(lessons)})"
        maps |= _maps(trial, lesson, number, lambda stage, done, total, title=title: tell(title, done, total))
    found = choose(candidates, lambda levels: _scores(trial, levels, maps))
    part = known.with_suffix(".part")
    part.write_bytes(adapter.dump_json(found))
    part.replace(known)
    for number in range(1, len(lessons) + 1):
        _checkpoint(work, number).path.unlink()
    return found


def _trial(method: Any, settings: MethodSettings, material: Material, weights: Path | None, work: Path) -> Trial:
    numbers = material.good.numbers()
    every = min(max(KEPT_BACK, -(-len(numbers) // MOST_ASKED)), different(numbers))
    kept_back = numbers % every == every - 1
    rng = np.random.default_rng((material.seed, 0))
    rows = [_asked(frames, rng, material.channels) for frames in material.good.frames[kept_back]]
    return Trial(method, settings, material.without(kept_back), np.stack(rows), weights, work)


def _asked(frames: NDArray, rng: np.random.Generator, channels: Sequence[str]) -> NDArray:
    drawn = (anomalies.draw(frames, rng, channels=channels).frames for _ in range(ROUNDS))
    return np.stack([frames, *drawn])


def _maps(trial: Trial, lesson: Any, number: int, tell: Tell) -> dict[str, tuple[Tensor, Tensor]]:
    """Of each level of a lesson: of the panels it was taught from [n, 1, h, w], of those asked [m, 1, h, w]."""
    torch.manual_seed(trial.material.seed)
    model = trial.method.build(len(trial.material.channels), lesson)
    trial.method.load_teacher(model, trial.weights)
    fit(model, trial.material, lesson.schedule, _checkpoint(trial.work, number), tell)
    asked = trial.asked.reshape(-1, *trial.asked.shape[2:])
    with torch.no_grad():
        taught = torch.cat([model.level_maps(batch) for batch in trial.material.batches()])
        answers = (model.level_maps(torch.from_numpy(floats(asked[at : at + 8]))) for at in range(0, len(asked), 8))
        found = torch.cat(list(answers))
    return {str(level): (taught[:, [at]], found[:, [at]]) for at, level in enumerate(lesson.levels)}


def _checkpoint(work: Path, number: int) -> Checkpoint:
    return Checkpoint(work / f"levels_{number}.pt")


def _scores(trial: Trial, levels: Sequence[str], maps: dict[str, tuple[Tensor, Tensor]]) -> Scores:
    settings = trial.method.with_levels(trial.settings, levels)
    fusion = trial.method.fusion(settings)
    taught, asked = (torch.cat([maps[str(level)][part] for level in settings.levels], 1) for part in (0, 1))
    fusion.fit_output(lambda: [taught])
    with torch.no_grad():
        return fusion(asked)[1].double().numpy().reshape(trial.asked.shape[:2])


def section(found: Choice) -> str:
    """The table for the recipe's report."""
    rows = [
        (
            " + ".join(one.levels),
            f"{one.auroc:.4f}",
            f"{one.gain:+.4f}" if len(one.levels) > 1 else "",
            f"{one.error:.4f}" if len(one.levels) > 1 else "",
            "taken" if one.taken else "",
        )
        for one in found.tried
    ]
    heads = ("levels", "image AUROC", "gain", "its standard error", "")
    text = (
        "Each level was taught shortly; asked were good panels kept back, with and without synthetic defects. A"
        " level is added while it gains more than one standard error."
    )
    return pages.section("Levels compared", pages.table(heads, rows), pages.words(text, "dim"))
