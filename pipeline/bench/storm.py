"""The line of `takt bench faults`: tiny panels, two cameras, a network computed by hand, a window of 60 ms."""

import random
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.config import LineConfig
from pipeline.simulation.panel import Look
from pipeline.simulation.plan import Plan, derived_seed

FRAME_PX = 64
CHANNELS = ("dark_left_surface", "dark_left_pixel", "dark_right_surface", "dark_right_pixel")
LOOK = Look(height=FRAME_PX, width=FRAME_PX, bezel_px=2, shift_px=1.0, noise=0.5)
PLAN = Plan(kinds=("dust",), defect_scale=3.0, pool_good=8, pool_defective=8, defective_share=0.3)
RECIPE = Path(__file__).parent / "recipe"
WINDOW_MS, MARGIN_MS = 60, 8
CAMERAS = {"left": CHANNELS[:2], "right": CHANNELS[2:]}
STAGES = ("archiver", "plc_bridge", "inspector", "capture_left", "capture_right")
RELAYED = ("inspector", "capture_left", "capture_right")  # those that a black hole can part from the bridge
PROCESS_KINDS = ("kill", "stop", "hole")
GAP_MS, EXPOSURE_MS = 1.5, 2  # from exposure to exposure; all of a set begin within
BLIND_KINDS = ("drop_frames", "miss_exposures", "extra_frames", "fail_at")  # of one frame
PIXEL_KINDS = (*BLIND_KINDS, "empty_fields")
OUTAGE_S = (0.2, 2.0)  # of a stop or a black hole
Spots = dict[str, list[tuple[int, int]]]  # kind of pixel fault -> panel and channel


class Storm(BaseModel):
    """What is asked of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    triggers: Annotated[int, Field(ge=1)] = 100_000
    takt_ms: Annotated[int, Field(ge=12)] = 18
    rate: Annotated[float, Field(ge=0, le=0.05)] = 0.01  # of every kind, of the messages or panels that it suits
    process_faults: Annotated[int, Field(ge=0)] = 50
    hold_ms: Annotated[int, Field(ge=0, le=WINDOW_MS)] = 40  # verdicts wait for up to so long on the way
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class ProcessFault:
    """What happens to which stage, once so many panels were triggered."""

    at_trigger: int
    kind: str
    stage: str
    seconds: float


def pixel_faults(storm: Storm) -> dict[str, Spots]:
    """By camera. An empty field is empty below all cameras; every other fault hits one frame of one camera."""
    rng = random.Random(derived_seed("pixels", storm.seed))
    found: dict[str, Spots] = {camera: {} for camera in CAMERAS}
    for panel in range(storm.triggers):
        for kind in PIXEL_KINDS:
            if rng.random() >= storm.rate:
                continue
            if kind == "empty_fields":
                spots = [(camera, channel) for camera, names in CAMERAS.items() for channel in range(len(names))]
            else:
                camera = rng.choice(list(CAMERAS))
                spots = [(camera, rng.randrange(len(CAMERAS[camera])))]
            for camera, channel in spots:
                found[camera].setdefault(kind, []).append((panel, channel))
    return found


def process_faults(storm: Storm) -> list[ProcessFault]:
    """One in each equal part of the run, at a random moment of it; kinds and stages take turns."""
    rng = random.Random(derived_seed("processes", storm.seed))
    part = storm.triggers / max(storm.process_faults, 1)
    turns = [(kind, stage) for kind in PROCESS_KINDS for stage in (RELAYED if kind == "hole" else STAGES)]
    found = []
    for number in range(storm.process_faults):
        if number % len(turns) == 0:
            rng.shuffle(turns)
        at_trigger = int((number + 0.1 + 0.6 * rng.random()) * part)
        found.append(ProcessFault(at_trigger, *turns[number % len(turns)], round(rng.uniform(*OUTAGE_S), 2)))
    return found


def line(storm: Storm, state: Path) -> LineConfig:
    """The line's settings: everything of its own below `state`, ports that are free now."""
    faults, plc_port = pixel_faults(storm), free_port()
    table: dict[str, Any] = {
        "format": 1,
        "station": "storm",
        "state_dir": state.resolve(),
        "allow": ["unsigned_recipe"],  # it ships with takt and decides about simulated panels
        "recipes": {"1": RECIPE},
        "engine": {"threads": 1, "max_batch": 4},
        "timing": _timing(storm),
        "cameras": [_camera(name, faults[name]) for name in CAMERAS],
        "plc": {"kind": "modbus", "settings": {"port": plc_port}},
        "conveyor": {
            "settings": {
                "takt_ms": storm.takt_ms,
                "window_ms": WINDOW_MS,
                "panels": storm.triggers,
                "port": plc_port,
            }
        },
        "archive": {"sample_passes": 1.0, "slots": 128},
        "bus": {"outcomes": f"tcp://127.0.0.1:{free_port()}"},
        "supervisor": {"restarts": 10 + 2 * storm.process_faults, "restart_window_s": 3600, "silent_s": 5},
        "source": state.resolve() / "line.toml",
    }
    config = LineConfig.model_validate(table)
    bus = config.bus.model_copy(update={"control_bind": config.socket("control-bridge")})
    return config.model_copy(update={"bus": bus})


def _timing(storm: Storm) -> dict[str, int]:
    """The windows are as wide as they may be."""
    takt_ms = storm.takt_ms * 3 // 4  # the belt's least
    return {
        "window_ms": WINDOW_MS,
        "margin_ms": MARGIN_MS,
        "takt_ms": takt_ms,
        "early_ms": takt_ms - EXPOSURE_MS - 1,
        "exposure_ms": EXPOSURE_MS,
        "settle_ms": 20,
        "quiet_ms": 5,
        "poll_ms": 1,
        "ack_ms": 200,
        "stall_ms": 300,
    }


def _camera(name: str, faults: Spots) -> dict[str, Any]:
    own = {"plan": PLAN.model_dump(), "look": LOOK.model_dump(), "exposure_ms": GAP_MS, "faults": faults}
    small = {"slots": 16, "slot_mb": 0.02}
    return {"name": name, "kind": "simulated", "channels": CAMERAS[name], "settings": own} | small


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
