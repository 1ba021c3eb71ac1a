"""THE process table: what runs on a line. How it is started and watched stands in `supervisor`."""

from dataclasses import dataclass

from pipeline.config import LineConfig


@dataclass(frozen=True)
class Stage:
    """One process. `part` tells stages of one module apart; `stops` orders the end of the line, 0 first.

    What is not `needed` never keeps the line from running, however often it falls. `nice` is added to what the line
    was started with: those of little work that others wait for go before the network, where the system allows it.
    """

    name: str
    module: str
    part: str = ""
    stops: int = 1
    needed: bool = True
    nice: int = 0


FIRST, AFTER, LAST = -5, 5, 19  # AFTER: the panel that waits for its verdict goes before those that are archived
BRIDGE = "pipeline.plc_bridge"
HALT = Stage("plc_halt", "pipeline.plc_halt")  # runs alone, after a bridge that did not end in order


def stages(config: LineConfig) -> list[Stage]:
    """The rows for one station."""
    simulated = [Stage("conveyor", "pipeline.conveyor", nice=FIRST)] if config.conveyor else []
    review = [Stage("review", "pipeline.review.app", needed=False, nice=LAST)] if config.station_review else []
    return [
        Stage("archiver", "pipeline.archiver", stops=2, nice=AFTER),
        Stage("plc_bridge", BRIDGE, stops=0, nice=FIRST),
        *simulated,
        *(Stage(inspector, "pipeline.inspector", inspector) for inspector in inspectors(config)),
        *(Stage(f"capture_{one.name}", "pipeline.capture", one.name, nice=FIRST) for one in config.cameras),
        *review,
    ]


def connecting(config: LineConfig) -> list[str]:
    """The stages that connect to the bridge or to an inspector, and show a key where that is not on this host."""
    return [*inspectors(config), *(f"capture_{camera.name}" for camera in config.cameras)]


def inspectors(config: LineConfig) -> list[str]:
    """Names of the inspectors, the one that the line starts with first; one at a time gets the panels."""
    return ["inspector", "inspector_standby"] if config.engine.standby else ["inspector"]
