"""Mixed teachers: two frozen networks, each with a student of its own, one for early and one for late levels.

The paper's (Thomine, Snoussi and Soua, VISAPP 2023, and its released code): ResNet-18's levels of stride 4 and 8, each
averaged 2 x 2, with a reduced student (`engines.backbones.ReducedResNet`); EfficientNet-B0's of stride 16 and 32 with a
student of the same network; features normalised at each location, half the squared difference, which is 1 - cosine; the
two pairs taught one after the other; the maps multiplied, then a Gaussian of 4 pixels. Adam at 4e-4, one cycle with a
peak at 4e-3, batch 8, 100 epochs, no augmentation, the best of a validation split kept.

Not taken over from the code: its second student starts from its teacher's own weights (ours at random); its smoothing
runs along rows alone at batch 1 (ours in two dimensions); its second map is multiplied by its own range, and the maps
are scaled by the smallest and largest value of the whole test set. Here the second map is divided by its mean over the
good panels of the training, so that a panel's score depends on that panel alone.

Ours besides: the training schedule is that of all methods here (AdamW, `schedule`, mirrored panels, the last state
kept), and each pair is shown `image_passes` panels; MobileNetV2 as second teacher where EfficientNet-B0's weights are
not at hand; fusion as a sum (as in the first author's later collection) by choice; position correction and the score
of two parts (`engines.located`); the blend of an image set's channels. Where both features are zero the code's distance
is 0, ours is 1. How the paper chose its levels is not known to us; with `levels` "auto" teaching chooses them by a
procedure of our own, see `calibration.levels`. All of it was fixed before any test panel was looked at.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from engines.backbones import TEACHERS, ReducedResNet, at_hand, load_weights
from engines.blend import Batches, Blend, chosen_kind
from engines.compare import cosine_distance, interpolation
from engines.errors import UsageError
from engines.located import Located
from engines.methods import MethodSettings, Stage
from engines.patches import smoothed
from engines.zones import TopMean

needs_defects = False

FIRST = "resnet18"
SECOND = ("efficientnet_b0", "mobilenet_v2")  # the paper's, and what stands in for it
LEVELS = ("early4", "early8", "early16", "late8", "late16", "late32")  # pair, and stride of its teacher's map
PAPERS = ("early4", "early8", "late16", "late32")
MAP_STRIDE = 4
LEAST_SCALE = 1e-6


class Settings(MethodSettings):
    """Settings of this method.

    `second`: the second teacher; "auto" takes the paper's where its weights are at hand. `levels`: those compared, of
    `LEVELS`, named after the pair and the stride of the teacher's map; a pair without levels is left out; "auto" lets
    teaching choose, with `choice_passes` panels shown for each candidate. `fusion`: how the two pairs' maps become one.
    `smooth`: sigma in map cells of 4 pixels, the paper's 4 pixels. `blend` and `position_correction` as in mkd.
    """

    second: Literal["auto", "efficientnet_b0", "mobilenet_v2"] = "auto"
    levels: Literal["auto"] | tuple[str, ...] = PAPERS
    choice_passes: Annotated[int, Field(ge=1)] = 800
    fusion: Literal["product", "sum"] = "product"
    blend: Literal["auto", "repeat", "colour", "statistics", "balanced"] = "auto"
    smooth: Annotated[float, Field(ge=0, le=8)] = 1.0
    position_correction: bool = True

    @field_validator("levels", mode="before")
    @classmethod
    def _of_those_there_are(cls, levels: Any) -> Any:
        if levels == "auto":
            return levels
        named = tuple(levels) if isinstance(levels, (list, tuple)) else ()
        if not named or list(named) != [one for one in LEVELS if one in named]:
            raise ValueError(f'"auto", or a list of {", ".join(LEVELS)} in this order, each at most once')
        return named


class Pair(nn.Module):
    """A frozen teacher and its student at `strides` of the teacher. Pooled: the teacher's maps averaged 2 x 2."""

    def __init__(self, kind: str, strides: Sequence[int], pooled: bool) -> None:
        super().__init__()
        self.kind, self.pooled = kind, pooled
        self.teacher = TEACHERS[kind].trunk(strides)
        self.student = ReducedResNet([2 * one for one in strides]) if pooled else TEACHERS[kind].build(strides)
        widened = strides[-1] if pooled else 0
        self.field = max(self.teacher.fields[-1] + widened, self.student.fields[-1])
        self.coarsest = strides[-1] + widened

    def targets(self, seen: Tensor) -> list[Tensor]:
        """The teacher's maps, at the student's size."""
        with torch.no_grad():
            maps = self.teacher(seen)
        return [functional.avg_pool2d(one, 2) for one in maps] if self.pooled else maps

    def distances(self, seen: Tensor, targets: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Of each level at each location: [N, h_i, w_i]."""
        known = self.targets(seen) if targets is None else targets
        return [cosine_distance(*pair) for pair in zip(known, self.student(seen), strict=True)]


class Fusion(Located):
    """The levels' maps [N, levels, h, w], early ones first, -> map and score.

    The mean of each pair's levels; then the second pair's, divided by its mean over good panels, times the first's; or
    the mean of the first's and of the second's scaled to the first's mean. One pair alone stays as it is.
    """

    scale: Tensor
    blur_rows: Tensor
    blur_columns: Tensor

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.corrected = settings.position_correction
        self.product = settings.fusion == "product"
        self.early = sum(level.startswith("early") for level in _levels(settings))
        self.both = 0 < self.early < len(_levels(settings))
        height, width = settings.height // MAP_STRIDE, settings.width // MAP_STRIDE
        self.place(height, width)
        self.register_buffer("scale", torch.ones(()))
        for name, size in (("blur_rows", height), ("blur_columns", width)):
            matrix = torch.from_numpy(interpolation(size, size, settings.smooth))
            self.register_buffer(name, matrix, persistent=False)

    def distance(self, batch: Tensor) -> Tensor:
        if not self.both:
            fused = batch.mean(1)
        else:
            early, late = self._pairs(batch)
            fused = early * (late * self.scale) if self.product else (early + late * self.scale) / 2
        return self.blur_rows @ fused @ self.blur_columns.T

    def fit_output(self, batches: Batches) -> None:
        """Learn from good panels' maps the second pair's scale, the mean map and the score's weights."""
        if self.both:
            early, late = (pair.mean() for pair in self._pairs(torch.cat(list(batches()))))
            wanted = 1.0 if self.product else early
            self.scale.copy_(wanted / late.clamp(min=LEAST_SCALE))
        super().fit_output(batches)

    def _pairs(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        return levels[:, : self.early].mean(1), levels[:, self.early :].mean(1)


class MixedTeacher(nn.Module):
    """See `engines.methods.Model`."""

    def __init__(self, channels: int, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.blend = Blend(chosen_kind(settings.blend, channels), channels)
        self.pairs = nn.ModuleDict(_pairs(settings))
        self.fusion = Fusion(settings)
        networks, coarsest = (
            max(each) for each in zip(*((one.field, one.coarsest) for one in self._each()), strict=True)
        )
        self.receptive_field = networks + smoothed(coarsest, MAP_STRIDE, settings.smooth)
        self.training_facts: dict[str, str | int | float] = {
            "blend": self.blend.kind,
            "levels": " ".join(_levels(settings)),
            "fusion": settings.fusion if self.fusion.both else "one pair alone",
        }
        self._register_growth()

    def _register_growth(self) -> None:
        height, width = self.fusion.position.shape
        cells = [size for pair in self._each() for size in pair.student.cells(height * MAP_STRIDE, width * MAP_STRIDE)]
        self.count = len(cells)
        for level, (rows, columns) in enumerate(cells):
            down, across = interpolation(height, rows, 0), interpolation(width, columns, 0)
            self.register_buffer(f"rows{level}", torch.from_numpy(down), persistent=False)
            self.register_buffer(f"columns{level}", torch.from_numpy(across), persistent=False)

    def _each(self) -> list[Pair]:
        return [pair for pair in self.pairs.values() if isinstance(pair, Pair)]

    def train(self, mode: bool = True) -> "MixedTeacher":
        super().train(mode)
        for pair in self._each():
            pair.teacher.eval()
        return self

    def fit_input(self, batches: Batches) -> None:
        self.blend.fit(batches)

    def stages(self) -> Iterator[Stage]:
        """Each pair by itself: the other one's parameters and statistics stand still."""
        for name, pair in zip(self.pairs, self._each(), strict=True):
            yield Stage(
                f"{name} student",
                self.settings.schedule.image_passes,
                list(pair.student.parameters()),
                partial(self._loss, pair),
                targets=lambda batch, pair=pair: pair.targets(self.blend(batch)),
            )

    def _loss(
        self, pair: Pair, batch: Tensor, defect_mask: Tensor | None, targets: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Mean over the pair's levels of the mean distance."""
        return torch.stack([one.mean() for one in pair.distances(self.blend(batch), targets)]).mean()

    def fit_output(self, batches: Batches) -> None:
        with torch.no_grad():
            maps = [self.level_maps(batch) for batch in batches()]
            self.fusion.fit_output(lambda: maps)

    def score_rule(self) -> tuple[TopMean, ...]:
        return self.fusion.score_rule()

    def level_maps(self, batch: Tensor) -> Tensor:
        """The distance of each level, early ones first, at the map's size: [N, levels, h, w]."""
        seen = self.blend(batch)
        maps = [one for pair in self._each() for one in pair.distances(seen)]
        grow = [(self.get_buffer(f"rows{level}"), self.get_buffer(f"columns{level}")) for level in range(self.count)]
        return torch.stack([rows @ one @ columns.T for (rows, columns), one in zip(grow, maps, strict=True)], 1)

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        return self.fusion(self.level_maps(batch))


def build(channels: int, settings: Settings) -> MixedTeacher:
    """An untaught model for sets of `channels` channels, its students random.

    With levels "auto" it has all of them, with the second teacher "auto" the paper's, see `settled`.
    """
    return MixedTeacher(channels, settings)


def load_teacher(model: MixedTeacher, weights: Path | None) -> tuple[str, str]:
    """Fill the teachers from the folder `weights`; their names and the SHA-256 of their files, in this order.

    Raises:
        UsageError: weights are missing or of another network.
    """
    found = [load_weights(pair.teacher, pair.kind, weights) for pair in model._each()]
    return " and ".join(name for name, _ in found), " ".join(digest for _, digest in found)


def teachers(settings: Settings) -> tuple[str, ...]:
    """See `engines.methods.teachers`; "auto" downloads the paper's second teacher."""
    kinds = {"early": FIRST, "late": _second(settings)}
    return tuple(kinds[pair] for pair in _strides(settings))


def settled(settings: Settings, weights: Path | None) -> Settings:
    """See `engines.methods.settled`: the second teacher is the first of `SECOND` whose weights are at hand."""
    if settings.second != "auto" or "late" not in _strides(settings):
        return settings
    kind = next((kind for kind in SECOND if at_hand(kind, weights)), None)
    if kind is None:
        patterns = " or ".join(str(TEACHERS[kind].file) for kind in SECOND)
        if weights:
            raise UsageError(f"{weights}: holds no {patterns}; give the folder with both teachers' weights")
        both = f"{TEACHERS[FIRST].file} and {patterns}"
        raise UsageError(
            f"two teachers need their weights: give --teacher-weights DIR with {both}, or --download-weights"
        )
    return settings.model_copy(update={"second": kind})


def candidates(settings: Settings) -> tuple[str, ...]:
    """See `engines.methods.Selectable`: of two levels of one stride the first teacher's is the cheaper."""
    return tuple(sorted(LEVELS, key=lambda level: _split(level)[1])) if settings.levels == "auto" else ()


def with_levels(settings: Settings, levels: Sequence[str]) -> Settings:
    """See `engines.methods.Selectable`."""
    return settings.model_copy(update={"levels": tuple(level for level in LEVELS if level in levels)})


def trials(settings: Settings, levels: Sequence[str]) -> list[Settings]:
    """See `engines.methods.Selectable`: each level alone, since each of its students costs by itself."""
    short = settings.shortened(settings.choice_passes)
    return [with_levels(short, [level]) for level in levels]


def fusion(settings: Settings) -> Fusion:
    """See `engines.methods.Selectable`."""
    return Fusion(settings)


def _pairs(settings: Settings) -> dict[str, nn.Module]:
    kinds = {"early": FIRST, "late": _second(settings)}
    return {name: Pair(kinds[name], strides, name == "early") for name, strides in _strides(settings).items()}


def _second(settings: Settings) -> str:
    return SECOND[0] if settings.second == "auto" else settings.second


def _strides(settings: Settings) -> dict[str, list[int]]:
    """The strides of each pair that has levels, the early pair first."""
    found: dict[str, list[int]] = {}
    for pair, stride in map(_split, _levels(settings)):
        found.setdefault(pair, []).append(stride)
    return found


def _levels(settings: Settings) -> tuple[str, ...]:
    return LEVELS if settings.levels == "auto" else settings.levels


def _split(level: str) -> tuple[str, int]:
    pair = level.rstrip("0123456789")
    return pair, int(level[len(pair) :])
