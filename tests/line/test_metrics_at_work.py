"""Every process of a real line is scraped over HTTP: what it says must be what the PLC recorded."""

import json
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import toy_line
from harness import Line, assert_accounted, passed, running
from prometheus_client.parser import text_string_to_metric_families

from pipeline.config import LineConfig, load
from pipeline.metrics import SERIES, SUPERVISOR
from pipeline.scrape import ports, targets_path

PROCESSES = 6  # supervisor, archiver, bridge, conveyor, inspector, capture
HIT = 4  # the panel at which something goes wrong
TOLD_OTHERWISE = {"passed", "not_passed"}  # in takt_panels_total
Scrape = dict[str, dict[frozenset[tuple[str, str]], float]]


def shown(**changes: object) -> dict[str, object]:
    return {"metrics": {"enabled": True, "first_port": toy_line.free_range(PROCESSES)}, **changes}


def scraped(config: LineConfig, stage: str) -> Scrape:
    """Every sample of one process, by name and own labels."""
    with urlopen(f"http://127.0.0.1:{ports(config)[stage]}/metrics", timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    found: Scrape = {}
    for sample in (sample for family in families for sample in family.samples):
        labels = dict(sample.labels)
        assert labels.pop("station") == config.station
        assert stage == SUPERVISOR or labels.pop("stage") == stage
        found.setdefault(sample.name, {})[frozenset(labels.items())] = sample.value
    return found


def plain(scrape: Scrape, name: str) -> float:
    """The value of a series without labels of its own."""
    [value] = scrape[name].values()
    return value


def by(scrape: Scrape, name: str, label: str) -> dict[str, float]:
    """Values above 0, added up by one label."""
    added: dict[str, float] = {}
    for labels, value in scrape[name].items():
        key = dict(labels)[label]
        added[key] = added.get(key, 0) + value
    return {key: value for key, value in added.items() if value}


def until_counted(line: Line, panels: int) -> Scrape:
    """Wait for a bridge that has seen so many panels to their end; what it says then."""
    bridge = {}

    def counted() -> bool:
        bridge.update(scraped(line.config, "plc_bridge"))
        return sum(bridge["takt_panels_total"].values()) >= panels

    line.until(counted, f"{panels} panels in the metrics")
    return bridge


def test_every_process_tells_what_the_plc_recorded(start: Callable[..., Line]) -> None:
    line = start(**shown(conveyor={"settings": {"panels": 20}}))
    line.until_finished()
    bridge = until_counted(line, 20)
    record, config = line.rows(), line.config
    assert by(bridge, "takt_panels_total", "outcome") == Counter("PASS" if passed(row) else "REJECT" for row in record)
    assert plain(bridge, "takt_triggers_total") == len(record) == 20
    assert (plain(bridge, "takt_open_panels"), plain(bridge, "takt_overdue_panels")) == (0, 0)
    assert plain(bridge, "takt_latency_seconds_count") == 20
    assert by(bridge, "takt_plc_round_trip_seconds_count", "call")["write"] == 20
    assert (plain(bridge, "takt_line_ready"), plain(bridge, "takt_plc_linked")) == (1, 1)
    assert plain(bridge, "takt_heartbeat_age_seconds") < 1 and plain(bridge, "takt_plc_heartbeat_age_seconds") < 1
    inspector, capture = scraped(config, "inspector"), scraped(config, "capture_top")
    inspected = plain(inspector, "takt_inspected_total")
    assert inspected == plain(capture, "takt_sets_shipped_total") == len(line.records("verdict")) > 0
    assert set(by(inspector, "takt_step_seconds_count", "step")) == {"carry", "wait", "inspect", "decide", "evidence"}
    line.until(lambda: plain(scraped(config, "archiver"), "takt_store_panels_total") == 20, "the store's rows")


def test_the_supervisor_tells_who_is_up_and_who_came_back(start: Callable[..., Line]) -> None:
    line = start(**shown())
    line.until_all_up()
    before = scraped(line.config, SUPERVISOR)
    stages = set(ports(line.config)) - {SUPERVISOR}
    assert by(before, "takt_stage_up", "stage") == by(before, "takt_stage_ready", "stage") == dict.fromkeys(stages, 1)
    assert by(before, "takt_restarts_total", "stage") == {}
    assert set(by(before, "takt_disk_free_bytes", "folder")) == {"state", "ledger"}
    line.until_restarted("archiver", line.kill("archiver"))
    assert by(scraped(line.config, SUPERVISOR), "takt_restarts_total", "stage") == {"archiver": 1}
    assert scraped(line.config, "archiver")["takt_evidence_kept_total"], "the new process has its port again"


def test_a_dropped_strobe_shows_as_its_fault(start: Callable[..., Line]) -> None:
    cameras = [toy_line.camera("top", faults={"miss_exposures": [[HIT, 1]]})]
    line = start(**shown(cameras=cameras, conveyor={"settings": {"panels": 12}}))
    line.until_finished()
    bridge = until_counted(line, 12)
    config = line.config
    capture = by(scraped(config, "capture_top"), "takt_set_faults_total", "fault")
    line.supervisor.stop()
    faults = assert_accounted(config).faults
    assert {"INCOMPLETE", "ASSOCIATION"} & set(faults) & set(capture)
    assert {fault: count for fault, count in by(bridge, "takt_panels_total", "fault").items() if fault} == faults


def test_a_late_verdict_shows_as_a_missed_deadline(start: Callable[..., Line]) -> None:
    line = start(**shown(supervisor={"silent_s": 60}))
    line.until_passing_again()
    with line.frozen("inspector"):
        line.until(lambda: "LATE" in {record["fault"] for record in line.records("outcome")}, "a late panel")
        with socket.create_connection(("127.0.0.1", ports(line.config)["inspector"])):
            pass  # a scrape of a process that hangs holds nobody up
    line.until_passing_again()
    bridge = scraped(line.config, "plc_bridge")
    late = by(bridge, "takt_panels_total", "fault")["LATE"]
    assert late == sum(record["fault"] == "LATE" for record in line.records("outcome"))
    assert plain(bridge, "takt_deadline_misses_total") >= late
    assert plain(bridge, "takt_late_verdicts_total") >= 1, "the thawed inspector's answers"


def test_a_taken_port_costs_a_line_in_the_log_and_no_panel(line_file: Callable[..., Path]) -> None:
    path = line_file(**shown(conveyor={"settings": {"panels": 5}}))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", ports(load(path))["plc_bridge"]))
        other.listen()
        with running(path) as line:
            line.until_finished()
            line.until_decided(5)
            inspected = plain(scraped(line.config, "inspector"), "takt_inspected_total")
            assert inspected == len(line.records("verdict")) > 0
            supervisor = scraped(line.config, SUPERVISOR)
            assert by(supervisor, "takt_restarts_total", "stage") == {}
    log = (line.config.state / "logs" / "plc_bridge.log").read_text().splitlines()
    said = [entry for entry in map(json.loads, log) if entry["event"].startswith("no metrics of this process")]
    assert [(entry["stage"], entry["level"]) for entry in said] == [("plc_bridge", "WARNING")]


def test_everything_that_a_stage_counts_is_in_the_table(start: Callable[..., Line]) -> None:
    line = start(**shown())
    line.until_passing_again()
    line.until_all_up()
    told = {name for health in line.supervisor.states().values() if health for name in health.counters}
    assert told - SERIES.keys() == TOLD_OTHERWISE


def test_the_list_for_prometheus_names_processes_that_answer(start: Callable[..., Line]) -> None:
    line = start(**shown())
    line.until_all_up()
    for group in json.loads(targets_path(line.config).read_text()):
        assert group["labels"]["station"] == line.config.station
        assert group["targets"] == [f"127.0.0.1:{ports(line.config)[group['labels']['stage']]}"]
        assert scraped(line.config, group["labels"]["stage"])["process_resident_memory_bytes"]
