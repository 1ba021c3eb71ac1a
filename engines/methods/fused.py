"""Our union of mcd, MixedTeacher and ADPS: one network, one pass, a map of distances and a mask fused into one.

From mcd the blend of an image set's channels, its training with lost channels, and the contrastive stage. From
MixedTeacher the choice of levels, whose distances make the map, and the thought of a student with fewer blocks than its
teacher, here mkd's thin one, which keeps the teacher's resolution. From ADPS the asymmetric input (the teacher sees the
panel, the student patches of it), the weight mask and the decoder of the mask.

The union is ours, and so is its course: the student learns from good panels alone; then blend and metric by the
contrast, where `contrast_passes` asks for it; then the decoder, on the frozen pair, from panels with defects that are
drawn once and come again. A push or a decoder that acts on the student from the start spoils its distances. Beside the
decoder, which learns from the same defects, the contrast made no difference worth its time: see docs/choices.md.

Both maps are brought to one scale as EfficientAD brings its two (Batzner et al., WACV 2024): over good panels that are
kept back from training, the 0.995 quantile lies 0.1 above the 0.9 quantile; over panels that trained the networks each
is sure of itself in its own degree. Theirs are shifted so that the 0.9 quantile is 0, which tells no cell from another
and would make calm panels' scores negative; ours are not. The distances are corrected by position before, the mask is
not. The mask enters as ln(1 + o / o0), see `engines.methods.adps`, and with a smaller weight: it finds what was drawn
for it, and lights up on soiling as well. The score is made of the fused map as mkd's.
"""

from collections.abc import Iterator, Sequence
from math import lcm
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor
from torch.nn import functional

from engines import convex
from engines.backbones import STRIDES
from engines.blend import Batches, quantile
from engines.compare import fuse, grown
from engines.located import Located
from engines.methods import Stage, mcd
from engines.methods.mkd import Pairs, load_teacher
from engines.patches import checked_patch, halo, patch_sizes, patchwise, smoothed
from engines.segmentation import Decoder, focal_loss, log_odds, marked_cells, weight_mask

__all__ = ["Fused", "Settings", "build", "load_teacher", "needs_defects"]

needs_defects = True
EARLIER = {"decoder_narrow": None}

QUANTILES, HIGH_IS = (0.9, 0.995), 0.1
LEFT_OUT = -1e4  # logit of a level that is not compared
LEAST_STEP = (1e-4, 0.1)  # between the quantiles: a decoder sure of nearly all cells must not drown the distances
USUAL_PATCH = 64
SEES_ALL = ("efficientnet_b0",)  # squeeze-excitation scales by what the whole tile holds: no halo is wide enough

Width = Annotated[int, Field(ge=1)]


class Settings(mcd.Settings):
    """Settings of this method, beside those of mcd.

    `levels`: strides of those that make the distance map; the student imitates, and the decoder reads, all of them;
    "auto" lets teaching choose, with `choice_passes` panels shown. `patch_px`: side of the student's patches; None: the
    largest of 64 px at most that parts the panel. `decoder_widths`: channels from the coarsest level to the finest;
    `decoder_narrow`: likewise, to which a 1x1 convolution brings what is beside them, None leaves it as it is.
    `decoder_passes`: panels shown to the decoder, 0 leaves it out; `decoder_variety`: so many of them are different.
    `decoder_share`: the mask's part of the map. `focal_alpha`: the share of defective cells in the focal loss.
    """

    levels: Literal["auto"] | Annotated[tuple[int, ...], Field(strict=False)] = STRIDES
    choice_passes: Annotated[int, Field(ge=1)] = 800
    contrast_passes: Annotated[int, Field(ge=0)] = 0
    patch_px: Annotated[int, Field(ge=16)] | None = None
    decoder_widths: Annotated[tuple[Width, Width, Width], Field(strict=False)] = (64, 48, 32)
    decoder_narrow: Annotated[tuple[Width, Width, Width], Field(strict=False)] | None = (64, 32, 16)
    decoder_passes: Annotated[int, Field(ge=0)] = 4800
    decoder_variety: Annotated[int, Field(ge=8)] = 1200
    decoder_share: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    focal_gamma: Annotated[float, Field(ge=0, le=10)] = 2.0
    focal_alpha: Annotated[float, Field(gt=0, lt=1)] = 0.75

    @field_validator("direction")
    @classmethod
    def _by_location(cls, direction: str) -> str:
        if direction != "location":
            raise ValueError('"location": the mask of weights needs the distance at each')
        return direction

    @field_validator("value_weight")
    @classmethod
    def _by_direction(cls, value_weight: float) -> float:
        if value_weight:
            raise ValueError("0: the student here learns directions alone")
        return value_weight

    @field_validator("strides")
    @classmethod
    def _all_three(cls, strides: tuple[int, ...]) -> tuple[int, ...]:
        if strides != STRIDES:
            raise ValueError(f"the decoder reads {list(STRIDES)}: set levels to leave some out of the distances")
        return strides

    @field_validator("levels")
    @classmethod
    def _of_those_there_are(cls, levels: Literal["auto"] | tuple[int, ...]) -> Literal["auto"] | tuple[int, ...]:
        if levels != "auto" and (not levels or list(levels) != [one for one in STRIDES if one in levels]):
            raise ValueError(f'"auto", or of {list(STRIDES)}, rising, each at most once')
        return levels

    @field_validator("patch_px")
    @classmethod
    def _on_a_grid(cls, patch_px: int | None, info: ValidationInfo) -> int | None:
        if patch_px is not None and {"height", "width"} <= info.data.keys():
            return checked_patch(patch_px, info.data["height"], info.data["width"], STRIDES[-1])
        return patch_px

    @property
    def grid(self) -> int:
        return lcm(super().grid, self.patch)

    def sized(self, height: int, width: int) -> Self:
        return super().sized(height, width).model_copy(update={"patch_px": self.patch})

    @property
    def patch(self) -> int:
        """Side of the student's patches, pixels."""
        there = patch_sizes(self.height, self.width, STRIDES[-1])
        return self.patch_px or max(size for size in there if size <= USUAL_PATCH)


class Fused(mcd.Mcd):
    """See `engines.methods.Model`."""

    settings: Settings  # pyright: ignore[reportIncompatibleVariableOverride]
    typical: Tensor
    gain: Tensor

    def __init__(self, channels: int, settings: Settings) -> None:
        super().__init__(channels, settings)
        compared = STRIDES if settings.levels == "auto" else settings.levels
        with torch.no_grad():
            self.shares.copy_(torch.tensor([0.0 if stride in compared else LEFT_OUT for stride in STRIDES]))
        widths = (settings.decoder_widths, settings.decoder_narrow)
        self.decoder = Decoder(self.teacher.widths, *widths) if settings.decoder_passes else None
        self.keeps_unseen = self.decoder is not None
        self._segmenting = False
        self.register_buffer("typical", torch.zeros(()))
        self.register_buffer("gain", torch.ones(2))
        self.receptive_field = _field(self)
        self.training_facts["levels"] = " ".join(map(str, compared))
        self.training_facts["receptive_field_px"] = self.receptive_field
        if settings.teacher_kind not in SEES_ALL:
            self.training_facts["halo_px"] = halo(self.receptive_field, settings.grid)

    def train(self, mode: bool = True) -> "Fused":
        """While the decoder learns everything before it stands still, the student's own statistics included."""
        super().train(mode)
        if self._segmenting:
            self.student.eval()
        return self

    def stages(self) -> Iterator[Stage]:
        """As mcd; then the decoder."""
        dropout = 0.0
        for stage in super().stages():
            dropout = stage.channel_dropout
            yield stage
        if self.decoder is not None:
            self._segmenting = True
            settings, parameters = self.settings, list(self.decoder.parameters())
            passes, variety = settings.decoder_passes, settings.decoder_variety
            yield Stage("decoder", passes, parameters, self._segment, True, self._masked, dropout, variety=variety)
            self._segmenting = False

    def _masked(self, batch: Tensor) -> list[Tensor]:
        """What the decoder reads: the teacher's levels where the student disagrees."""
        with torch.no_grad():
            pairs = self._pairs(batch)
            return [weight_mask(*level) for level in zip(_of_teacher(pairs), self._by_metric(pairs), strict=True)]

    def _segment(self, batch: Tensor, defect_mask: Tensor | None, targets: Sequence[Tensor] | None = None) -> Tensor:
        assert self.decoder is not None and defect_mask is not None and targets is not None
        marked = marked_cells(defect_mask, STRIDES[0])
        return focal_loss(self.decoder(targets), marked, self.settings.focal_gamma, self.settings.focal_alpha)

    def fit_output(self, batches: Batches, unseen: Batches | None = None) -> None:
        """The mean map by position from all good panels; scales and score from those that trained nothing."""
        honest = unseen or batches
        with torch.no_grad():
            self._fit_position(batches)
            if self.decoder is not None:
                self._fit_scales(honest)
            self._fit_score(honest)
        self._tell_blend()

    def _fit_scales(self, batches: Batches) -> None:
        distances, odds = torch.cat([self._seen_by_both(batch) for batch in batches()], 1)
        self.typical.copy_(odds.median())
        maps = torch.stack([distances, self._evidence(odds)]).flatten(1)
        low, high = (quantile(maps, share) for share in QUANTILES)
        self.gain.copy_(HIGH_IS / (high - low).maximum(torch.tensor(LEAST_STEP)))
        for name in ("typical", "gain"):
            self.training_facts[name] = " ".join(f"{value:.4g}" for value in getattr(self, name).view(-1).tolist())

    def answer(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        map = self._both(batch)
        return map, self._parts(map)

    def _both(self, batch: Tensor) -> Tensor:
        """The fused map: [N, h, w]."""
        if self.decoder is None:
            return self.distance(batch) - self.position
        distance, mask = self._two_maps(batch) * self.gain.view(2, 1, 1, 1)
        return (1 - self.settings.decoder_share) * distance + self.settings.decoder_share * mask

    def _two_maps(self, batch: Tensor) -> Tensor:
        """Distances, corrected by position, and the mask: [2, N, h, w]."""
        distances, odds = self._seen_by_both(batch)
        return torch.stack([distances, self._evidence(odds)])

    def _evidence(self, odds: Tensor) -> Tensor:
        return functional.softplus(odds - self.typical)

    def _seen_by_both(self, batch: Tensor) -> Tensor:
        """Distances, corrected by position, and the mask's log odds: [2, N, h, w]."""
        assert self.decoder is not None
        pairs = self._pairs(batch)
        metric = self._by_metric(pairs)
        rows, columns = self._growth()
        distance = fuse(self._shared(metric), rows, columns) - self.position
        odds = log_odds(self.decoder(_of_teacher(pairs), metric), rows[0], columns[0])
        return torch.stack([distance, odds])

    def _features(self, seen: Tensor) -> list[Tensor]:
        """Each patch seen for itself; heads see one cell, so that they come after."""
        return patchwise(self.student, seen, self.settings.patch)

    def level_maps(self, batch: Tensor) -> Tensor:
        """The distance of each compared level, fine to coarse: [N, levels, h, w]; see `engines.methods.Selectable`."""
        maps = grown(self._imitation(self._pairs(batch)), *self._growth())
        return torch.stack([map for map, share in zip(maps, self.shares, strict=True) if share > LEFT_OUT / 2], 1)


class LevelMean(Located):
    """Maps of levels [N, levels, h, w] -> map and score, as `Fused` without its decoder has them."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.corrected = settings.position_correction
        self.place(settings.height // STRIDES[0], settings.width // STRIDES[0])

    def distance(self, batch: Tensor) -> Tensor:
        return batch.mean(1)


def build(channels: int, settings: Settings) -> Fused:
    """An untaught model for sets of `channels` channels. With levels "auto" all of them are compared."""
    return Fused(channels, settings)


def candidates(settings: Settings) -> tuple[str, ...]:
    """See `engines.methods.Selectable`."""
    return tuple(map(str, STRIDES)) if settings.levels == "auto" else ()


def with_levels(settings: Settings, levels: Sequence[str]) -> Settings:
    """See `engines.methods.Selectable`."""
    return settings.model_copy(update={"levels": tuple(one for one in STRIDES if str(one) in levels)})


def trials(settings: Settings, levels: Sequence[str]) -> list[Settings]:
    """See `engines.methods.Selectable`: one student imitates all levels, and neither contrast nor decoder is needed."""
    short = with_levels(settings, levels).shortened(settings.choice_passes)
    return [short.model_copy(update={"contrast_passes": 0, "decoder_passes": 0})]


def fusion(settings: Settings) -> LevelMean:
    """See `engines.methods.Selectable`."""
    return LevelMean(settings)


def _of_teacher(pairs: Pairs) -> list[Tensor]:
    return [teacher for teacher, _ in pairs]


def _field(model: Fused) -> int:
    """Pixels across which a cell of the map sees: blend, the networks, the decoder, interpolation and smoothing."""
    settings, blend = model.settings, convex.LOCAL - 1 if isinstance(model.blend, convex.ConvexBlend) else 0
    student = min(model.student.fields[-1], 2 * settings.patch - 1)
    networks = max(model.teacher.fields[-1], student)
    behind = STRIDES[-1] if model.decoder is None else max(STRIDES[-1], model.decoder.reach())
    return blend + networks + smoothed(behind, STRIDES[0], settings.smooth)
