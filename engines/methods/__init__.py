"""Methods: one file a method. Each is PyTorch; the line never imports one.

A method's file offers `Settings`, `needs_defects` and `build(channels, settings)`; what is built follows `Model`.
The training loop and the synthetic defects live in `calibration` and are passed in.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines import plugins
from engines.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn


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


class Model(Protocol):
    """A network being taught, an `nn.Module`. Batches are float32 [N, C, H, W], 0..1."""

    receptive_field: int  # pixels
    training_facts: dict[str, str | int | float]

    def fit_input(self, batches: Callable[[], Iterable["Tensor"]]) -> None:
        """Learn what normal input looks like, before training. Each call gives all good panels once."""
        ...

    def targets(self, batch: "Tensor") -> Sequence["Tensor"]:
        """What the teacher says of `batch`; worth caching."""
        ...

    def loss(
        self, batch: "Tensor", defect_mask: "Tensor | None", targets: Sequence["Tensor"] | None = None
    ) -> "Tensor":
        """To be minimised. `defect_mask` is bool [N, H, W], None where the method needs no defects."""
        ...

    def fit_output(self, batches: Callable[[], Iterable["Tensor"]]) -> None:
        """Learn what normal maps and scores look like, after training, from panels that trained the network."""
        ...

    def trained(self) -> "Iterable[nn.Parameter]":
        """The parameters that training changes."""
        ...

    def __call__(self, batch: "Tensor") -> "tuple[Tensor, Tensor]":
        """Low-resolution maps [N, h, w] and scores [N]."""
        ...


class Method(Protocol):
    """What a method's file offers."""

    Settings: type[MethodSettings]
    needs_defects: bool

    def build(self, channels: int, settings: MethodSettings) -> "nn.Module": ...

    def load_teacher(self, model: "nn.Module", weights: Any) -> tuple[str, str]: ...


def load(kind: str) -> Any:
    """The method `kind`; see `Method`.

    Raises:
        UsageError: there is no such method, or PyTorch is not installed.
    """
    return plugins.load("engines.methods", kind)


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
