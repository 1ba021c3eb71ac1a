"""The figures of a shift and of the line now, as pages and API have them; see `facts`."""

from pydantic import AwareDatetime as Time

from pipeline.review.facts import Facts, Row

# --- the shift ---


class Share(Facts):
    """k of n with its 95 % interval (Clopper-Pearson); None where n is 0."""

    k: int
    n: int
    rate: float | None
    lower95: float | None
    upper95: float | None


class Bar(Facts):
    """One bar of a Pareto chart; `cumulative` is the share of this one and all before."""

    name: str
    text: str
    count: int
    cumulative: float


class Point(Facts):
    """A point of the p-chart: reject rate by inspection of one subgroup, with its own limits (3 sigma)."""

    at: Time
    k: int
    n: int
    rate: float
    lower: float
    upper: float
    out: bool  # beyond a limit


class Spot(Facts):
    """Centre of a defect as a share of the panel's width and height where its size is known, else in pixels."""

    token: str
    x: float
    y: float
    relative: bool
    area_px: int
    code: str


class Grey(Facts):
    """Mean grey of a channel over the kept panels of one subgroup."""

    at: Time
    channel: str
    mean: float
    panels: int


class Latency(Facts):
    """Trigger edge to the PLC's acknowledgement."""

    panels: int
    median_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Shift(Facts):
    """The figures of a span of time. Rates say what they are counted of."""

    since: Time
    until: Time
    panels: int
    passed: int
    rejected: int  # by inspection
    faulted: int
    reject_rate: Share  # rejected by inspection, of all that were inspected
    causes: list[Bar]  # of rejects: DEFECT and faults
    defect_types: list[Bar]  # by the plant's class, as decided; `unclassified` beside them
    overkill: Share  # good, of the inspection's rejects that were decided
    undecided_rejects: int
    escapes: Share  # defective, of the sampled passes that were decided
    undecided_sample: int
    sample_lost: int  # of the sample without pictures: nobody can decide them
    p_chart: list[Point]
    p_mean: float | None
    spots: list[Spot]
    spots_left_out: int
    greys: list[Grey]
    latency: Latency


# --- the line now ---


class StageFacts(Facts):
    """A process of the line; `age_s` since it was heard last, None: never since this page's process began."""

    stage: str
    state: str
    text: str
    age_s: float | None
    counters: dict[str, float]


class Disk(Facts):
    """Where evidence goes. `days_left` at the rate of the last days; None where nothing was kept yet."""

    free_gb: float
    today_gb: float  # lossless pictures, today and over the last seven days, UTC
    last_days_gb: float
    days_left: float | None


class Live(Facts):
    """The line now."""

    running: bool
    stages: list[StageFacts]
    last: list[Row]
    spooled: int  # panels whose evidence waits
    spool_age_s: float | None  # of the oldest
    disk: Disk
