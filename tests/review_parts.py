"""A store as a line leaves it: closed panels with steps and defects, a known recipe, kept pictures."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import shelf
from pipeline.config import LineConfig
from pipeline.review.desk import Desk
from pipeline.review.facts import Filter
from pipeline.store import Store
from pipeline.store.places import place_of

RECIPE, OTHER = "a" * 64, "b" * 64
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHANNELS = ("bright", "dark")
SIZE = (48, 64)  # height, width
LIMIT = 0.5
TAKT = timedelta(seconds=2)


def config(folder: Path, **changes: Any) -> LineConfig:
    """A line file's content; its state below `folder`."""
    plain = {
        "format": 1,
        "station": "front",
        "state_dir": str(folder / "state"),
        "recipes": {"1": str(folder / "recipe")},
        "cameras": [{"name": "top", "kind": "simulated", "channels": CHANNELS}],
        "review": {},
        "source": str(folder / "line.toml"),
    }
    return LineConfig.model_validate(plain | changes)


def token_of(number: int) -> str:
    return f"{number:032x}"


def manifest(product: str = "toy") -> dict[str, Any]:
    """What a recipe says of itself."""
    statistics = {"panels": 9, "mean": 0.1, "std": 0.1, "minimum": 0.0, "median": 0.1, "maximum": 0.4}
    promise = {"rate": 0.1, "confidence": 0.9}
    limits = {"image": LIMIT, "pixel": LIMIT, "low": 0.0, "min_area_px": 1}
    return {
        "format": 2,
        "product": product,
        "channels": [{"name": name, "light": name} for name in CHANNELS],
        "geometry": {"kind": "resize", "height": 32, "width": 32},
        "dtype": "uint8",
        "method": "toy",
        "settings": {},
        "training": {"panels": 9, "held_out": 9, "seed": 0, "teacher": "none"},
        "limits": limits | {"promise": promise, "statistics": statistics},
        "mm_per_px": 0.1,
        "files": {},
    }


def row(number: int, outcome: str = "PASS", fault: str | None = None, **changes: Any) -> dict[str, Any]:
    """Panel `number`, which was closed `number` takts after noon."""
    at = NOON + number * TAKT
    walls = {step: (at + timedelta(milliseconds=ms)).isoformat() for step, ms in (("trigger", -90), ("verdict", -20))}
    defect = {"x": 10, "y": 20, "width": 4, "height": 6, "area_px": 20, "peak": 0.9, "channels": ["dark", "bright"]}
    plain = {
        "token": token_of(number),
        "station": "front",
        "seq": number,
        "panel_id": f"P{number:06d}",
        "closed_at": at.isoformat(timespec="microseconds"),
        "outcome": outcome,
        "fault": fault,
        "acknowledged": True,
        "score": 0.9 if outcome == "REJECT" else 0.2,
        "limit": LIMIT,
        "latency_ms": 50.0 + number % 10,
        "recipe": RECIPE,
        "calibration": "c",
        "engine": "e",
        "defects": [defect] if outcome == "REJECT" and fault is None else [],
        "timing": {"joined_ns": 1_000_000, "started_ns": 2_000_000, "network_ns": 5_000_000, "decided_ns": 5_500_000},
        "steps": walls | {"ack": at.isoformat(), "ack_code": 1 if outcome == "PASS" else 2},
    }
    return plain | changes


def drawn(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Panels as they come: 10 % rejects, 1 % faults."""
    chance = random.Random(seed)
    for number in range(count):
        luck = chance.random()
        if luck < 0.01:
            yield row(number, "REJECT", chance.choice(("LATE", "LAMP", "TORN")))
        else:
            yield row(number, "REJECT" if luck < 0.11 else "PASS")


def filled(line: LineConfig, rows: Any) -> Store:
    """The line's store with these panels and the recipe known."""
    store = Store(place_of(line), line.station)
    store.add_recipe(RECIPE, "toy", manifest())
    store.add_recipe(OTHER, "other", manifest("other"))
    store.add_panels(rows, {})
    return store


def anomalies() -> np.ndarray:
    """A map [h, w] that marks the defect of `row`."""
    found = np.zeros((12, 16), np.float32)
    found[5:7, 2:4] = 0.9
    return found


def keep(line: LineConfig, store: Store, number: int, reason: str = "reject", dtype: str = "uint8") -> Path:
    """Keep pictures of a panel as the archiver does; returns their folder."""
    spooled = line.state / "spool" / token_of(number)
    spooled.mkdir(parents=True)
    (line.state / "evidence").mkdir(exist_ok=True)
    frames = np.random.default_rng(number).integers(0, 200, (len(CHANNELS), *SIZE)).astype(dtype)
    np.save(spooled / "top.npy", frames)
    np.save(spooled / "map.npy", anomalies().astype(np.float16).view(np.uint16)[None])
    (spooled / shelf.ABOUT).write_text(json.dumps({"token": token_of(number), "reason": reason}))
    facts = shelf.put(spooled, line.state / "evidence", {"top": CHANNELS})
    store.put_picture(**facts, station=line.station, compressed=True)
    return Path(facts["folder"])


class Station:
    """A line's store with panels, and a desk on it."""

    def __init__(self, folder: Path, rows, **review) -> None:
        self.line = config(folder, review=review)
        self.store = filled(self.line, rows)
        self.desk = Desk(self.line)

    def seqs(self, cursor: str | None = None, limit: int = 200, **wanted) -> list[int]:
        return [one.seq for one in self.desk.queue(Filter(**wanted), cursor, limit).rows]

    def close(self) -> None:
        self.desk.close()
        self.store.close()
