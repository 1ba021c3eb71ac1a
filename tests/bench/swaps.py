"""Recipes that take over on the demo's line at work, by hand: `python tests/bench/swaps.py --takt 300 --json FILE`.

The demo's recipe and two more with other limits (`takt limits`) take turns, so that the limit in a verdict tells by
which of them it was given, and each is opened anew: only the one before is kept. Each swap is asked for as `takt recipe
use` does it, checks included.
Half the sustained rate is twice the takt that the line holds: `--takt`. Ends with 1 when a panel is late or lost, when
anything names another recipe than its trigger, or when a swap did not come about.
"""

import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from kill_line import Registers
from line_figures import CONSOLE

from calibration.relimit import Wish, relimit
from engines import recipe as recipes
from pipeline import asking, cli
from pipeline.config import LineConfig, load
from pipeline.engine_room import choice_of, workshop_of
from pipeline.figures import write_json
from pipeline.keys import signer_key
from pipeline.ledger import ledger_files, read_lines
from pipeline.recount import recount
from pipeline.signatures import sign
from pipeline.supervisor import Supervisor
from pipeline.wishes import Place

LATE = ("LATE", "NOT_CAPTURED", "UNROUTABLE", "OVERRUN", "RING_FULL")
RECIPES = ("recipe", "second", "third")
BETWEEN_S = 2.0  # from one swap's end to the next
WAIT_S = 120.0


@dataclass
class Course:
    """What the swaps took; the inspector's longest turn and the bridge's longest time without a beat, before the first
    swap and after the last one.
    """

    seconds: list[float] = field(default_factory=list)
    turn_ms: list[float] = field(default_factory=list)
    beat_ms: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def line_at(out: Path, takt_ms: int) -> LineConfig:
    """A copy of the demo's line without an end, and beside it the other recipes."""
    path = cli._copy_demo(out)
    config = load(path)
    own = recipes.load(out / RECIPES[0])
    for number, name in enumerate(RECIPES[1:], 1):
        if not (out / name).exists():
            made = relimit(own, Wish(image=own.manifest.limits.image * (1 + number / 50)), out / name).recipe
            sign(made, signer_key(config.state / "keys"), "swaps")
    workshop = workshop_of(config.state, lambda phase, done, total: None)
    for name in RECIPES:
        workshop.build(recipes.load(out / name), choice_of(config))
    port = cli._free_port(int(config.plc.settings.get("port", 5020)))
    plc = config.plc.model_copy(update={"settings": config.plc.settings | {"port": port}})
    conveyor = config.conveyor
    assert conveyor
    belt = conveyor.settings | {"panels": 0, "takt_ms": takt_ms, "port": port}
    metrics = config.metrics.model_copy(update={"enabled": False})
    outcomes = config.bus.model_copy(update={"outcomes": f"tcp://127.0.0.1:{cli._free_port(5570)}"})
    changes = {"plc": plc, "conveyor": conveyor.model_copy(update={"settings": belt}), "metrics": metrics}
    return config.model_copy(update=changes | {"bus": outcomes, "timing": config.timing.at_takt(takt_ms * 3 // 4)})


def watched(supervisor: Supervisor, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        supervisor.watch(20)


def until_ready(supervisor: Supervisor) -> None:
    end_s = time.monotonic() + WAIT_S
    while not all(health and health.state == "ready" for health in supervisor.states().values()):
        assert time.monotonic() < end_s, supervisor.states()
        supervisor.watch(50)


def longest_beat_ms(seen: Registers) -> float:
    """Of all so far."""
    beats = [
        one.at_ns
        for one, before in zip(seen.changes[1:], seen.changes, strict=False)
        if one.heartbeat != before.heartbeat
    ]
    return max((after - at for at, after in pairwise(beats)), default=0) / 1e6


def swapped(config: LineConfig, out: Path, swaps: int) -> Course:
    """The line's run."""
    course = Course()
    with Supervisor(config) as supervisor, ExitStack() as stack:
        until_ready(supervisor)
        seen = stack.enter_context(Registers(config.plc.settings["port"]))
        watched(supervisor, 5 * BETWEEN_S)
        _look(course, supervisor, seen)
        watched(supervisor, 0 if swaps else 60.0)
        for number in range(swaps):
            began_s = time.monotonic()
            try:
                _asked(supervisor, config, out / RECIPES[(number + 1) % len(RECIPES)])
            except Exception as error:  # what did not come about is a figure
                course.failed.append(str(error))
            course.seconds.append(time.monotonic() - began_s)
            CONSOLE.print(f"swap {number + 1}: {course.seconds[-1]:.2f} s")
            watched(supervisor, BETWEEN_S)
        _look(course, supervisor, seen)
    return course


def _look(course: Course, supervisor: Supervisor, seen: Registers) -> None:
    course.turn_ms.append(supervisor.counter("inspector", "longest_turn_ms"))
    course.beat_ms.append(round(longest_beat_ms(seen), 1))


def _asked(supervisor: Supervisor, config: LineConfig, recipe: Path) -> None:
    """In a thread: this process watches the line meanwhile, as `takt run` would."""

    def ask() -> None:
        place, _ = asking.checked(config, 1, Place(path=recipe.resolve()))
        asking.ask(config, 1, place, WAIT_S)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(ask)
        while not done.done():
            supervisor.watch(20)
        done.result()


def figures(config: LineConfig, course: Course) -> dict[str, Any]:
    """From the ledger alone, but for the turns."""
    lines = list(read_lines(ledger_files(config.ledger)))
    count = recount(lines)
    records = [json.loads(line) for _, line in lines]
    asked = {record["token"]: record["recipe"] for record in records if record["step"] == "trigger"}
    limits = {recipes.load(folder).hash: recipes.load(folder).manifest.limits.image for folder in _folders(config)}
    wrong = 0
    for record in records:
        if record["step"] == "verdict" and not record["fault"]:
            wrong += record["recipe"] != asked[record["token"]] or record["limit"] != limits[record["recipe"]]
        if record["step"] == "outcome":
            wrong += record["recipe"] != asked[record["token"]]
    judged = Counter(record["recipe"][:12] for record in records if record["step"] == "outcome" and not record["fault"])
    latency = [record["latency_ms"] for record in records if record["step"] == "outcome" and record["latency_ms"]]
    return {
        "triggers": count.triggers,
        "swaps": sum(record["step"] == "recipe" for record in records),
        "failed": course.failed,
        "late": sum(count.faults[name] for name in LATE),
        "lost": len(count.open) + (0 if count.balanced else 1),
        "wrong": wrong,
        "faults": dict(count.faults),
        "intact": count.intact,
        "by_recipe": dict(judged),
        "swap_s": _spread(course.seconds),
        "latency_ms": _spread(latency),
        "inspector_turn_ms": dict(zip(("before", "with_swaps"), course.turn_ms, strict=True)),
        "beat_ms": dict(zip(("before", "with_swaps"), course.beat_ms, strict=True)),
    }


def _folders(config: LineConfig) -> list[Path]:
    return [config.under(Path(name)) for name in RECIPES]


def _spread(values: list[float]) -> dict[str, float]:
    median, p99, most = np.percentile(values or [float("nan")], [50, 99, 100]).round(2).tolist()
    return {"median": median, "p99": p99, "max": most}


def main(
    out: Annotated[Path, typer.Option(help="where the line goes")] = Path("takt-swaps"),
    takt_ms: Annotated[int, typer.Option("--takt", min=50, help="twice the least one that the line holds")] = 300,
    swaps: Annotated[int, typer.Option(min=0, help="0: the same time without any, to compare")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
) -> None:
    """See the head of this file."""
    config = line_at(out, takt_ms)
    found = figures(config, swapped(config, out, swaps)) | {"takt_ms": takt_ms}
    for name, value in found.items():
        CONSOLE.print(f"{name:16}{value}", highlight=False)
    write_json(json_file, found)
    sound = found["intact"] and not (found["late"] or found["lost"] or found["wrong"] or found["failed"])
    sys.exit(0 if sound and found["swaps"] == swaps else 1)


if __name__ == "__main__":
    typer.run(main)
