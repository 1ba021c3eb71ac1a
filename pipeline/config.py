"""THE settings: one TOML file, read once, frozen. The only module that reads the environment."""

import os
import tempfile
from hashlib import blake2s
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

from engines.settings import checked, read_toml
from pipeline.errors import ConfigError

FORMAT = 1
Positive = Annotated[int, Field(gt=0)]
StageName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")]
Weakness = Literal["same_product", "small_zones", "unproven_recipe", "unsigned_recipe"]
LaxPath = Annotated[Path, Strict(False)]


class Settings(BaseModel):
    """Frozen, no unknown keys, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class CameraConfig(Settings):
    """One camera with its lights, one process, one ring."""

    name: StageName
    kind: str
    channels: Annotated[tuple[str, ...], Strict(False), Field(min_length=1)]
    slots: Annotated[int, Field(ge=2, le=256)] = 8  # image sets that may wait or be under inspection
    slot_mb: Annotated[float, Field(gt=0)] = 4.0  # room for one image set, all channels
    carrier: Literal["ring", "frames"] = "ring"  # frames: pixels travel over ZeroMQ, for another host
    lease_ms: Positive = 10_000  # a slot comes back after this when its reader died
    settings: dict[str, Any] = Field(default_factory=dict)


class EngineConfig(Settings):
    """Which compiled network inspects."""

    runtime: str = "onnxruntime"
    precision: Literal["fp32", "bf16", "fp16", "int8", "fp8"] = "fp32"
    threads: Positive = 2
    max_batch: Positive = 8
    smaller_batch: bool = (
        False  # takt build may take half the batch, and half again, where a card's memory is too small
    )
    standby: bool = False  # a second inspector, engine loaded, takes over at once; costs its memory a second time


class SigningConfig(Settings):
    """Who may vouch for this line's recipes."""

    # public keys as `takt sign` prints them: files, or folders of *.pub.pem
    trusted: Annotated[tuple[LaxPath, ...], Strict(False)] = ()


class TimingConfig(Settings):
    """How long the line waits for what, counted from the trigger edge unless said otherwise."""

    window_ms: Positive = 1000  # a verdict later than this is late; the PLC's own window wins if it is shorter
    margin_ms: Positive = 40  # the reject is written this long before the window ends
    # exposure_ms with early_ms, and with quiet_ms, stays below takt_ms, or one's pictures may be another's
    takt_ms: Positive = 350  # the least time between two panels; nearer ones are faults where pictures may be mixed
    early_ms: Positive = 100  # an exposure may begin this long before the bridge sees the edge; seen later: fault
    exposure_ms: Positive = 200  # all exposures of a set lie inside this
    settle_ms: Positive = 100  # read-out: a frame may arrive this long after its exposure
    quiet_ms: Positive = 10  # no frame for this long after a set's last exposure began: the set is over
    poll_ms: Positive = 2  # pause between two looks at the PLC
    ack_ms: Positive = 500  # the PLC acknowledges within this after the window, else UNACKNOWLEDGED
    # no heartbeat when the inspector's last loop turn is older; not set: twice its largest batch, 400 to window_ms
    stall_ms: Positive | None = None

    def at_takt(self, takt_ms: int) -> "TimingConfig":
        """The same with windows that fit panels which follow as fast as this; never wider ones."""
        early_ms = min(self.early_ms, takt_ms - self.exposure_ms - 1)
        return self.model_copy(update={"takt_ms": min(self.takt_ms, takt_ms), "early_ms": early_ms})


class PlcConfig(Settings):
    """The PLC's driver."""

    kind: str = "modbus"
    settings: dict[str, Any] = Field(default_factory=dict)


class ConveyorConfig(Settings):
    """The simulated PLC and belt, a process of its own; leave it out where a real PLC is connected."""

    settings: dict[str, Any] = Field(default_factory=dict)


Share = Annotated[float, Field(ge=0, le=1)]


class KeepConfig(Settings):
    """How long pictures are kept; what the ledger and people said of a panel is never deleted."""

    reject_days: Positive = 180
    fault_days: Positive = 30
    sample_days: Positive = 180
    thumb_days: Positive = 730  # small pictures, of all of these
    # lossless pictures of a day, UTC; what is more goes: of faults, of the sample, of rejects, decided ones first
    daily_gb: Annotated[float, Field(gt=0)] | None = None


class StoreConfig(Settings):
    """Where panels are kept as a table."""

    url: str | None = None  # postgresql://USER@HOST/DATABASE; not set: a file in the state folder


class ReviewConfig(Settings):
    """The review station, a process of the line where this table stands in the line file and is enabled."""

    enabled: bool = True
    address: str = "127.0.0.1"  # another one needs TLS and an account, see `takt users`
    port: Annotated[int, Field(ge=1, le=65_535)] = 5600
    certificate: LaxPath | None = None  # TLS, PEM; with its private key
    private_key: LaxPath | None = None
    names: Annotated[tuple[str, ...], Strict(False)] = ()  # host names that browsers reach it by, besides `address`
    codes: LaxPath | None = None  # the plant's defect classes, see `takt review --help`
    two_persons: Annotated[tuple[str, ...], Strict(False)] = ()  # products whose findings need two who agree
    overrule_role: Literal["operator", "quality", "engineer"] = "operator"  # who may call a reject good
    idle_min: Positive = 60  # a log-in ends after so long without a click
    lock_after: Positive = 5  # wrong passwords in a row
    lock_min: Positive = 15


class ArchiveConfig(Settings):
    """What is kept of every panel."""

    sample_passes: Share = 0.02  # share of passed panels kept with pixels, so that escapes can be counted
    sample_recipes: dict[str, Share] = Field(default_factory=dict)  # the PLC's recipe number -> a share of its own
    keep: KeepConfig = KeepConfig()
    slots: Annotated[int, Field(ge=2, le=256)] = 6  # panels whose evidence may wait for the disk
    required: bool = False  # evidence and store must be written, else the line is not ready
    anchor_s: Positive = 60  # how often the ledger's count and head are signed


class BusConfig(Settings):
    """Where the line's sockets are; what is not loopback needs keys, see `takt keys`."""

    outcomes: str = "tcp://127.0.0.1:5570"  # where third parties listen
    control: str | None = None  # tcp://ADDRESS:PORT of the bridge, where stages run on another host
    images: str | None = None  # tcp://ADDRESS:PORT of the inspector, where a camera is on another host
    control_bind: str | None = None  # where the bridge binds, if a relay stands between it and its stages


class MetricsConfig(Settings):
    """What Prometheus reads: one port a process, on this host's loopback only."""

    enabled: bool = True
    first_port: Annotated[int, Field(ge=1024, le=65_000)] = 5580  # the supervisor's; takt check lists the others


class LogConfig(Settings):
    """How much of the logs is kept, of every process."""

    max_mb: Annotated[float, Field(gt=0)] = 10.0  # a file's size, before the next one is begun
    keep: Annotated[int, Field(ge=1, le=100)] = 4  # files besides the newest


class SupervisorConfig(Settings):
    """How often a stage may come back before the line stops."""

    restarts: Annotated[int, Field(ge=0)] = 5
    restart_window_s: Positive = 60
    silent_s: Positive = 10  # a stage that says nothing for this long is killed and started again
    start_s: Positive = 60  # importing, opening devices and loading engines may take this long


class LineConfig(Settings):
    """One station."""

    format: Literal[1]
    station: StageName
    state_dir: LaxPath | None = None
    allow: Annotated[tuple[Weakness, ...], Strict(False)] = ()  # see `refusals`
    recipes: dict[str, LaxPath] = Field(min_length=1)  # the PLC's recipe number -> recipe folder
    signing: SigningConfig = SigningConfig()
    engine: EngineConfig = EngineConfig()
    timing: TimingConfig = TimingConfig()
    cameras: Annotated[tuple[CameraConfig, ...], Strict(False), Field(min_length=1)]
    plc: PlcConfig = PlcConfig()
    conveyor: ConveyorConfig | None = None
    archive: ArchiveConfig = ArchiveConfig()
    store: StoreConfig = StoreConfig()
    review: ReviewConfig | None = None
    bus: BusConfig = BusConfig()
    metrics: MetricsConfig = MetricsConfig()
    logs: LogConfig = LogConfig()
    supervisor: SupervisorConfig = SupervisorConfig()
    source: LaxPath = Path()  # the file this came from; set by `load`

    @property
    def state(self) -> Path:
        """Ledger, store, spool, cache and logs of this station."""
        return self.under(self.state_dir) if self.state_dir else data_home() / self.station

    def under(self, path: Path) -> Path:
        """`path`, taken from the line file's folder unless it is absolute."""
        return (self.source.parent / path.expanduser()).resolve()

    @property
    def ledger(self) -> Path:
        return self.state / "ledger"

    @property
    def station_review(self) -> ReviewConfig | None:
        """The review station that runs with the line; None: none does."""
        return self.review if self.review and self.review.enabled else None

    @property
    def lock(self) -> Path:
        """Held locked by the supervisor that runs this line."""
        return self.state / "running"

    @property
    def run_id(self) -> str:
        """Names this line's sockets and shared memory; the same after a crash, so that leftovers are found."""
        return f"{os.getuid()}-{blake2s(os.fspath(self.state).encode(), digest_size=5).hexdigest()}"

    @property
    def run_dir(self) -> Path:
        """Sockets; short, because a socket's path holds 107 characters at most."""
        return Path(tempfile.gettempdir()) / f"takt-{self.run_id}"

    def socket(self, name: str) -> str:
        """The endpoint `control`, `images-<inspector>`, `evidence` or `health-<stage>`."""
        elsewhere = {"control": self.bus.control, "images": self.bus.images}.get(name.partition("-")[0])
        return elsewhere or f"ipc://{self.run_dir}/{name}"

    @property
    def bridge_socket(self) -> str:
        """Where the bridge binds; its stages connect to `socket("control")`."""
        return self.bus.control_bind or self.socket("control")

    def wire(self, camera: str) -> Path:
        """The simulated trigger wire of a camera."""
        return self.run_dir / f"wire-{camera}"

    def ring(self, name: str) -> str:
        return f"takt-{self.run_id}-{name}"

    def camera(self, name: str) -> CameraConfig:
        return next(camera for camera in self.cameras if camera.name == name)

    def sampled(self, recipe_no: int) -> float:
        """Share of the passes by this recipe that are kept with pixels."""
        return self.archive.sample_recipes.get(str(recipe_no), self.archive.sample_passes)

    def recipe_paths(self) -> dict[int, Path]:
        return {int(number): self.under(path) for number, path in self.recipes.items()}


def signing_folder() -> Path:
    """Where a user's own key to sign recipes with is kept; no station can have that name."""
    return data_home() / "signing-key"


def load(path: Path) -> LineConfig:
    """The only function that reads settings.

    Raises:
        ConfigError: one line that names file, key and remedy.
    """
    raw = read_toml(path, str(path), ConfigError, f"; takt new {path} writes one")
    if isinstance(raw.get("format"), int) and raw["format"] > FORMAT:
        raise ConfigError(f"{path}: format {raw['format']} is newer than {FORMAT}: update takt")
    config = checked(LineConfig, raw | {"source": path.resolve()}, str(path), ConfigError)
    _check_names(config, path)
    return config


def _check_names(config: LineConfig, path: Path) -> None:
    names = [camera.name for camera in config.cameras]
    if len(set(names)) < len(names):
        raise ConfigError(f"{path}: two cameras have the same name: {', '.join(sorted(names))}")
    taken = sorted({"evidence", "map"} & set(names))  # a ring, and a file among a panel's evidence
    if taken:
        raise ConfigError(f"{path}: cameras: {taken[0]!r} is taken by the line itself: give the camera another name")
    for camera in config.cameras:
        if len(set(camera.channels)) < len(camera.channels):
            raise ConfigError(f"{path}: camera {camera.name}: two channels have the same name")
    if config.engine.standby and config.bus.images:
        raise ConfigError(f"{path}: engine.standby: both inspectors would bind bus.images: take one of the two out")
    _check_recipe_numbers(config, path)
    check_timing(config.timing, path)


def check_timing(timing: TimingConfig, path: Path) -> None:
    """Times that contradict each other: nothing would pass, or pictures could be mixed up."""
    if timing.margin_ms >= timing.window_ms:
        raise ConfigError(f"{path}: timing.margin_ms must be below window_ms, else nothing passes in time")
    for name, ms in {"early_ms": timing.early_ms, "quiet_ms": timing.quiet_ms}.items():
        if timing.exposure_ms + ms >= timing.takt_ms:
            raise ConfigError(
                f"{path}: timing.exposure_ms + {name} is {timing.exposure_ms + ms} and must be below takt_ms"
                f" ({timing.takt_ms}), else a panel's pictures may be the next one's: lower them, or set takt_ms to"
                " the least time between two panels"
            )


def _check_recipe_numbers(config: LineConfig, path: Path) -> None:
    seen: set[int] = set()
    for number in config.recipes:
        if not number.isdecimal() or int(number) > 0xFFFF:
            raise ConfigError(f"{path}: recipes.{number}: a recipe number is 0 to 65535, as the PLC sends it")
        if int(number) in seen:
            raise ConfigError(f"{path}: recipes.{number}: two recipes have the number {int(number)}")
        seen.add(int(number))
    for number in config.archive.sample_recipes.keys() - config.recipes.keys():
        raise ConfigError(f"{path}: archive.sample_recipes.{number}: no recipe has that number: write it as in recipes")


def data_home() -> Path:
    """The user's data folder, where nothing else is named."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "takt"
