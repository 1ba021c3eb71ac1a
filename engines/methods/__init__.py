"""Methods: one file a method. Each is PyTorch; the line never imports one.

A method's file offers `Settings`, `needs_defects` and `build(channels, settings)`; what is built follows `Model`.
The training loop and the synthetic defects live in `calibration` and are passed in.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines import plugins
from engines.errors import UsageError
from engines.zones import TopMean

if TYPE_CHECKING:
    from torch import Tensor, nn

PRODUCTION = "fused"  # what is taught unless another method is asked for


class Schedule(BaseModel):
    """How long and how fast to train. `image_passes` counts panels shown, so it does not depend on the set."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image_passes: Annotated[int, Field(ge=1)] = 4000
    batch: Annotated[int, Field(ge=2)] = 8
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    flips: bool = True


class MethodSettings(BaseModel):
    """What every method's settings have: the network's input size and the schedule."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    height: Annotated[int, Field(ge=64, le=4096, multiple_of=32)] = 256
    width: Annotated[int, Field(ge=64, le=4096, multiple_of=32)] = 256
    schedule: Schedule = Schedule()

    def teachers(self) -> tuple[str, ...]:
        """The kinds of `engines.backbones.TEACHERS` that are used."""
        return ()

    @property
    def grid(self) -> int:
        """Pixels on which tiles of a panel have to begin: the coarsest stride, and patches where there are any."""
        return 32

    def sized(self, height: int, width: int) -> Self:
        """The same for tiles of this size, multiples of the grid, with the same patches, and no place in them alike."""
        alike = {"position_correction": False} if "position_correction" in type(self).model_fields else {}
        return self.model_copy(update={"height": height, "width": width, **alike})

    def shortened(self, passes: int) -> Self:
        """The same with at most so many panels shown."""
        schedule = self.schedule.model_copy(update={"image_passes": min(passes, self.schedule.image_passes)})
        return self.model_copy(update={"schedule": schedule})

    def settled(self, weights: Path | None) -> Self:
        """With everything decided that is left to the weights at hand in the folder `weights`."""
        return self


@dataclass(frozen=True)
class Stage:
    """One part of teaching: `image_passes` panels are shown and `loss(batch, defect_mask, targets)` is minimised.

    With `needs_defects`, most panels carry a synthetic defect and `defect_mask` is bool [N, H, W], else None.
    `targets(batch)` are answers that stay the same during the stage, so that they can be kept; None: there are none.
    `channel_dropout`: the share of panels that lose one channel, which is then 0 everywhere. `learning_rate`: None
    takes the schedule's. `variety`: so many panels with defects are drawn and come again, with their targets kept;
    None: each is drawn anew.
    """

    name: str
    image_passes: int
    parameters: "Sequence[nn.Parameter] | Sequence[dict[str, Any]]"  # or groups, each with its own rate
    loss: "Callable[[Tensor, Tensor | None, Sequence[Tensor] | None], Tensor]"
    needs_defects: bool = False
    targets: "Callable[[Tensor], Sequence[Tensor]] | None" = None
    channel_dropout: float = 0.0
    learning_rate: float | None = None
    variety: int | None = None

    def part(self, share: float) -> Self:
        """The same from `share` of the panels, each of which is shown as often."""
        variety = self.variety and ceil(share * self.variety)
        return replace(self, image_passes=ceil(share * self.image_passes), variety=variety)


class Model(Protocol):
    """A network being taught, an `nn.Module`. Batches are float32 [N, C, H, W], 0..1.

    It may offer `score_rule()`, a sequence of `engines.zones.TopMean`: how its score follows from its map. Without it
    a recipe cannot be told where to inspect (zones); teaching holds it against the network's own score.

    It may say `keeps_unseen = True`: then, of sets that have enough, some good panels are kept from training, and
    `fit_output(batches, unseen)` gets all good panels and those.
    """

    receptive_field: int  # pixels
    training_facts: dict[str, str | int | float]

    def fit_input(self, batches: Callable[[], Iterable["Tensor"]]) -> None:
        """Learn what normal input looks like, before training. Each call gives all good panels once."""
        ...

    def stages(self) -> "Iterable[Stage]":
        """What to train, in order; a stage is asked for when the one before it is done."""
        ...

    def fit_output(self, batches: Callable[[], Iterable["Tensor"]]) -> None:
        """Learn what normal maps and scores look like, after training, from panels that trained the network."""
        ...

    def __call__(self, batch: "Tensor") -> "tuple[Tensor, Tensor]":
        """Low-resolution maps [N, h, w] and scores [N]."""
        ...


class Method(Protocol):
    """What a method's file offers."""

    Settings: type[MethodSettings]
    needs_defects: bool  # whether telling good from defective rests on synthetic defects

    def build(self, channels: int, settings: MethodSettings) -> "nn.Module": ...

    def load_teacher(self, model: "nn.Module", weights: Path | None) -> tuple[str, str]:
        """Fill the teacher from a folder; what it is and the SHA-256 of its file."""
        ...


class Selectable(Protocol):
    """What a method's file offers, besides `Method`, where teaching can choose the levels that are compared.

    Its models have `level_maps(batch)`: [N, levels, h, w], the distance of each level at each location.
    """

    def candidates(self, settings: MethodSettings) -> tuple[str, ...]:
        """The levels to choose from, the shallowest first; none where the settings name theirs."""
        ...

    def with_levels(self, settings: MethodSettings, levels: Sequence[str]) -> MethodSettings:
        """The settings with these levels, in the order in which the method keeps them."""
        ...

    def trials(self, settings: MethodSettings, levels: Sequence[str]) -> Sequence[MethodSettings]:
        """Short lessons in which these levels are taught, each in one of them."""
        ...

    def fusion(self, settings: MethodSettings) -> Any:
        """From the maps of the settings' levels to map and score: has `fit_output`, and answers as a `Model` does."""
        ...


def teachers(method: Any, settings: MethodSettings) -> tuple[str, ...]:
    """The teachers that a method with these settings would use, for those who download them."""
    if hasattr(method, "teachers"):
        return tuple(method.teachers(settings))
    return settings.teachers()


def settled(method: Any, settings: MethodSettings, weights: Path | None) -> MethodSettings:
    """The settings with everything decided that they leave to the weights at hand in the folder `weights`.

    Raises:
        UsageError: none of the weights that would do is there.
    """
    return method.settled(settings, weights) if hasattr(method, "settled") else settings.settled(weights)


def candidates(method: Any, settings: MethodSettings) -> tuple[str, ...]:
    """The levels among which teaching has to choose, see `Selectable`; mostly none."""
    return tuple(method.candidates(settings)) if hasattr(method, "candidates") else ()


def score_rule(model: Any) -> tuple[TopMean, ...]:
    """How the model's score follows from its map, see `Model`; empty where it does not say."""
    return tuple(model.score_rule()) if hasattr(model, "score_rule") else ()


def load(kind: str) -> Any:
    """The method `kind`; see `Method`.

    Raises:
        UsageError: there is no such method, or PyTorch is not installed.
    """
    return plugins.load("engines.methods", kind)


def stored_settings(method: Any, values: dict[str, Any]) -> MethodSettings:
    """The settings that a recipe's manifest holds; one that is younger than the recipe is what networks had before it.

    A method names those in `EARLIER`.

    Raises:
        UsageError: as `settings_of`.
    """
    return settings_of(method, {**getattr(method, "EARLIER", {}), **values})


def settings_of(method: Any, values: dict[str, Any]) -> MethodSettings:
    """The method's settings from plain values.

    Raises:
        UsageError: a setting is unknown or out of range.
    """
    try:
        return method.Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        there = ", ".join(method.Settings.model_fields)
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"setting {place}: {first['msg']}; there is {there}") from None
