"""Everything about a line file that can be known before a start."""

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from engines.recipe import Recipe
from engines.settings import checked
from pipeline import cameras, candidates, plcs, wishes
from pipeline.claim import claim
from pipeline.config import CameraConfig, LineConfig, check_timing
from pipeline.curve import curve_of, is_local
from pipeline.devices import camera_settings, conveyor_settings
from pipeline.engine_room import certified
from pipeline.errors import ConfigError
from pipeline.evidence import pool_shape, pools
from pipeline.frames import SHARED
from pipeline.refusals import check_channels, refuse
from pipeline.review import checking
from pipeline.scrape import metrics_said

EVERYWHERE = {"*": "0.0.0.0", "0.0.0.0": "0.0.0.0", "[::]": "::"}


def check_line(config: LineConfig) -> Iterator[str]:
    """What was found in order, a line each.

    Raises:
        TaktError: the first thing that would keep the line from running, and what to do about it.
    """
    state = _check_state(config.state)
    claim(config).close()  # first: a line that runs already also has its ports in use
    check_timing(config.timing, config.source)
    yield from wishes.said(config)
    loaded = {number: candidates.loaded(config, row.place) for number, row in wishes.resolved(config).items()}
    for recipe in loaded.values():
        check_channels(config, recipe)
    watching = [(camera, camera_settings(config, camera)) for camera in config.cameras]
    yield from refuse(config, loaded, [settings for _, settings in watching])
    yield from _engines(config, loaded)
    for camera, settings in watching:
        cameras.replayed(camera.kind, settings)
        _check_exposures(config, camera, cameras.gap_ms(camera.kind, settings))
        yield f"camera {camera.name}: {camera.kind}, {len(camera.channels)} channels, {camera.slots} slots"
    checked(plcs.driver(config.plc.kind).Settings, config.plc.settings, "plc.settings", ConfigError)
    yield f"plc: {config.plc.kind}"
    if config.conveyor:
        belt = conveyor_settings(config)
        _check_port(belt.host, belt.port, "conveyor.settings.port")
        if belt.least_ms < config.timing.takt_ms:
            raise ConfigError(
                f"conveyor.settings.takt_ms: panels may follow within {belt.least_ms} ms, three quarters of it, and"
                f" timing.takt_ms is {config.timing.takt_ms}: slow the conveyor, or lower timing.takt_ms"
            )
        yield f"conveyor: one panel every {belt.takt_ms} ms on {belt.host}:{belt.port}"
    yield from _check_bus(config)
    yield from checking.said(config)
    yield from metrics_said(config)
    yield from _check_memory(config)
    yield f"state: {state}"


def _engines(config: LineConfig, loaded: Mapping[int, Recipe]) -> Iterator[str]:
    for number, recipe in loaded.items():
        engine, certificate = certified(config, recipe)
        signed = f"signed by {recipe.signed_by}" if recipe.signed_by else "not signed"
        named = f"recipe {number}: {recipe.manifest.product} {recipe.hash[:12]}, {signed}"
        proved = f"certified {certificate.issued[:10]}" if certificate else "without certificate"
        yield f"{named}, engine {engine.key.hash[:12]} on {engine.key.device}, {proved}"


def _check_exposures(config: LineConfig, camera: CameraConfig, gap_ms: float | None) -> None:
    """A set's exposures in their window, and none begun after its end was thought to be seen."""
    if gap_ms is None:  # not known to the driver
        return
    timing, last_ms = config.timing, (len(camera.channels) - 1) * gap_ms
    if last_ms > timing.exposure_ms:
        raise ConfigError(
            f"camera {camera.name}: the last exposure begins {last_ms:g} ms after the edge, timing.exposure_ms is"
            f" {timing.exposure_ms}: raise it, or expose for a shorter time"
        )
    if timing.quiet_ms <= 2 * gap_ms:  # the next frame begins one gap later, and is delivered after another
        raise ConfigError(
            f"camera {camera.name}: an exposure begins every {gap_ms:g} ms, so a frame too many may come"
            f" {2 * gap_ms:g} ms after the last one began: set timing.quiet_ms above that ({timing.quiet_ms} now)"
        )


def _check_port(host: str, port: int, where: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"{where}: {host}:{port} cannot be used ({error.strerror}): name a free port") from None


def _check_bus(config: LineConfig) -> Iterator[str]:
    """Addresses that can be bound here, with keys where they reach beyond this host."""
    bus = config.bus
    curve = curve_of(config, "plc_bridge")
    for name, endpoint in {"outcomes": bus.outcomes, "control": bus.control, "images": bus.images}.items():
        if endpoint is None:
            continue
        host, port = _address(f"bus.{name}", endpoint)
        if curve is None and not is_local(endpoint):
            raise ConfigError(
                f"bus.{name}: {endpoint} is not loopback and there are no keys: takt keys {config.source}"
            )
        if name != "outcomes" and host in EVERYWHERE:
            raise ConfigError(f"bus.{name}: {endpoint}: stages connect to it: name one address of this host")
        if port and name != "images":  # the inspector may run on another host
            _check_port(EVERYWHERE.get(host, host.strip("[]")), port, f"bus.{name}")
        secured = curve is not None and endpoint in curve.domains
        yield f"{name}: {endpoint}{', CURVE: listed clients only' if secured else ''}"


def _address(name: str, endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if endpoint.startswith("tcp://") and host and port.isdecimal() and 0 < int(port) <= 0xFFFF:
        return host, int(port)
    if not endpoint.startswith("ipc://"):
        raise ConfigError(f"{name}: {endpoint!r} is no address; expected tcp://127.0.0.1:PORT or ipc://PATH")
    return "", 0


def _check_memory(config: LineConfig) -> Iterator[str]:
    slots, size = pool_shape(config)
    needed = sum(int(camera.slot_mb * 1e6) * camera.slots for camera in config.cameras)
    needed += slots * size * len(pools(config))
    stat = os.statvfs(SHARED)
    free = stat.f_bavail * stat.f_frsize
    if needed > free:
        raise ConfigError(
            f"the rings need {needed / 1e6:.0f} MB of shared memory, {free / 1e6:.0f} MB are free:"
            " lower cameras.slots, slot_mb or archive.slots"
        )
    yield f"shared memory: {needed / 1e6:.0f} MB of {free / 1e6:.0f} MB"


def _check_state(state: Path) -> Path:
    try:
        state.mkdir(parents=True, exist_ok=True)
        probe = state / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"state_dir {state}: {error.strerror}; choose another") from None
    return state
