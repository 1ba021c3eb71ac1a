"""Other limits for a taught recipe: no network changes, nothing is exported, and the copy has another name."""

from dataclasses import dataclass
from pathlib import Path

from calibration import report, scores
from calibration.limits import panels_above, promise_of
from calibration.reseal import refuse_taken, resealed
from calibration.scores import Scores
from calibration.specimens import counted, highest_of
from engines.errors import UsageError
from engines.recipe import Limits, Promise, Recipe, Training
from engines.scoring import Scoring
from engines.zones import Zones

LEFT_OUT = "left_out_of_limits"


@dataclass(frozen=True)
class Wish:
    """What to change; None leaves as it is. `promise` or `image`, not both; `min_area_mm2` or `min_area_px`."""

    promise: Promise | None = None
    image: float | None = None
    pixel: float | None = None
    min_area_px: float | None = None
    min_area_mm2: float | None = None
    zones: Zones | None = None
    everywhere: bool = False  # take the zones away
    without: tuple[str, ...] = ()  # panels that were taken for good ones and are none


@dataclass(frozen=True)
class Relimited:
    """The new recipe, and what the wish could not be given or costs, a line each."""

    recipe: Recipe
    remarks: tuple[str, ...]


def relimit(old: Recipe, wish: Wish, out: Path) -> Relimited:
    """A copy of `old` at `out` with the limits of `wish`, set from the scores that the recipe keeps.

    Raises:
        UsageError: `out` is taken, the wish contradicts itself, or every golden defect would pass.
        RecipeError: the recipe keeps no scores, or has no rule for a score within zones.
        PanelError: the scores allow no limit.
    """
    refuse_taken(out)
    _check(wish)
    left = scores.read(old).without(wish.without) if wish.without else None
    limits, remark = _limits(old, wish, left)
    area = _min_area_px(old, wish)
    limits = limits.model_copy(update={} if area is None else {"min_area_px": area})
    remarks = tuple(one for one in (remark, _lost(old, limits)) if one)

    def amend(folder: Path) -> None:
        report.amend(folder / "report.html", limits)
        if left:
            scores.write(folder, left)

    return Relimited(resealed(old, out, {"limits": limits} | _told(old, wish.without), amend), remarks)


def _told(old: Recipe, without: tuple[str, ...]) -> dict[str, Training]:
    """The manifest's word on panels that the limits were set without, those of earlier copies included."""
    if not without:
        return {}
    training = old.manifest.training
    before = [str(training.facts[LEFT_OUT])] if LEFT_OUT in training.facts else []
    facts = training.facts | {LEFT_OUT: ", ".join([*before, *without])}
    return {"training": training.model_copy(update={"facts": facts})}


def _check(wish: Wish) -> None:
    if wish == Wish():
        raise UsageError(
            "nothing to change: give --false-reject, --limit, --without, --pixel-limit, --min-area-mm2 or --zones"
        )
    if wish.promise and wish.image is not None:
        raise UsageError("--limit sets what --false-reject would: give one of them")
    if wish.zones and wish.everywhere:
        raise UsageError("--zones and --no-zones contradict each other: give one of them")


def _limits(old: Recipe, wish: Wish, left: Scores | None) -> tuple[Limits, str | None]:
    """Limits but for the minimum area, from the scores that are `left`; a remark where the promise is not kept."""
    before = old.manifest.limits
    where = None if wish.everywhere else wish.zones or before.zones
    moved = where != before.zones or left is not None
    pixel = {} if wish.pixel is None else {"pixel": wish.pixel}
    if not (wish.promise or wish.image is not None or moved):
        return before.model_copy(update=pixel), None
    kept = left or scores.read(old)
    fresh, remark = _fresh(old, kept, where, wish)
    same = {} if moved else {"pixel": before.pixel, "low": before.low}
    return fresh.model_copy(update=same | pixel | {"min_area_px": before.min_area_px}), remark


def _fresh(old: Recipe, kept: Scores, where: Zones | None, wish: Wish) -> tuple[Limits, str | None]:
    rule, before = old.manifest.score, old.manifest.limits
    if where and not rule:
        raise UsageError("zones need a method that states how its score follows from the map: teach again")
    limits, remark = kept.limits(where, rule, wish.promise or before.promise, before.min_area_px)
    changes: dict[str, object] = {"cell_px": before.cell_px}
    if wish.image is not None:
        reached = highest_of(kept.within(where, rule), kept.specimens)
        promise = promise_of(reached, wish.image, before.promise.confidence)
        of = f"{len(reached)} {counted(bool(kept.specimens))}"
        remark = f"{panels_above(reached, wish.image)} of {of} score above {wish.image:g}"
        changes |= {"image": wish.image, "promise": promise}
    return limits.model_copy(update=changes), remark


def _min_area_px(old: Recipe, wish: Wish) -> int | None:
    if wish.min_area_mm2 is None:
        return None if wish.min_area_px is None else max(1, round(wish.min_area_px))
    scale = old.manifest.mm_per_px
    if scale is None:
        raise UsageError("the recipe knows no mm_per_px: give --min-area-px, or teach from a set.toml that says it")
    return max(1, round(wish.min_area_mm2 / scale**2))


def _lost(old: Recipe, limits: Limits) -> str | None:
    """A remark on golden defects that pass from now on; refused where the line could prove its engine by none."""
    defects = [one for one in old.golden if one.defective]
    scoring = Scoring(old.manifest.model_copy(update={"limits": limits}), None)
    reached = [scoring.of_golden(one) for one in defects]
    passing = sum(score <= limits.image for score in reached)
    if defects and passing == len(defects):
        raise UsageError(f"limit {limits.image:.4g}: all {passing} golden defects would pass: choose a lower one")
    return f"{passing} of {len(defects)} golden defects pass from now on" if passing else None
