"""The passport: what a machine was measured to do with a recipe, in one JSON file that others can compute with.

The classes are its schema; `docs/passport.schema.json` is made of them. Times are milliseconds unless a name says
otherwise; None stands for what was not measured, or for a percentile that too few panels stand behind.
"""

import json
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.errors import UsageError

FORMAT = 1
JSON, HTML = "passport.json", "passport.html"
Ms = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0)]


class Part(BaseModel):
    """Frozen, no unknown keys, no values that are no numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Spread(Part):
    """Of milliseconds. p99 needs 2,000 panels, p999 10,000."""

    median: Ms | None
    p90: Ms | None = None
    p99: Ms | None
    p999: Ms | None
    max: Ms | None


class Subject(Part):
    """What was measured: recipe, engine and calibration by their hashes, and the sizes that its time depends on."""

    product: str
    recipe: str
    engine: str
    calibration: str
    method: str
    runtime: str
    precision: str
    threads: int
    max_batch: int
    channels: int = Field(description="frames of a panel")
    panel: tuple[int, int] = Field(description="height and width of a frame, px")
    dtype: str
    rows: int = Field(description="of the network that one panel takes; 1 where it is resized, else tiles")
    tile: tuple[int, int] = Field(description="height and width of the network's input, px")
    geometry: dict[str, Any]
    golden_row: bool = Field(description="every batch carries a golden defect besides, one row more")


class Floors(Part):
    compute_ms: Ms | None
    bytes_ms: Ms | None


class Row(Part):
    """One batch size of an engine: raw frames in host memory to findings there."""

    runtime: str
    precision: str
    batch: int
    network_rows: int = Field(description="of the batch, the golden defect's left out")
    runs: int
    warm_runs: int = Field(description="before the first one that counts, until the times were stable")
    ms: Spread
    parts_ms: dict[str, Spread] = Field(description="prepare, network, stitch, decide")
    copies_ms: dict[str, Spread] = Field(
        default={},
        description="inside of the parts. host_in: frames, as floats, into the batch, or into memory that the card can"
        " read; host_out: maps out of the network's memory; device_in, device_out: raw frames to the card, maps and"
        " scores back, each alone, by the card's events; only where a network lies on a card",
    )
    panels_per_s: float
    pixels_per_s: float = Field(description="useful ones: channels x height x width of the panels, halos not counted")
    floor_ms: Ms | None = Field(description="the larger of the two floors")
    floor: Floors
    ratio: float | None = Field(description="median / floor_ms")
    noise_floor: Share | None = Field(description="by what share the median of the same engine differs, measured twice")
    energy_j_per_panel: dict[str, float] | None
    samples_ms: list[list[float]] = Field(description="every run, by pass: the same engine, opened twice")


class Rates(Part):
    """Measured on this machine, by the same runtime and threads."""

    operations_per_s: float | None = Field(description="float operations, by matrix products")
    bytes_per_s: float = Field(description="read and written, by copies")
    why_none: str = ""


class Common(Part):
    format: Literal[1] = FORMAT
    made: str = Field(description="UTC, ISO 8601")
    takt_version: str
    command: str = Field(description="repeats it")
    machine: dict[str, Any]
    subject: Subject
    own_share: Share = Field(description="what measuring itself took, as a share of a panel's time")
    interrupted: bool = False
    warnings: list[str] = Field(default=[], description="clocks that were set, and the like")


class EnginePassport(Common):
    """Written by `takt bench engine`."""

    kind: Literal["engine"] = "engine"
    rates: Rates
    rows: list[Row]


class Worst(Part):
    panel: int
    panel_id: str
    outcome: str
    due_s: float = Field(description="since the first panel")
    latency_ms: Ms
    held_up_in: str = Field(description="the stage that took most beyond its median")
    stages: dict[str, Ms]


class Overhead(Spread):
    parts: dict[str, Ms | None] = Field(description="medians of the stages that it consists of")


class Noise(Part):
    """By what share parts of the run differ among themselves."""

    median: Share | None
    p99: Share | None


class Samples(Part):
    """Of every panel that was due, in order; of each stage those that were inspected, thinned evenly."""

    latency_ms: list[Ms]
    due_ms: list[float]
    stages: dict[str, list[Ms]]


class Trial(Part):
    """One takt that was tried in the search for the shortest."""

    takt_ms: float
    panels: int
    sustained: bool
    late: int
    outcomes: dict[str, int]
    latency_ms: Spread
    busy: dict[str, float]
    bottleneck: str


class LinePassport(Common):
    """Written by `takt bench line`. Latency: a panel's due time to the PLC's decision, in open loop."""

    kind: Literal["line"] = "line"
    takt_ms: float
    window_ms: float
    panels: int = Field(description="that were due")
    late: int = Field(description="whose time ran out, or that found no slot")
    outcomes: dict[str, int] = Field(description="PASS, REJECT, faults by name, NO_SLOT")
    latency_ms: Spread = Field(description="a panel that no inspection judged in time counts as the window at least")
    stages: dict[str, Spread] = Field(description="of inspected panels, in the order of the way")
    overhead_ms: Overhead = Field(
        description="without belt, exposures, queue, pixel copies and checks, and the network"
    )
    busy: dict[str, float] = Field(description="share of the takt that a resource works for a panel")
    bottleneck: str = Field(description="the longest stage of the busiest resource")
    sustained: bool = Field(description="at most 1 % of the panels without an inspection's result inside the deadline")
    sustained_panels_per_min: float | None = Field(description="of this takt, if sustained")
    limit_found: bool = Field(default=False, description="a search has found no shorter takt that holds")
    worst: list[Worst]
    noise_floor: Noise
    trials: list[Trial] = []
    settings: dict[str, Any] = Field(description="the line as it was measured")
    reconciled: bool = Field(description="ledger and PLC say the same of every panel")
    samples: Samples


Passport = Annotated[EnginePassport | LinePassport, Field(discriminator="kind")]
SCHEMA: TypeAdapter[EnginePassport | LinePassport] = TypeAdapter(Passport)


def header(command: str, machine: dict[str, Any]) -> dict[str, Any]:
    """What every passport begins with."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {"made": made, "takt_version": metadata.version("takt"), "command": command, "machine": machine}


def schema_text() -> str:
    """The schema as JSON, as `docs/passport.schema.json` has it."""
    return json.dumps(SCHEMA.json_schema(), indent=1) + "\n"


def read(path: Path) -> EnginePassport | LinePassport:
    """A passport from its file.

    Raises:
        UsageError: it cannot be read, is none, is damaged, or newer than this program.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        return SCHEMA.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "text"
        if where.endswith("format"):
            raise UsageError(f"{path}: its format is not {FORMAT}: update takt, or measure again") from None
        raise UsageError(
            f"{path}: is no passport ({where}: {first['msg']}): takt bench engine or line writes one"
        ) from None
