"""What a recipe's manifest states: everything about the recipe except its numbers in bulk."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from engines import contents
from engines.integrity import IntegrityLimits
from engines.zones import Part, Zones

FORMAT = 3
UNTILED = 2  # the format that everything has which has no tiles: versions that know of none read it

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Channel(_Part):
    """One frame of the image set: under which light, at which focus, exposed for how long."""

    name: str
    light: str
    focus: str = ""
    exposure_us: float | None = None


class Resize(_Part):
    """The whole panel, resized to the network's input."""

    kind: Literal["resize"] = "resize"
    height: Annotated[int, Field(ge=32, le=4096)]
    width: Annotated[int, Field(ge=32, le=4096)]


Side = Annotated[int, Field(ge=1)]


class Tiles(_Part):
    """The panel at its own resolution, in tiles of `height` x `width` px; see `engines.tiles`.

    Each has `halo` px around what it answers for, and begins on a multiple of `grid`. `panel` is the (height, width)
    that was taught, and the only one that is inspected; None: any. `piece` is that of golden panels, pieces of such.
    """

    kind: Literal["tiles"] = "tiles"
    height: Annotated[int, Field(ge=32, le=4096)]
    width: Annotated[int, Field(ge=32, le=4096)]
    halo: Annotated[int, Field(ge=0)]
    grid: Side
    panel: tuple[Side, Side] | None = None
    piece: tuple[Side, Side] | None = None

    @model_validator(mode="after")
    def _on_the_grid(self) -> "Tiles":
        if any(one % self.grid for one in (self.height, self.width, self.halo)):
            raise ValueError(f"tile and halo must be multiples of the grid of {self.grid} px")
        panel = self.panel or (4097, 4097)
        sides = zip((self.height, self.width), panel, strict=True)
        if any(side <= 2 * self.halo and side < whole for side, whole in sides):
            raise ValueError(f"a tile must be larger than two halos of {self.halo} px, or than the panel")
        return self


Geometry = Annotated[Resize | Tiles, Field(discriminator="kind")]


class Promise(_Part):
    """At most `rate` of good panels are rejected, with this confidence; what the held-out panels support."""

    rate: Share
    confidence: Share


class ScoreStatistics(_Part):
    """Scores of the good panels that training never saw."""

    panels: int
    mean: float
    std: float
    minimum: float
    median: float
    maximum: float


class Limits(_Part):
    """Pass needs low <= score <= image; a map cell above `pixel` is marked.

    Defects smaller than `min_area_px` are not listed. `cell_px` is the panel area of one map cell, None where it is
    not known. Outside `zones` the map does not count.
    """

    image: float
    pixel: float
    low: float
    min_area_px: Annotated[int, Field(ge=1)]
    cell_px: Annotated[float, Field(gt=0)] | None = None
    zones: Zones | None = None
    promise: Promise
    statistics: ScoreStatistics


class Training(_Part):
    """From what the networks were made. `facts` holds what only the method knows."""

    panels: int
    held_out: int
    seed: int
    teacher: str
    teacher_sha256: str = ""
    facts: dict[str, str | int | float] = Field(default_factory=dict)


class Manifest(_Part):
    """Everything about a recipe except its numbers in bulk."""

    format: Literal[1, 2, 3] = FORMAT
    product: str
    channels: Annotated[tuple[Channel, ...], Field(min_length=1)]
    geometry: Geometry
    dtype: Literal["uint8", "uint16"]
    method: str
    settings: dict[str, Any]
    training: Training
    limits: Limits
    score: tuple[Part, ...] = ()  # how the score follows from the map; empty: the network alone knows
    integrity: IntegrityLimits | None = None  # None: raw sets are not checked; takt relearn adds them
    mm_per_px: Annotated[float, Field(gt=0)] | None = None
    files: Annotated[dict[str, Sha256], Field(max_length=contents.MOST_FILES)]

    @field_validator("files")
    @classmethod
    def _files_lie_inside(cls, files: dict[str, str]) -> dict[str, str]:
        if outside := [name for name in files if not contents.is_name(name)]:
            raise ValueError(f"{outside[0]!r} is no file inside a recipe")
        return files

    @model_validator(mode="after")
    def _zones_need_a_rule(self) -> "Manifest":
        if self.limits.zones and not self.score:
            raise ValueError("zones need a method that states how its score follows from the map: teach again")
        return self

    @model_validator(mode="after")
    def _tiles_need_a_rule(self) -> "Manifest":
        if isinstance(self.geometry, Tiles) and not (self.score and self.format >= FORMAT):
            raise ValueError(f"tiles need format {FORMAT} and a score that follows from the map: teach again")
        return self

    @model_validator(mode="after")
    def _zones_need_a_panel(self) -> "Manifest":
        """They are shares of a panel, and golden panels are pieces of one: which is which, its size tells."""
        if self.limits.zones and isinstance(self.geometry, Tiles) and self.geometry.panel is None:
            raise ValueError("zones of a recipe in tiles need the panels' size: teach again")
        return self
