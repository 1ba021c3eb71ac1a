"""Good panels -> recipe. The only place where the line's networks are trained; needs the extra [teach].

Limits come from cross-fitted scores: the good panels are parted into folds, each fold is scored by a network that was
taught from the others, which saw each of them as often as the recipe's network, taught from all, does. Every fold is
scored on the production path, exported and in `engines.detector`. Levels that a method leaves to teaching are chosen
before the folds.
"""

import hashlib
import json
import resource
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calibration import crops, levels, tiling
from calibration.export import export, prove
from calibration.fit import Checkpoint, fit
from calibration.folds import kept_back_of
from calibration.material import Defective, Material
from calibration.panels import PanelSet
from calibration.seal import Draft, Finished, Scored, finish, scored
from calibration.stack import Stack, Tell, read_good, read_labelled
from calibration.tiling import Tiling
from engines import methods, recipe
from engines.errors import UsageError
from engines.methods import MethodSettings
from engines.recipe import Promise, Recipe, Resize, Tiles, Training
from engines.zones import Part

WORK = "work"  # checkpoints and the scores of finished folds, inside the unfinished recipe
DEFAULT_PROMISE = Promise(rate=0.01, confidence=0.95)
DEFAULT_FOLDS = 3


@dataclass(frozen=True)
class Request:
    """What to teach.

    `folds`: into how many parts the good panels go for cross-fitting; costs as many trainings besides the last.
    `hold_out_every`: instead of that, every so many-th good panel is kept from training for the limits. Both
    count specimens, where `set.toml` tells which image sets are of one.
    `tiles`: at the panels' own resolution, in tiles, see `calibration.tiling.planned`; None: resized as a whole.
    """

    panels: PanelSet
    out: Path
    method: str = methods.PRODUCTION
    settings: dict[str, Any] = field(default_factory=dict)
    teacher_weights: Path | None = None
    seed: int = 0
    folds: int = DEFAULT_FOLDS
    hold_out_every: int | None = None
    promise: Promise = DEFAULT_PROMISE
    tiles: str | None = None


@dataclass(frozen=True)
class Taught:
    """What came of it. `parity` is the largest difference of scores, PyTorch against ONNX Runtime."""

    recipe: Recipe
    seconds: float
    peak_memory_mb: float
    parity: float
    finished: Finished
    tiling: str | None  # what tiles cost, where there are any


def teach(request: Request, tell: Tell = lambda phase, done, total: None) -> Taught:
    """Teach a recipe from the good panels of a set and write it to `request.out`.

    What is interrupted goes on from its last checkpoint when asked for the same again.

    Raises:
        PanelError: the set is unreadable or too small.
        UsageError: the settings or weights cannot be used, `out` is taken, or the training went astray.
        EngineError: the exported network does not answer as the taught one.
    """
    started = time.monotonic()
    place = _place(request.out)
    lesson = _with_levels(_prepared(place, request, tell))
    parity, finished = _teach_into(place, lesson)
    place.rename(request.out)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    said = lesson.tiling.said() if lesson.tiling else None
    return Taught(recipe.load(request.out), time.monotonic() - started, memory, parity, finished, said)


@dataclass(frozen=True, eq=False)
class Lesson:
    """A request with everything read that it names."""

    request: Request
    method: Any
    settings: MethodSettings
    geometry: Resize | Tiles
    material: Material
    work: Path
    tell: Tell
    choice: levels.Choice | None = None
    tiling: Tiling | None = None

    @property
    def panels(self) -> Stack:
        """The good panels as they are scored; where there are tiles, what is learnt from are crops of them."""
        return self.tiling.panels if self.tiling else self.material.good

    @property
    def final(self) -> MethodSettings:
        """Those of the recipe's network."""
        return self.settings.sized(self.geometry.height, self.geometry.width) if self.tiling else self.settings

    def without(self, kept_back: NDArray[np.bool_]) -> Material:
        """What is left to learn from without the panels where `kept_back` [n] is true."""
        if not kept_back.any():
            return self.material
        return self.material.without(self.tiling.crops_of(kept_back) if self.tiling else kept_back)

    def untaught(self) -> tuple[Any, tuple[str, str]]:
        """A fresh model with its teacher, and that one's name and SHA-256."""
        torch.manual_seed(self.request.seed)
        model = self.method.build(len(self.request.panels.channels), self.settings)
        return model, self.method.load_teacher(model, self.request.teacher_weights)


def _prepared(place: Path, request: Request, tell: Tell) -> Lesson:
    method = methods.load(request.method)
    settings = methods.settled(method, methods.settings_of(method, request.settings), request.teacher_weights)
    lesson = (_whole if request.tiles is None else _tiled)(request, method, settings, place / WORK, tell)
    model, teacher = lesson.untaught()  # a missing weight file is found before anything is kept or lost
    if request.panels.facts.zones and not methods.score_rule(model):
        raise UsageError(
            f"set.toml: zones need a score that follows from the map; {request.method} with these settings has none"
        )
    kept_back_of(lesson.panels.numbers(), request.folds, request.hold_out_every)
    _same_or_anew(lesson.work, _name_of(lesson, teacher))
    return lesson


def _whole(request: Request, method: Any, settings: MethodSettings, work: Path, tell: Tell) -> Lesson:
    """Of panels that are resized as a whole."""
    geometry = Resize(height=settings.height, width=settings.width)
    good = read_good(request.panels, geometry, tell)
    labelled = read_labelled(request.panels, geometry)
    material = Material(good, request.panels.channels, request.seed, Defective(*labelled) if labelled else None)
    return Lesson(request, method, settings, geometry, material, work, tell)


def _tiled(request: Request, method: Any, settings: MethodSettings, work: Path, tell: Tell) -> Lesson:
    """Of panels in tiles; the settings' height and width are those of the crops that are learnt from."""
    if request.settings.get("position_correction"):
        raise UsageError("position_correction: crops of a panel lie anywhere in it: leave it out, or --tiles")
    settings = settings.sized(settings.height, settings.width)
    model = method.build(len(request.panels.channels), settings)
    found = tiling.prepared(
        request.panels, request.method, settings, model, request.tiles or "auto", request.seed, tell
    )
    tell(found.said(), 0, 1)
    labelled = crops.labelled(request.panels, settings, request.seed)
    material = Material(found.crops, request.panels.channels, request.seed, Defective(*labelled) if labelled else None)
    return Lesson(request, method, settings, found.geometry, material, work, tell, tiling=found)


def _with_levels(lesson: Lesson) -> Lesson:
    """The lesson with the levels chosen that its settings leave to teaching."""
    there = methods.candidates(lesson.method, lesson.settings)
    if not there:
        return lesson
    request, material = lesson.request, lesson.material
    if request.hold_out_every is not None:
        material = lesson.without(kept_back_of(lesson.panels.numbers(), 2, request.hold_out_every)[0])
    place = (request.teacher_weights, lesson.work)
    choice = levels.chosen(lesson.method, lesson.settings, there, material, *place, lesson.tell)
    return replace(lesson, settings=lesson.method.with_levels(lesson.settings, choice.levels), choice=choice)


def _teach_into(folder: Path, lesson: Lesson) -> tuple[float, Finished]:
    request = lesson.request
    kept_back = kept_back_of(lesson.panels.numbers(), request.folds, request.hold_out_every)
    crossed = request.hold_out_every is None
    folds = [_fold(lesson, number, mask, len(kept_back)) for number, mask in enumerate(kept_back)] if crossed else []
    draft, parity = _drafted(lesson, folder, np.zeros_like(kept_back[0]) if crossed else kept_back[0], "network")
    shutil.rmtree(lesson.work)
    return parity, finish(draft, _joined(folds, lesson, draft, kept_back), request.promise, lesson.tell)


def _joined(folds: list[Scored], lesson: Lesson, draft: Draft, kept_back: Sequence[NDArray[np.bool_]]) -> Scored:
    """The scores that set the limits, in the panels' order."""
    good = lesson.panels
    if not folds:
        return scored(draft, good.part(kept_back[0]), lesson.tell, "scoring")
    order = np.argsort(np.concatenate([np.flatnonzero(mask) for mask in kept_back]))
    parts = zip(*((one.scores, one.maps, one.weights) for one in folds), strict=True)
    return Scored(good, *(np.concatenate(part)[order] for part in parts))


def _fold(lesson: Lesson, number: int, kept_back: NDArray[np.bool_], count: int) -> Scored:
    """The panels of one fold, scored by a network that was taught from the others."""
    known, title = lesson.work / f"fold{number}.npz", f"fold {number + 1} of {count}"
    part = lesson.panels.part(kept_back)
    if known.is_file():
        with np.load(known) as kept:
            return Scored(part, kept["scores"], kept["maps"], kept["weights"])
    folder = lesson.work / "fold"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    found = scored(_drafted(lesson, folder, kept_back, title)[0], part, lesson.tell, f"{title}: scoring")
    _write_whole(known, found)
    return found


def _drafted(lesson: Lesson, folder: Path, kept_back: NDArray[np.bool_], title: str) -> tuple[Draft, float]:
    """The recipe of a network taught without some panels, in `folder`, and by how much its export differs."""
    model, teacher, losses = _taught(lesson, kept_back, title)
    if lesson.tiling:
        lesson.tell(f"{title}: fitting outputs", 0, 1)
        model = lesson.tiling.at_tiles(lesson.method, lesson.final, model, ~kept_back)
    lesson.tell(f"{title}: exporting", 0, 1)
    example = lesson.tiling.example() if lesson.tiling else lesson.without(kept_back).good
    export(model, example, folder)
    parity = prove(lesson.method.build(len(lesson.material.channels), lesson.final), example, folder)
    facts = _training(lesson, model, int((~kept_back).sum()), int(kept_back.sum()), teacher, losses)
    draft = _draft(lesson, folder, facts, losses, methods.score_rule(model))
    if lesson.tiling:
        draft = _weighed(lesson, draft, lesson.tiling.honest(model, ~kept_back), title)
    return draft, parity


def _weighed(lesson: Lesson, draft: Draft, panels: NDArray[np.bool_], title: str) -> Draft:
    """The draft with its rule for whole panels, weighed by some of `panels`."""
    assert isinstance(lesson.geometry, Tiles)
    asked = np.flatnonzero(panels)
    some = np.zeros_like(panels)
    some[asked[np.unique(np.linspace(0, len(asked) - 1, tiling.WEIGHING).round().astype(int))]] = True
    seen = scored(draft, lesson.panels.part(some), lesson.tell, f"{title}: weighing")
    return replace(draft, rule=tiling.rule_of(draft.rule, seen.maps, lesson.geometry))


def _write_whole(path: Path, found: Scored) -> None:
    part = path.with_suffix(".part.npz")
    np.savez(part, scores=found.scores, maps=found.maps, weights=found.weights)
    part.replace(path)


def _taught(lesson: Lesson, kept_back: NDArray[np.bool_], title: str) -> tuple[Any, tuple[str, str], list[float]]:
    model, teacher = lesson.untaught()
    unseen = lesson.tiling.unseen(model, ~kept_back) if lesson.tiling else False
    material = lesson.without(kept_back | unseen)
    checkpoint = Checkpoint(lesson.work / f"{title.replace(' ', '_')}.pt")

    def tell(stage: str, done: int, total: int) -> None:
        lesson.tell(f"{title}: {stage}", done, total)

    outputs = lesson.tiling is None  # else they are fitted on tiles
    share = 1.0 if lesson.request.hold_out_every else float((~kept_back).mean())
    return model, teacher, fit(model, material, lesson.settings.schedule, checkpoint, tell, outputs, share)


def _draft(lesson: Lesson, folder: Path, facts: Training, losses: Sequence[float], rule: tuple[Part, ...]) -> Draft:
    request, plain = lesson.request, lesson.final.model_dump(mode="json")
    more = (levels.section(lesson.choice),) if lesson.choice else ()
    return Draft(folder, request.panels, request.method, plain, lesson.geometry, facts, losses, rule, more)


def _training(
    lesson: Lesson, model: Any, panels: int, held_out: int, teacher: tuple[str, str], losses: Sequence[float]
) -> Training:
    request, defective = lesson.request, lesson.material.defective
    seen = f"{len(defective.frames)} labelled panels" if defective else "synthetic"
    facts = {"loss": round(float(np.mean(losses[-20:])), 6), "steps": len(losses), "torch": str(torch.__version__)}
    limits = f"cross-fitted in {request.folds} folds" if request.hold_out_every is None else "held-out panels"
    shown = {"defects": seen} if lesson.method.needs_defects else {}
    shown |= {"level_choice": lesson.choice.said()} if lesson.choice else {}
    shown |= lesson.tiling.facts() if lesson.tiling else {}
    shown |= {"specimens": len(set(lesson.panels.specimens))} if lesson.panels.specimens else {}
    return Training(
        panels=panels,
        held_out=held_out,
        seed=request.seed,
        teacher=teacher[0],
        teacher_sha256=teacher[1],
        facts={**model.training_facts, **shown, "limits": limits, **facts},
    )


def _place(out: Path) -> Path:
    """Where the recipe is made until it is whole; what an interrupted run left there stays.

    Raises:
        UsageError: `out` exists already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already; a recipe is never overwritten: give another --out")
    if out.exists():
        out.rmdir()
    return out.parent / f".{out.name}.partial"


def _same_or_anew(work: Path, name: str) -> None:
    """Keep what an interrupted run of the same lesson left, and nothing else."""
    stamp = work / "lesson"
    if stamp.is_file() and stamp.read_text() == name:
        return
    shutil.rmtree(work.parent, ignore_errors=True)
    work.mkdir(parents=True)
    stamp.write_text(name)


def _name_of(lesson: Lesson, teacher: tuple[str, str]) -> str:
    """Everything that the numbers follow from, as a hash."""
    request, material = lesson.request, lesson.material
    plain = [request.method, *teacher, lesson.settings.model_dump(mode="json"), request.seed, request.folds]
    plain += [lesson.geometry.model_dump(mode="json"), lesson.tiling.digest] if lesson.tiling else []
    plain += [lesson.panels.specimens] if lesson.panels.specimens else []
    text = json.dumps([*plain, request.hold_out_every, material.channels, material.good.names, torch.__version__])
    parts = [text.encode(), material.good.frames.data]
    if material.defective is not None:
        parts += [material.defective.frames.data, material.defective.masks.data]
    name = hashlib.blake2s()
    for part in parts:
        name.update(part)
    return name.hexdigest()
