"""THE table of metrics, and what one process counts of them. How Prometheus gets to see them stands in `scrape`."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product

from pipeline.messages import Fault, Outcome

BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
COMMON = ("station", "stage")  # every series has these labels before its own


class Kind(StrEnum):
    COUNTER = "counter"  # since the process began
    GAUGE = "gauge"
    HISTOGRAM = "histogram"  # seconds, in BUCKETS_S


@dataclass(frozen=True)
class Series:
    """One row of the table. `known`: label values that stand at 0 from the start, so that no first one is missed."""

    name: str  # in Prometheus
    kind: Kind
    help: str
    by: tuple[str, ...] = ()  # modules of `stages` that show it, or "supervisor"; empty: all of them
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()


def _counter(name: str, text: str, *by: str, labels: tuple[str, ...] = (), known: Iterable = ()) -> Series:
    return Series(f"takt_{name}_total", Kind.COUNTER, text, by, labels, tuple(known))


def _gauge(name: str, text: str, *by: str, labels: tuple[str, ...] = ()) -> Series:
    return Series(f"takt_{name}", Kind.GAUGE, text, by, labels)


def _times(name: str, text: str, *by: str, labels: tuple[str, ...] = ()) -> Series:
    return Series(f"takt_{name}_seconds", Kind.HISTOGRAM, text, by, labels)


BRIDGE, CAPTURE, INSPECTOR, ARCHIVER, SUPERVISOR = "plc_bridge", "capture", "inspector", "archiver", "supervisor"
SWAPS = [("switched",), ("refused",)]
OUTCOMES = [*product([Outcome.PASS, Outcome.REJECT], [""]), *product([Outcome.REJECT], Fault)]
NO_OUTCOME = "Open panels that should have had an outcome by now; 0 on a sound line"
STEPS = "Duration of one step of a stage's work; of a camera's set or a panel, by `step`"

# Keys are what a stage counts by; where its health tells a number of the same name, it is this one.
SERIES = {
    # --- panels, as the PLC acknowledged them ---
    "triggers": _counter("triggers", "Triggers that the PLC counted, seen or missed", BRIDGE),
    "outcomes": _counter(
        "panels", "Panels with an outcome", BRIDGE, labels=("outcome", "fault"), known=OUTCOMES
    ),  # fault is empty where the panel was inspected
    "open": _gauge("open_panels", "Panels triggered and without an outcome yet", BRIDGE),
    "overdue": _gauge("overdue_panels", NO_OUTCOME, BRIDGE),
    "deadline_misses": _counter("deadline_misses", "Panels still undecided at their deadline; rejects", BRIDGE),
    "late_verdicts": _counter("late_verdicts", "Verdicts for a panel that was decided already", BRIDGE),
    "alarms": _counter("alarms", "Panels of which a person must look where they went", BRIDGE),
    "latency_seconds": _times("latency", "Trigger edge to the PLC's acknowledgement", BRIDGE),
    "recipe_swaps": _counter(
        "recipe_swaps", "Recipes asked for that took over, or were refused", BRIDGE, labels=("result",), known=SWAPS
    ),
    # --- the PLC and the ledger ---
    "line_ready": _gauge("line_ready", "1 while the line may pass panels", BRIDGE),
    "line_state": _gauge("line_state", "State in the PLC's register, numbered as in OPC 40100-1", BRIDGE),
    "plc_linked": _gauge("plc_linked", "1 while the PLC answers", BRIDGE),
    "plc_losses": _counter("plc_losses", "How often the connection to the PLC was lost", BRIDGE),
    "plc_seconds": _times("plc_round_trip", "Duration of one call to the PLC", BRIDGE, labels=("call",)),
    "plc_beat_age": _gauge("plc_heartbeat_age_seconds", "Since the PLC's heartbeat changed", BRIDGE),
    "beat_age": _gauge("heartbeat_age_seconds", "Since the heartbeat that the PLC watches changed", BRIDGE),
    "peer_age": _gauge("presence_age_seconds", "Since a stage was heard by the bridge", BRIDGE, labels=("peer",)),
    "ledger_ok": _gauge("ledger_writable", "1 while records can be written; nothing passes else", BRIDGE),
    "ledger_owed": _gauge("ledger_owed_records", "Records that could not be written yet", BRIDGE),
    # --- image sets ---
    "set_faults": _counter(
        "set_faults", "Image sets refused", CAPTURE, INSPECTOR, labels=("fault",), known=product(Fault)
    ),
    "step_seconds": _times("step", STEPS, CAPTURE, INSPECTOR, ARCHIVER, labels=("step",)),
    "queue": _gauge("queue_depth", "What waits in a stage, by `queue`", CAPTURE, INSPECTOR, labels=("queue",)),
    "paired": _counter("sets_shipped", "Image sets sent to an inspector", CAPTURE),
    "refused": _counter("sets_refused", "Triggers without an image set that belongs to them", CAPTURE),
    "rearmed": _counter("rearms", "How often frames and triggers were paired anew", CAPTURE),
    "free_slots": _gauge("ring_free_slots", "Image sets for which the camera's ring has room", CAPTURE),
    "leases_expired": _counter("ring_leases_expired", "Slots taken back from a reader that died", CAPTURE),
    "camera_failures": _counter("camera_failures", "Frames that the camera did not deliver", CAPTURE),
    # --- the inspector ---
    "panels": _counter("inspected", "Panels answered with a verdict", INSPECTOR),
    "network_calls": _counter("network_calls", "Runs of the network, proofs included", INSPECTOR),
    "sets_gone": _counter("sets_gone", "Image sets whose slot was reclaimed or that nobody asked for", INSPECTOR),
    "carried_ms": _gauge("carried_milliseconds", "Capture to inspector, median of the last 256 sets", INSPECTOR),
    "longest_turn_ms": _gauge("longest_turn_milliseconds", "Longest turn of the loop since its start", INSPECTOR),
    "engine_sick": _gauge("engine_sick", "1 while the engine does not see its golden defect", INSPECTOR),
    "evidence_dropped": _counter("evidence_dropped", "Panels whose pixels found no room on the way", INSPECTOR),
    # --- the archiver ---
    "kept": _counter("evidence_kept", "Panels whose evidence reached the disk whole", ARCHIVER),
    "lost": _counter("evidence_lost", "Panels whose evidence did not reach the disk whole", ARCHIVER),
    "spooled": _gauge("evidence_spooled", "Panels whose evidence waits to be compressed", ARCHIVER),
    "spool_age_s": _gauge("evidence_spool_age_seconds", "Since the oldest of those was spooled", ARCHIVER),
    "tidied": _counter("evidence_deleted", "Panels whose pictures were deleted by policy", ARCHIVER),
    "rows": _counter("store_panels", "Outcomes entered into the store", ARCHIVER),
    "anchors": _counter("store_anchors", "Signed anchors entered into the store", ARCHIVER),
    "archive_alarm": _gauge("archive_alarm", "1 while evidence or store cannot be written", ARCHIVER),
    # --- every process, and those that the supervisor watches ---
    "up": _gauge("stage_up", "1 while the process runs", SUPERVISOR, labels=("stage",)),
    "ready": _gauge("stage_ready", "1 while the stage says that it is ready", SUPERVISOR, labels=("stage",)),
    "health_age": _gauge("stage_heartbeat_age_seconds", "Since the stage was heard", SUPERVISOR, labels=("stage",)),
    "restarts": _counter("restarts", "How often a stage that fell was started again", SUPERVISOR, labels=("stage",)),
    "disk_free": _gauge("disk_free_bytes", "Room on the disk of a folder", SUPERVISOR, labels=("folder",)),
    "disk_size": _gauge("disk_size_bytes", "Size of the disk of a folder", SUPERVISOR, labels=("folder",)),
    "clock_set": _gauge("clock_set_seconds", "How far the wall clock was set since the start", SUPERVISOR),
    "version": _gauge("version", "1, for the version of takt that runs", SUPERVISOR, labels=("version",)),
    "messages_dropped": _counter("messages_dropped", "Messages that broke the schema or came from strangers"),
    "messages_lost": _counter("messages_lost", "Gaps in what was heard, by topic", labels=("topic",)),
    "clients_refused": _counter("clients_refused", "Connections refused because the key is not listed"),
    "process_cpu_seconds_total": Series("process_cpu_seconds_total", Kind.COUNTER, "Processor time used"),
    "process_resident_memory_bytes": Series("process_resident_memory_bytes", Kind.GAUGE, "Memory in use"),
    "process_open_fds": Series("process_open_fds", Kind.GAUGE, "Files and sockets that are open"),
    "process_start_time_seconds": Series("process_start_time_seconds", Kind.GAUGE, "Start, in seconds since 1970"),
}

Labels = tuple[str, ...]


@dataclass
class Spread:
    """A histogram: how many values lie in each bucket, the last one open, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum: float = 0.0


Reading = Mapping[str, float | Mapping[Labels, float]]
Values = dict[str, dict[Labels, float]]


class Metrics:
    """What one process counts. Its loop writes; another thread may read at any time.

    `role` is the stage's module: the rows that it shows start at their known labels.
    """

    def __init__(self, station: str = "", stage: str = "", role: str = "") -> None:
        self.station, self.stage = station, stage
        self._counts: Values = {}
        self._spreads: dict[str, dict[Labels, Spread]] = {}
        self._readers: list[Callable[[], Reading]] = []
        for key, series in SERIES.items():
            self._open(key, series, role)

    def _open(self, key: str, series: Series, role: str) -> None:
        bare = () if series.labels else ((),)
        known = (*series.known, *bare) if role in series.by else ()
        if series.kind is Kind.COUNTER:
            self._counts[key] = dict.fromkeys(known, 0.0)
        if series.kind is Kind.HISTOGRAM:
            self._spreads[key] = {labels: Spread() for labels in known}

    def count(self, key: str, *labels: str) -> None:
        """One more; KeyError for what is no counter of the table."""
        values = self._counts[key]
        values[labels] = values.get(labels, 0.0) + 1

    def observe(self, key: str, seconds: float, *labels: str) -> None:
        """One more time taken; KeyError for what is no histogram of the table."""
        spreads = self._spreads[key]
        spread = spreads.get(labels)
        if spread is None:
            spread = spreads[labels] = Spread()
        spread.counts[bisect_left(BUCKETS_S, seconds)] += 1
        spread.sum += seconds

    @contextmanager
    def timed(self, key: str, *labels: str) -> Iterator[None]:
        """Observe how long the block takes, however it ends."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.observe(key, time.perf_counter() - began, *labels)

    def read(self, reader: Callable[[], Reading]) -> None:
        """Ask `reader` at every scrape: by key a number, or numbers by label values. Other keys are passed over.

        It is called by another thread than the loop's, so it must be content with what it finds.
        """
        self._readers.append(reader)

    def values(self) -> Values:
        """Counters and gauges as they are now; a later reader of the same key goes before an earlier one."""
        found: Values = {key: dict(values) for key, values in list(self._counts.items()) if values}
        for reader in self._readers:
            for key, value in reader().items():
                if key in SERIES:
                    found[key] = dict(value) if isinstance(value, Mapping) else {(): value}
        return found

    def spreads(self) -> dict[str, dict[Labels, Spread]]:
        """The histograms as they are now."""
        found = {key: list(spreads.items()) for key, spreads in self._spreads.items()}
        return {
            key: {labels: Spread(list(spread.counts), spread.sum) for labels, spread in pairs}
            for key, pairs in found.items()
        }
