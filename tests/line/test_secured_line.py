"""A line that is reached from other hosts: outcomes and control under CURVE, and a ledger that vouches for itself."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import toy_line
from harness import Line, assert_accounted, running

from pipeline.bench.storm import free_port
from pipeline.config import load
from pipeline.curve import CLIENTS, create, folder_of
from pipeline.ledger import ledger_files
from pipeline.stages import connecting
from pipeline.store import stored_anchors
from pipeline.verify import verified

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


@contextmanager
def subscribed(endpoint: str, *keys: object) -> Iterator[queue.SimpleQueue[str]]:
    """What the example of a third party prints, the one with keys where there are some."""
    program = EXAMPLES / ("subscriber_with_keys.py" if keys else "subscriber.py")
    command = [sys.executable, str(program), endpoint, *map(str, keys)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()])
    reader.start()
    try:
        yield lines
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()


def test_a_line_with_keys_runs_and_only_listed_clients_hear_it(line_file: Callable[..., Path]) -> None:
    outcomes, control, images = (free_port() for _ in range(3))
    bus = {
        "outcomes": f"tcp://0.0.0.0:{outcomes}",
        "control": f"tcp://127.0.0.1:{control}",
        "images": f"tcp://127.0.0.1:{images}",
    }
    cameras = [toy_line.camera("top") | {"carrier": "frames"}]
    path = line_file(bus=bus, cameras=cameras, archive={"anchor_s": 1})
    config = load(path)
    create(config, connecting(config), "mes")
    folder, endpoint = folder_of(config), f"tcp://127.0.0.1:{outcomes}"
    keys = (folder / CLIENTS / "mes.key_secret", folder / "server.key")
    with (
        running(path) as line,
        subscribed(endpoint, *keys) as listed,
        subscribed(endpoint) as plain,
        subscribed(endpoint, folder / "stages" / "capture_top.key_secret", folder / "server.key") as stage,
    ):
        line.until_passing_again()
        line.until(lambda: not listed.empty(), "an outcome at the listed client")
        line.until(lambda: line.supervisor.counter("plc_bridge", "clients_refused") >= 1, "a refused client")
        line.until_passing_again()
        line.supervisor.stop()
        assert plain.empty() and stage.empty()
        assert json.loads(listed.get())["outcome"] in ("PASS", "REJECT")
    assert_accounted(config)


def test_the_example_hears_a_line_on_its_own_host_without_keys(start: Callable[..., Line]) -> None:
    line = start()
    with subscribed(line.config.bus.outcomes) as plain:
        line.until(lambda: not plain.empty(), "an outcome")
        assert json.loads(plain.get()).keys() == {"sequence", "panel_id", "outcome", "fault", "defects"}


def test_a_ledger_that_was_cut_off_is_found_by_the_stores_anchors(start: Callable[..., Line]) -> None:
    line = start(archive={"anchor_s": 1})
    line.until_decided(5)
    line.until(lambda: len(stored_anchors(line.config.state) or ()) >= 3, "anchors in the store")
    line.supervisor.stop()
    figures = verified(line.config.ledger)
    assert (figures["intact"], figures["open"]) == (True, 0)
    [file] = ledger_files(line.config.ledger)
    lines = file.read_bytes().splitlines(keepends=True)
    assert b'"step":"anchor"' in lines[-1] and figures["anchored_until"] == json.loads(lines[-1])["wall"]
    file.write_bytes(b"".join(lines[:-2]))  # the last panel's end, and what vouched for it
    assert f"says {len(lines) - 1} records, {len(lines) - 2} are here" in verified(line.config.ledger)["first_broken"]
