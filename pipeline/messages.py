"""THE schema: every message, outcome and fault, and the table of topics.

On the wire a message is one MessagePack map (`Envelope`); pixels never travel inside it. A field that binds a
verdict to its panel has no default, so that it cannot be forgotten. All `_ns` values are the sender's
monotonic clock: they mean something on the sender's host only, and no decision rests on them.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict

FORMAT = 1


class Outcome(StrEnum):
    """What became of a panel. PASS is the positive result of a complete inspection and nothing else."""

    PASS = "PASS"
    REJECT = "REJECT"


class Fault(StrEnum):
    """Why a panel is a reject although its pixels were not found defective; see `FAULTS`."""

    LATE = "LATE"
    NOT_CAPTURED = "NOT_CAPTURED"
    INCOMPLETE = "INCOMPLETE"
    ASSOCIATION = "ASSOCIATION"
    RING_FULL = "RING_FULL"
    OVERRUN = "OVERRUN"
    GEOMETRY = "GEOMETRY"
    CORRUPT = "CORRUPT"
    CAMERA = "CAMERA"
    UNROUTABLE = "UNROUTABLE"
    RECIPE = "RECIPE"
    MISMATCH = "MISMATCH"
    CONFLICT = "CONFLICT"
    ENGINE = "ENGINE"
    IMPLAUSIBLE = "IMPLAUSIBLE"
    UNACKNOWLEDGED = "UNACKNOWLEDGED"
    MISSED_TRIGGER = "MISSED_TRIGGER"
    CRASH = "CRASH"
    PLC_LOST = "PLC_LOST"
    LEDGER = "LEDGER"
    STOPPED = "STOPPED"
    REFUSED = "REFUSED"
    CHANNEL_ORDER = "CHANNEL_ORDER"
    LAMP = "LAMP"
    TORN = "TORN"
    REPEAT = "REPEAT"
    EXPOSURE = "EXPOSURE"
    FOCUS = "FOCUS"
    CAMERA_MOVED = "CAMERA_MOVED"
    NO_PANEL = "NO_PANEL"
    DISPLACED = "DISPLACED"


@dataclass(frozen=True)
class FaultText:
    """A fault's number in the PLC's register (never reused) and what an operator reads."""

    number: int
    text: str


FAULTS = {
    Fault.LATE: FaultText(1, "No verdict inside the window. Slow the line, or widen window_ms."),
    Fault.NOT_CAPTURED: FaultText(2, "A camera did not report. Check its cable, its trigger and its process."),
    Fault.INCOMPLETE: FaultText(3, "Frames of the image set are missing. Check camera trigger and lights."),
    Fault.ASSOCIATION: FaultText(4, "Frames and triggers do not pair up. Both neighbours were rejected."),
    Fault.RING_FULL: FaultText(5, "No free image buffer. The inspector is too slow or the camera's slots are too few."),
    Fault.OVERRUN: FaultText(6, "The inspector still had its queue full. Slow the line or add an inspector."),
    Fault.GEOMETRY: FaultText(7, "The frames do not have the size, depth or count that the recipe expects."),
    Fault.CORRUPT: FaultText(8, "Pixels changed between camera and inspector. Check memory and network."),
    Fault.CAMERA: FaultText(9, "The camera reported an error. Check cable, light and camera."),
    Fault.UNROUTABLE: FaultText(10, "No inspector or no camera process is there. The supervisor restarts it."),
    Fault.RECIPE: FaultText(11, "The PLC asked for a recipe number that the line file does not list."),
    Fault.MISMATCH: FaultText(12, "The verdict belongs to other pixels, recipe, calibration or engine."),
    Fault.CONFLICT: FaultText(13, "Two differing verdicts, or the PLC acknowledged what was not written."),
    Fault.ENGINE: FaultText(14, "The network gave no usable answer. See the inspector's log; teach the recipe again."),
    Fault.IMPLAUSIBLE: FaultText(15, "The score is below anything a real panel gives. Check lights and engine."),
    Fault.UNACKNOWLEDGED: FaultText(16, "The PLC did not acknowledge. Where the panel went is unknown: check."),
    Fault.MISSED_TRIGGER: FaultText(17, "The PLC counted a trigger that was never seen here. Check the network."),
    Fault.CRASH: FaultText(18, "The bridge stopped while the panel was open. Where it went is unknown: check."),
    Fault.PLC_LOST: FaultText(19, "The connection to the PLC was lost while the panel was open."),
    Fault.LEDGER: FaultText(20, "The ledger cannot be written. Free the disk: no panel passes until then."),
    Fault.STOPPED: FaultText(21, "The line was being stopped while the panel was open."),
    Fault.REFUSED: FaultText(22, "The PLC refused a pass by its own guard: heartbeat, state, check word or recipe."),
    Fault.CHANNEL_ORDER: FaultText(23, "Frames lie in each other's places. Check the order of lights and channels."),
    Fault.LAMP: FaultText(24, "A light is out or dim; the log names its channels. Check lamp and controller."),
    Fault.TORN: FaultText(25, "A frame is made of two exposures; the log names it. Check the camera's link."),
    Fault.REPEAT: FaultText(26, "Frames of an earlier panel came again. Restart the camera; check its trigger."),
    Fault.EXPOSURE: FaultText(27, "The set is too bright or too dark. Check exposure time, gain and aperture."),
    Fault.FOCUS: FaultText(28, "Pictures are blurred; the log names the channels. Check focus and vibration."),
    Fault.CAMERA_MOVED: FaultText(29, "The view has moved. Check the camera's mount, align it, or teach again."),
    Fault.NO_PANEL: FaultText(30, "No panel below the camera, or every light is out. Check photo-eye and lights."),
    Fault.DISPLACED: FaultText(31, "The panel does not lie where it was taught. Check stops and conveyor."),
}


class Message(BaseModel):
    """Frozen, no unknown fields, no silent conversion of numbers, booleans or strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=True)


LaxFault = Annotated[Fault, Strict(False)]
LaxOutcome = Annotated[Outcome, Strict(False)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Token = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0)]
Sequence = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]


class Trigger(Message):
    """From the bridge, once for every panel, to the station's captures and to the assigned inspector."""

    station: Name
    token: Token
    seq: Sequence  # the PLC's own count
    panel_id: str
    recipe_no: Count
    recipe: str  # content hash the bridge expects; empty for a number that it does not know
    inspector: Name | None  # None: the panel is a reject already; its frames are taken and given back
    cameras: Annotated[tuple[Name, ...], Strict(False), Field(min_length=1)]
    edge_ns: Count
    window_ms: Count


class Frames(Message):
    """Where one camera's set lies: a ring slot on this host, or the frames behind the envelope."""

    shape: Annotated[tuple[Count, ...], Strict(False)]  # channels, height, width
    dtype: Annotated[str, Field(pattern=r"^uint(8|16)$")]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]  # xxh3-128 of the pixels
    ring: str | None = None  # None: the pixels follow as ZeroMQ frames
    slot: Count | None = None
    generation: Count | None = None


class Captured(Message):
    """From a capture to the bridge, once for every trigger: the frames it has, or why it has none."""

    station: Name
    token: Token
    camera: Name
    frame_ids: Annotated[tuple[Count, ...], Strict(False)]
    digest: str  # empty exactly when there is a fault
    exposed_ns: Count
    ready_ns: Count
    fault: LaxFault | None = None


class ImageSet(Message):
    """From a capture to the assigned inspector: one camera's set of one panel."""

    station: Name
    token: Token
    camera: Name
    frames: Frames
    exposed_ns: Count
    ready_ns: Count
    refused: LaxFault | None = None  # no set to inspect: the first of its frames, for evidence alone


class Defect(Message):
    """One connected region above the pixel limit, in pixels of the panel's own frames."""

    x: Count
    y: Count
    width: Count
    height: Count
    area_px: Count
    peak: float
    channels: Annotated[tuple[str, ...], Strict(False)] = ()


class LowMask(Message):
    """The defect mask at the map's own resolution, bits packed row by row; at most 32 kB."""

    height: Count
    width: Count
    bits: Annotated[bytes, Field(max_length=32_768)]


class Timing(Message):
    """When the parts of an inspection were done; `_took_ns` is how long one took, of the whole batch. 0: not told."""

    joined_ns: Count  # the last camera's set was there
    started_ns: Count  # the batch's turn came
    network_ns: Count  # what follows the checks is done, maps and findings included
    decided_ns: Count
    ready_ns: Count = 0  # the last set was complete and known to be this panel's; the captures' clock
    checked_ns: Count = 0  # digests and integrity
    prepare_took_ns: Count = 0  # correction and gather into the batch
    run_took_ns: Count = 0  # the network by itself, with the copies to its device and back
    stitch_took_ns: Count = 0  # golden defect's answer, maps of tiles put together


class Verdict(Message):
    """From the inspector to the bridge, once for every panel, before any evidence."""

    station: Name
    token: Token
    inspector: Name
    outcome: LaxOutcome
    fault: LaxFault | None
    digest: str  # of all cameras' sets, see `combined_digest`; empty if there were none
    recipe: str
    calibration: str
    engine: str
    score: float  # nan where nothing was scored
    limit: float
    defects: Annotated[tuple[Defect, ...], Strict(False), Field(max_length=64)]
    mask: LowMask | None
    batch: Count
    timing: Timing


class Evidence(Message):
    """From the inspector to the archiver: pixels of a reject, a fault or a sampled pass."""

    station: Name
    token: Token
    seq: Sequence
    panel_id: str
    reason: Annotated[str, Field(pattern=r"^(reject|fault|sample)$")]
    cameras: Annotated[tuple[Name, ...], Strict(False)]
    frames: Annotated[tuple[Frames, ...], Strict(False)]  # one per camera
    map: Frames | None  # anomaly map as float16 bits viewed as uint16, [1, h, w]
    dropped: Annotated[str, Field(max_length=64)] = ""  # why no pixels come; there are no frames then


class FinalOutcome(Message):
    """From the bridge, once for every trigger: what the PLC acknowledged. The one topic for third parties."""

    station: Name
    token: str  # empty for a trigger that was never seen here
    seq: Sequence
    panel_id: str
    outcome: LaxOutcome
    fault: LaxFault | None
    acknowledged: bool  # False: where the panel went is unknown
    score: float
    limit: float
    defects: Annotated[tuple[Defect, ...], Strict(False)]
    recipe: str
    calibration: str
    engine: str
    latency_ms: float  # trigger edge to the PLC's acknowledgement; nan without one


class RecipeAt(Message):
    """A recipe and the folder that it lies in."""

    recipe: str
    path: str
    used: bool  # panels may name it; else it is to take over, or was used before
    coming: bool = False  # it is to take over: who holds it shows first that it can


class Wanted(Message):
    """From the bridge to the inspectors, on a change and now and then: the recipes to hold open, and no others."""

    station: Name
    recipes: Annotated[tuple[RecipeAt, ...], Strict(False), Field(min_length=1)]  # in the order of their need


class Loaded(Message):
    """A recipe that an inspector holds open, warm and proven: what its verdicts would name."""

    recipe: str
    calibration: str
    engine: str


class Refusal(Message):
    """A recipe that an inspector was to open and does not take."""

    recipe: str
    why: Annotated[str, Field(max_length=400)]


class Presence(Message):
    """From captures and inspectors to the bridge, at every loop turn and at least every 50 ms."""

    station: Name
    stage: Name
    role: Annotated[str, Field(pattern=r"^(capture|inspector)$")]
    ready: bool
    pid: Count = 0  # of a process whose end can be watched on its host; 0: not known
    credits: Count = 0  # panels an inspector takes now
    batch_ms: Count = 0  # what an inspector's largest batch took at most when its engines were warmed
    loaded: Annotated[tuple[Loaded, ...], Strict(False)]  # empty for a capture
    refused: Annotated[tuple[Refusal, ...], Strict(False)] = ()


class Health(Message):
    """From every stage to whoever watches: it is alive, what it does, what it counted."""

    stage: Name
    pid: Count
    state: Annotated[str, Field(pattern=r"^(starting|waiting|ready|error|finished)$")]
    text: str = ""
    counters: dict[str, int | float] = Field(default_factory=dict)


class Envelope(Message):
    """What lies on the wire: who says it, when, how many before it, and the message as `body`."""

    format: int
    topic: str
    source: Name
    sequence: Count  # of this source to this peer on this topic, from 0
    sent_ns: Count
    body: dict[str, Any]


@dataclass(frozen=True)
class Topic:
    """One row of the table: what flows and how much may queue. Who listens watches its age by a clock of its own."""

    type: type[Message]
    queue: int
    max_bytes: int
    behind: int = 0  # frames of pixels that may follow the envelope


TOPICS = {
    "triggers": Topic(Trigger, queue=64, max_bytes=4_096),
    "captured": Topic(Captured, queue=64, max_bytes=4_096),
    "images": Topic(ImageSet, queue=1, max_bytes=8_192, behind=1),
    "verdicts": Topic(Verdict, queue=64, max_bytes=65_536),
    "presence": Topic(Presence, queue=64, max_bytes=32_768),
    "recipes": Topic(Wanted, queue=16, max_bytes=32_768),
    "evidence": Topic(Evidence, queue=4, max_bytes=16_384),
    "outcomes": Topic(FinalOutcome, queue=256, max_bytes=65_536),
    "health": Topic(Health, queue=16, max_bytes=16_384),
}
