"""What the review station shows and takes, as the pages and the API have it; frozen, units in the names.

All times are UTC. A *finding* is what people say of a panel: `defective` confirms a reject and makes a sampled pass an
escape, `good` overrules a reject and confirms a pass, `lab` leaves it open. It changes no limit and reaches no PLC.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime as Time
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pipeline.messages import Fault, Outcome

DEFECT = "DEFECT"  # the cause of a reject that has no fault
ANY = r"^[^\x00]*$"  # no database takes a text with a NUL in it
Text = Annotated[str, StringConstraints(max_length=1000, pattern=ANY)]
Short = Annotated[str, StringConstraints(max_length=64, pattern=ANY)]
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Counted = Annotated[int, Field(ge=0, lt=1 << 53)]  # of records; scripts in a browser count no further


class Facts(BaseModel):
    """Frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(StrEnum):
    """What somebody says of a panel."""

    GOOD = "good"
    DEFECTIVE = "defective"
    LAB = "lab"


class State(StrEnum):
    """How a panel's review stands. Everything but `done` is still to be decided."""

    OPEN = "open"
    HALF = "half"  # one of two persons has spoken
    DISPUTED = "disputed"  # two have, and differ
    LAB = "lab"
    DONE = "done"


class Role(StrEnum):
    """Each may do what those before it may."""

    OPERATOR = "operator"
    QUALITY = "quality"
    ENGINEER = "engineer"
    ADMIN = "admin"


class Person(Facts):
    """Who is logged in."""

    name: Short
    role: Role

    def may(self, role: Role) -> bool:
        ranks = list(Role)
        return ranks.index(self.role) >= ranks.index(role)


class Session(Facts):
    """A log-in. `secret` goes into the cookie and nowhere else, `csrf` into the header of everything that changes."""

    person: Person
    secret: str
    csrf: str


# --- panels ---


class Standing(Facts):
    """What people have made of a panel so far."""

    state: State = State.OPEN
    finding: Finding | None = None  # where it is done: what counts
    code: Short = ""  # of the plant's tree
    by: Short = ""  # who spoke last
    at: Time | None = None
    votes: int = 0


class Row(Facts):
    """A panel as a list shows it."""

    token: str  # as in the ledger; `missed-...` for a trigger that was never seen
    station: str
    seq: int
    panel_id: str
    closed_at: Time
    outcome: Outcome
    fault: Fault | None
    product: str  # empty where the recipe is not known here
    score: float | None
    limit: float | None
    latency_ms: float | None
    defects: int
    thumbs: bool  # there is something to look at
    standing: Standing


class Page(Facts):
    """A part of a list; `next` asks for the part behind it, None at the end."""

    rows: list[Row]
    next: str | None


class DefectFacts(Facts):
    """One defect, by its box. Millimetres where the recipe knows its scale."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    area_px: int
    peak: float
    channels: list[str]  # that showed it, strongest first
    centre_x_mm: float | None
    centre_y_mm: float | None
    area_mm2: float | None


class PictureFacts(Facts):
    """One channel's picture; `name` asks for it. Lossless as long as policy keeps it, a thumbnail longer."""

    name: str  # <camera>_<channel>
    camera: str
    channel: str
    lossless: bool
    mean_grey: float | None  # in the picture's own digits


class Step(Facts):
    """A step of a panel's way: when it was recorded after its trigger, or how long it took in the inspector."""

    step: str
    after_ms: float | None
    took_ms: float | None


class Vote(Facts):
    """One person's finding. `n` is its record in the audit."""

    n: int
    by: str
    at: Time
    finding: Finding
    code: str
    comment: str
    undone: bool


class RecipeFacts(Facts):
    """What is known of a recipe without its folder."""

    recipe: str
    product: str
    channels: list[str]
    mm_per_px: float | None


class PanelFacts(Facts):
    """A panel with everything."""

    row: Row
    defects: list[DefectFacts]
    pictures: list[PictureFacts]
    width_px: int | None
    height_px: int | None
    has_map: bool
    kept_for: str  # reject, fault or sample; empty: nothing was kept
    lost: str  # why pictures that were to be kept are not there; empty: none are missing
    recipe: RecipeFacts
    calibration: str
    engine: str
    acknowledged: bool  # False: where the panel went is unknown
    ack_code: int | None  # 1 passed, 2 rejected by our result, 3 rejected by the PLC's own window
    ack_text: str
    fault_text: str
    steps: list[Step]
    votes: list[Vote]
    two_persons: bool  # this product needs two who agree


class Filter(Facts):
    """Which panels; what is not set does not narrow."""

    queue: Literal["rejects", "sample", "all"] = "rejects"  # sample: passed panels whose pictures were kept
    since: Time | None = None
    until: Time | None = None
    station: Short | None = None
    product: Annotated[str, StringConstraints(max_length=200, pattern=ANY)] | None = None
    cause: Short | None = None  # a fault's name, or DEFECT
    code: Short | None = None  # a class of the plant's tree, with those below it
    state: State | None = None
    finding: Finding | None = None


class Pulse(Facts):
    """What changes when there is something new to show; cheap to ask for every second."""

    newest: Time | None  # panel
    audit: int  # records
    open_rejects: int
    open_sample: int


class Again(Facts):
    """What the recipe now in use says of a panel's kept frames, beside what was recorded; kept nowhere."""

    recipe: str
    engine: str
    outcome: Outcome
    fault: Fault | None
    score: float | None  # None: no finite one
    limit: float
    defects: int


# --- decisions ---


class Wish(Facts):
    """A decision as it is asked for."""

    finding: Finding
    code: Short = ""
    comment: Text = ""


class Code(Facts):
    """A class of the plant's tree."""

    code: str
    text: str
    key: str  # 1 to 9, or empty
    under: list["Code"] = Field(default_factory=list)


class AuditRow(Facts):
    """One record of the audit; `hash` covers what was recorded and `prev`, the hash of the one before."""

    n: int
    at: Time
    who: str
    what: str
    subject: str  # a panel's token, an account's name
    panel: bool  # the subject is a panel that the store has
    panel_id: str  # its bar code; looked up, not of the record
    before: str
    after: str
    reason: str
    recipe: str
    station: str
    prev: str
    hash: str


class AuditPage(Facts):
    rows: list[AuditRow]  # newest first
    next: str | None


class AuditFilter(Facts):
    """Which records; what is not set does not narrow."""

    who: Short | None = None
    panel: Short | None = None  # bar code or token, or how they begin


class Chain(Facts):
    """What hashing every record of the audit again has found."""

    at: Time
    records: int
    signatures_checked: int  # of this station
    heads: int  # noted outside the store
    intact: bool
    first_broken: str | None
