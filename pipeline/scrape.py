"""Shows a process's metrics to Prometheus: HTTP on loopback, one port a process, and the list of these ports."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pipeline.config import LineConfig
from pipeline.errors import ConfigError
from pipeline.log import logger
from pipeline.metrics import BUCKETS_S, COMMON, SERIES, SUPERVISOR, Kind, Labels, Metrics, Reading, Series, Spread
from pipeline.stages import stages
from pipeline.whole import put_text

LOG = logger("scrape")
HOST = "127.0.0.1"
TURN_S = 0.2
PATIENCE_S = 2.0  # for a client that connects and asks for nothing
FAMILIES = {Kind.COUNTER: CounterMetricFamily, Kind.GAUGE: GaugeMetricFamily}
BOUNDS = [*(repr(bound) for bound in BUCKETS_S), "+Inf"]


def ports(config: LineConfig) -> dict[str, int]:
    """The port of every process: the supervisor's first, then those of the process table in its order."""
    names = [SUPERVISOR, *(stage.name for stage in stages(config))]
    return {name: config.metrics.first_port + index for index, name in enumerate(names)}


def metrics_said(config: LineConfig) -> Iterator[str]:
    """Where to scrape, or which ports are taken: a line runs without them.

    Raises:
        ConfigError: one of them is the port of another part of this line, which would not start then.
    """
    if not config.metrics.enabled:
        return
    ours = ports(config)
    for port in _ports_of_the_line(config) & set(ours.values()):
        raise ConfigError(f"metrics.first_port: {port} is this line's own already: {_range(ours)} must be free")
    taken = [name for name, port in ours.items() if not _free(port)]
    if taken:
        yield f"metrics: no scrape of {', '.join(taken)}: {_range(ours)} must be free: set metrics.first_port"
    else:
        yield f"metrics: http://{HOST}:{ours[SUPERVISOR]}/metrics; {_range(ours)}, listed in {targets_path(config)}"


def _range(ours: dict[str, int]) -> str:
    return f"ports {min(ours.values())} to {max(ours.values())}"


def _ports_of_the_line(config: LineConfig) -> set[int]:
    bus = config.bus
    addresses = [address for address in (bus.outcomes, bus.control, bus.images, bus.control_bind) if address]
    said = [address.rpartition(":")[2] for address in addresses]
    simulated = [config.plc.settings.get("port")] if config.conveyor else []
    review = {config.station_review.port} if config.station_review else set()
    return review | {int(port) for port in said if port.isdecimal()} | {port for port in simulated if type(port) is int}


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def targets_path(config: LineConfig) -> Path:
    return config.state / "metrics_targets.json"


def write_targets(config: LineConfig) -> None:
    """The ports as Prometheus reads them (`file_sd_configs`). It stays when the line is down: down is to be seen."""
    if not config.metrics.enabled:
        targets_path(config).unlink(missing_ok=True)
        return
    groups = [
        {"targets": [f"{HOST}:{port}"], "labels": {"station": config.station, "stage": name}}
        for name, port in ports(config).items()
    ]
    try:
        put_text(targets_path(config), json.dumps(groups, indent=1) + "\n")
    except OSError as error:
        LOG.warning("the list of metrics ports cannot be written", extra={"why": str(error)})


def host_reading(config: LineConfig) -> Callable[[], Reading]:
    """What a scrape finds of the host: room on the disks, how far the wall clock was set, which takt this is."""
    began_s, number = time.time() - time.monotonic(), version("takt")

    def reading() -> Reading:
        disks = {(path.name,): os.statvfs(path) for path in (config.state, config.ledger) if path.exists()}
        return {
            "disk_free": {labels: disk.f_bavail * disk.f_frsize for labels, disk in disks.items()},
            "disk_size": {labels: disk.f_blocks * disk.f_frsize for labels, disk in disks.items()},
            "clock_set": time.time() - time.monotonic() - began_s,
            "version": {(number,): 1},
        }

    return reading


@contextmanager
def scraped(config: LineConfig, name: str, metrics: Metrics) -> Iterator[None]:
    """Answer scrapes while the context lasts. A port that is taken costs one line in the log and nothing else."""
    port = ports(config).get(name)
    if port is None or not config.metrics.enabled:  # none: a process that is gone in a moment
        yield
        return
    try:
        server = _Server(port, metrics)
    except OSError as error:
        what = {"port": port, "why": error.strerror, "remedy": "set metrics.first_port in the line file"}
        LOG.warning("no metrics of this process: its port cannot be used", extra=what)
        yield
        return
    with server:
        yield


class _Server(TCPServer):
    """One client at a time, in a thread that holds up neither the loop nor the end of the process."""

    allow_reuse_address = True  # a restarted stage takes its port back
    timeout = TURN_S

    def __init__(self, port: int, metrics: Metrics) -> None:
        registry = CollectorRegistry()
        registry.register(Shown(metrics))
        super().__init__((HOST, port), _page(registry))
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrape", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            with suppress(OSError, ValueError):  # closed meanwhile
                self.handle_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        LOG.debug("scrape broken off", exc_info=True)

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join(2 * TURN_S)
        self.server_close()


def _page(registry: CollectorRegistry) -> Callable[..., BaseRequestHandler]:
    class Page(MetricsHandler):
        timeout = PATIENCE_S

    return Page.factory(registry)


class Shown(Collector):
    """The table's rows with what is counted now, as the client library wants them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        process = ProcessCollector(registry=None)
        metrics.read(lambda: _process(process))

    def collect(self) -> Iterator[Metric]:
        for key, values in self._metrics.values().items():
            yield self._plain(SERIES[key], values)
        for key, spreads in self._metrics.spreads().items():
            if spreads:
                yield self._histogram(SERIES[key], spreads)

    def _plain(self, series: Series, values: dict[Labels, float]) -> Metric:
        family = FAMILIES[series.kind](series.name, series.help, labels=_names(series))
        for labels, value in values.items():
            family.add_metric(self._all(series, labels), value)
        return family

    def _histogram(self, series: Series, spreads: dict[Labels, Spread]) -> Metric:
        family = HistogramMetricFamily(series.name, series.help, labels=_names(series))
        for labels, spread in spreads.items():
            buckets = list(zip(BOUNDS, map(float, accumulate(spread.counts)), strict=True))
            family.add_metric(self._all(series, labels), buckets, spread.sum)
        return family

    def _all(self, series: Series, labels: Labels) -> list[str]:
        """The supervisor speaks of other stages: what names one itself is not named twice."""
        own = () if "stage" in series.labels else (self._metrics.stage,)
        return [self._metrics.station, *own, *labels]


def _names(series: Series) -> list[str]:
    return [*(name for name in COMMON if name not in series.labels), *series.labels]


def _process(collector: ProcessCollector) -> Reading:
    return {sample.name: sample.value for family in collector.collect() for sample in family.samples}
