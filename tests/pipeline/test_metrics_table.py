"""The table of metrics, what is counted by it, and the page that Prometheus reads."""

import json
import math
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from line.toy_line import free_range, is_free
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from station_parts import settings, until

from pipeline.check import check_line
from pipeline.config import LineConfig, MetricsConfig, load
from pipeline.errors import ConfigError
from pipeline.messages import Fault
from pipeline.metrics import BUCKETS_S, COMMON, SERIES, Kind, Metrics
from pipeline.scrape import LOG, Shown, metrics_said, ports, scraped, targets_path, write_targets

SECONDS = st.floats(0, 20)
UNHURRIED = hypothesis.settings(deadline=None)  # the machine is shared


def page(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample as Prometheus's own parser reads it."""
    registry = CollectorRegistry()
    registry.register(Shown(metrics))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def of(metrics: Metrics, name: str, **labels: str) -> float | None:
    common = {"station": metrics.station, "stage": metrics.stage}
    return page(metrics).get((name, frozenset((common | labels).items())))


# --- the table ---


def test_names_follow_prometheus_and_stand_once() -> None:
    names = [series.name for series in SERIES.values()]
    assert len(set(names)) == len(names)
    for series in SERIES.values():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", series.name)
        assert series.name.endswith("_total") == (series.kind is Kind.COUNTER)
        assert series.kind is not Kind.HISTOGRAM or series.name.endswith("_seconds")
        assert series.help and not series.help.endswith(".")


@pytest.mark.parametrize("key", SERIES)
def test_known_label_values_fit_their_labels(key: str) -> None:
    assert all(len(values) == len(SERIES[key].labels) for values in SERIES[key].known)


def test_what_is_not_in_the_table_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Metrics().count("panles")
    with pytest.raises(KeyError):
        Metrics().observe("outcomes", 1.0)


# --- counting ---


def test_every_fault_stands_at_zero_before_the_first_one() -> None:
    """An alert on an increase would miss the first of a series that begins at 1."""
    fresh = Metrics("front", "plc_bridge", "plc_bridge")
    shown = [dict(labels) | {"value": value} for (name, labels), value in page(fresh).items() if "panels" in name]
    assert {row["fault"] for row in shown if row["outcome"] == "REJECT" and row["value"] == 0} == {*Fault, ""}
    assert of(fresh, "takt_deadline_misses_total") == 0
    assert of(Metrics("front", "archiver", "archiver"), "takt_deadline_misses_total") is None


@UNHURRIED
@given(st.lists(st.sampled_from(["LATE", "LAMP", ""]), max_size=30))
def test_counts_are_kept_apart_by_their_labels(faults: list[str]) -> None:
    metrics = Metrics("front", "plc_bridge", "plc_bridge")
    for fault in faults:
        metrics.count("outcomes", "REJECT", fault)
    shown = {key: value for key, value in page(metrics).items() if key[0] == "takt_panels_total" and value}
    assert sorted(shown.values()) == sorted(Counter(faults).values())
    assert {dict(labels)["fault"] for _, labels in shown} == set(faults)


@UNHURRIED
@given(st.lists(SECONDS, min_size=1, max_size=50))
def test_a_histogram_is_what_counting_by_hand_gives(taken: list[float]) -> None:
    metrics = Metrics("front", "inspector", "inspector")
    for seconds in taken:
        metrics.observe("step_seconds", seconds, "decide")
    shown = page(metrics)
    buckets = {dict(labels)["le"]: shown[name, labels] for name, labels in shown if name.endswith("_bucket")}
    bounds = {repr(bound): bound for bound in BUCKETS_S} | {"+Inf": math.inf}
    assert buckets == {text: sum(seconds <= bound for seconds in taken) for text, bound in bounds.items()}
    assert of(metrics, "takt_step_seconds_count", step="decide") == len(taken)
    assert of(metrics, "takt_step_seconds_sum", step="decide") == pytest.approx(sum(taken))


def test_a_reader_is_asked_at_every_scrape_and_unknown_keys_are_passed_over() -> None:
    metrics, depth = Metrics("front", "capture_top", "capture"), {("sets",): 1.0}
    metrics.read(lambda: {"queue": depth, "of no interest": 1})
    assert of(metrics, "takt_queue_depth", queue="sets") == 1
    depth["sets",] = 4.0
    assert of(metrics, "takt_queue_depth", queue="sets") == 4


def test_the_supervisor_speaks_of_other_stages() -> None:
    metrics = Metrics("front", "supervisor", "supervisor")
    metrics.read(lambda: {"up": {("inspector",): True}})
    assert of(metrics, "takt_stage_up", stage="inspector") == 1


@UNHURRIED
@given(st.text(max_size=20))
def test_any_label_value_is_read_back_as_it_was(value: str) -> None:
    metrics = Metrics("front", "capture_top", "capture")
    metrics.read(lambda: {"queue": {(value,): 7.0}})
    assert of(metrics, "takt_queue_depth", queue=value.encode(errors="replace").decode()) == 7


def test_an_observation_costs_microseconds() -> None:
    """A panel takes some 20, each in tens of milliseconds; the bound leaves room for a shared machine."""
    metrics, turns = Metrics("front", "plc_bridge", "plc_bridge"), 20_000
    began = time.process_time()
    for _ in range(turns):
        metrics.count("outcomes", "PASS", "")
        metrics.observe("plc_seconds", 0.0013, "read")
    assert (time.process_time() - began) / (2 * turns) < 10e-6


# --- the page ---


@pytest.fixture
def config(tmp_path: Path) -> LineConfig:
    plain = settings(tmp_path)
    plain.state.mkdir(parents=True)
    return plain.model_copy(update={"metrics": MetricsConfig(first_port=free_range(len(ports(plain))))})


def fetched(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return answer.read().decode()


@contextmanager
def taken(port: int) -> Iterator[None]:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


def test_every_process_has_a_port_of_its_own_on_loopback(config: LineConfig) -> None:
    given = ports(config)
    assert list(given) == ["supervisor", "archiver", "plc_bridge", "inspector", "capture_top"]
    assert list(given.values()) == list(range(config.metrics.first_port, config.metrics.first_port + len(given)))
    with scraped(config, "inspector", Metrics("cell_1", "inspector", "inspector")):
        assert 'takt_set_faults_total{fault="LAMP",stage="inspector",station="cell_1"} 0.0' in fetched(
            given["inspector"]
        )
        assert listening(given["inspector"]) == {"0100007F"}, "127.0.0.1 and nothing else"
    assert is_free(given["inspector"])


def listening(port: int) -> set[str]:
    """Local addresses in state LISTEN on `port`, as the kernel writes them."""
    rows = [row.split() for file in ("tcp", "tcp6") for row in Path(f"/proc/net/{file}").read_text().splitlines()[1:]]
    places = [row[1].split(":") for row in rows if row[3] == "0A"]
    return {address for address, number in places if int(number, 16) == port}


def test_a_taken_port_is_one_line_in_the_log(config: LineConfig, caplog: pytest.LogCaptureFixture) -> None:
    LOG.addHandler(caplog.handler)
    with taken(ports(config)["inspector"]), scraped(config, "inspector", Metrics()):
        pass
    LOG.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"no metrics of this process: its port cannot be used"}


def test_metrics_that_are_not_wanted_bind_nothing(config: LineConfig) -> None:
    off = config.model_copy(update={"metrics": MetricsConfig(enabled=False, first_port=config.metrics.first_port)})
    with scraped(off, "inspector", Metrics()):
        assert is_free(ports(off)["inspector"])
    assert list(metrics_said(off)) == []


@pytest.mark.parametrize("sent", [b"", b"\x00" * 3000, b"GET\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"A" * 100_000])
def test_strangers_neither_end_nor_stop_it(config: LineConfig, sent: bytes) -> None:
    with scraped(config, "inspector", Metrics("cell_1", "inspector", "inspector")):
        port = ports(config)["inspector"]
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(sent)
        assert "takt_inspected_total" in fetched(port)


def test_one_who_asks_for_nothing_holds_others_up_for_a_moment_only(config: LineConfig) -> None:
    with scraped(config, "inspector", Metrics("cell_1", "inspector", "inspector")):
        port = ports(config)["inspector"]
        with socket.create_connection(("127.0.0.1", port)):
            assert "takt_inspected_total" in fetched(port)


def test_a_reader_that_fails_ends_neither_the_page_nor_the_process(config: LineConfig) -> None:
    metrics, broken = Metrics("cell_1", "inspector", "inspector"), [True]

    def reader() -> dict[str, float]:
        if broken:
            raise RuntimeError("changed while it was read")
        return {"panels": 3}

    metrics.read(reader)
    with scraped(config, "inspector", metrics):
        with pytest.raises(OSError):
            fetched(ports(config)["inspector"])
        broken.clear()
        assert "takt_inspected_total{" in until(lambda: fetched(ports(config)["inspector"]))


# --- where to scrape ---


def test_the_list_of_targets_names_every_process(config: LineConfig) -> None:
    write_targets(config)
    groups = json.loads(targets_path(config).read_text())
    listed = {group["labels"]["stage"]: group["targets"] for group in groups}
    assert listed == {name: [f"127.0.0.1:{port}"] for name, port in ports(config).items()}
    assert all(set(group["labels"]) == set(COMMON) for group in groups)


def test_a_line_that_shows_no_metrics_leaves_no_list_of_them(config: LineConfig) -> None:
    write_targets(config)
    off = MetricsConfig(enabled=False, first_port=config.metrics.first_port)
    write_targets(config.model_copy(update={"metrics": off}))
    assert not targets_path(config).exists()


def test_check_says_where_and_who_is_left_out(config: LineConfig) -> None:
    first, last = min(ports(config).values()), max(ports(config).values())
    [said] = metrics_said(config)
    assert said == (
        f"metrics: http://127.0.0.1:{first}/metrics; ports {first} to {last}, listed in {targets_path(config)}"
    )
    with taken(ports(config)["plc_bridge"]):
        [said] = metrics_said(config)
    assert said == f"metrics: no scrape of plc_bridge: ports {first} to {last} must be free: set metrics.first_port"


def test_a_port_of_the_line_itself_is_refused(line_file: Callable[..., Path]) -> None:
    path = line_file(metrics={"enabled": True, "first_port": 21_000}, bus={"outcomes": "tcp://127.0.0.1:21003"})
    with pytest.raises(ConfigError, match=r"metrics.first_port: 21003 is this line's own already"):
        list(check_line(load(path)))
