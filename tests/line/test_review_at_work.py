"""The review station as a process of a real line: it shows what the line does, and the line does not need it."""

import socket
from collections.abc import Callable

import httpx
import pytest
from harness import Line, assert_accounted, ledger_records

from pipeline.bench.storm import free_port
from pipeline.log import last_words

pytest.importorskip("fastapi", reason="needs the extra [review]")


def test_it_shows_the_line_and_what_people_decide_stays_when_it_is_killed(start: Callable[..., Line]):
    port = free_port()
    belt = {"settings": {"takt_ms": 200, "panels": 45, "window_ms": 800}}
    line = start(review={"port": port}, conveyor=belt, archive={"sample_passes": 1.0})
    line.until(lambda: line.state("review") == "ready", "the review station")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
        panels = {"queue": "all", "limit": 200}
        line.until(lambda: len(client.get("/api/panels", params=panels).json()["rows"]) > 9, "ten panels in the store")
        live = client.get("/api/live").json()
        assert live["running"] and {one["stage"]: one["state"] for one in live["stages"]}["archiver"] == "ready"
        sample = {"queue": "sample", "limit": 200}
        rows = client.get("/api/panels", params=sample).json()["rows"]
        token = rows[-1]["token"]
        shown = client.get(f"/api/panels/{token}").json()
        assert shown["ack_code"] == 1 and shown["row"]["product"] == "toy" and shown["has_map"]
        steps = [one["step"] for one in shown["steps"]]
        assert steps == ["captured", "verdict", "written", "ack", "wait", "inspect", "decide"]
        assert client.get(f"/api/panels/{token}/thumb").headers["content-type"] == "image/jpeg"
        before = len(ledger_records(line.config, "outcome"))
        decide(client, token)
        line.until_restarted("review", line.kill("review"))
        assert client.get(f"/api/panels/{token}").json()["row"]["standing"]["code"] == "dust"
        line.until(lambda: len(ledger_records(line.config, "outcome")) > before, "panels that go on")
    line.until_finished()
    assert_accounted(line.config)
    outcome = next(one for one in ledger_records(line.config, "outcome") if one["token"] == token)
    assert outcome["outcome"] == "PASS"  # what people say of it changes nothing on the line


def decide(client: httpx.Client, token: str) -> None:
    csrf = client.get("/api/session").json()["csrf"]
    wish = {"finding": "defective", "code": "dust"}
    done = client.post(f"/api/panels/{token}/findings", json=wish, headers={"X-CSRF-Token": csrf})
    assert done.json()["state"] == "done"


def test_a_station_that_cannot_start_keeps_no_line_from_running(start: Callable[..., Line]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        belt = {"settings": {"takt_ms": 200, "panels": 10, "window_ms": 800}}
        line = start(review={"port": taken.getsockname()[1]}, conveyor=belt)
        line.until(lambda: "review" not in line.supervisor.running, "a line that goes on without it")
        assert "name a free port in [review]" in last_words(line.config.state, "review")
        line.until_finished()
    assert assert_accounted(line.config).triggers == 10
