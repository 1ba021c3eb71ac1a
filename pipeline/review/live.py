"""The line now: what its processes say of themselves, what waits, and how long the disk lasts."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from pipeline.bus import Bus
from pipeline.config import LineConfig
from pipeline.messages import Health
from pipeline.review import figures
from pipeline.review.queries import text_of
from pipeline.stages import stages
from pipeline.store.pictures import bytes_by_day

LOOKED_BACK = 7  # days whose evidence says how fast the disk fills
GB = 1e9


@dataclass
class Watch:
    """Listens to the health of every stage; `turn` is called by the loop, the rest from any thread."""

    config: LineConfig
    bus: Bus
    _heard: dict[str, tuple[Health, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = [stage.name for stage in stages(self.config)]
        self._port = self.bus.sub([self.config.socket(f"health-{name}") for name in self._names], "health")

    def turn(self) -> None:
        for received in self._port.drain():
            said = received.message
            if isinstance(said, Health) and said.stage in self._names:
                self._heard[said.stage] = (said, time.monotonic())

    def stages(self) -> list[figures.StageFacts]:
        """In the order of the process table."""
        heard, now = dict(self._heard), time.monotonic()
        return [_stage(name, *heard[name], now) if name in heard else _silent(name) for name in self._names]


def _stage(name: str, said: Health, at_s: float, now_s: float) -> figures.StageFacts:
    counters = {key: float(value) for key, value in said.counters.items()}
    age = round(now_s - at_s, 3)
    return figures.StageFacts(stage=name, state=said.state, text=said.text, age_s=age, counters=counters)


def _silent(name: str) -> figures.StageFacts:
    return figures.StageFacts(stage=name, state="unknown", text="", age_s=None, counters={})


def disk(session: Session, state: Path, station: str, now: datetime) -> figures.Disk:
    """Room on the state's disk, and the days that it lasts at the rate of the last ones."""
    room = os.statvfs(state) if state.exists() else None
    free = room.f_bavail * room.f_frsize if room else 0
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = bytes_by_day(session, station, text_of(today - timedelta(days=LOOKED_BACK - 1)))
    rate = _a_day(days, now)
    return figures.Disk(
        free_gb=round(free / GB, 3),
        today_gb=round(days.get(f"{today:%Y-%m-%d}", 0) / GB, 6),
        last_days_gb=round(sum(days.values()) / GB, 6),
        days_left=round(free / rate, 1) if rate else None,
    )


def _a_day(days: Mapping[str, int], now: datetime) -> float:
    """Bytes a day since the first of these days; today counts as far as it has come, and for an hour at least."""
    if not any(days.values()):
        return 0.0
    began = datetime.fromisoformat(min(days)).replace(tzinfo=UTC)
    passed = (now - began) / timedelta(days=1)
    return sum(days.values()) / max(passed, 1 / 24)


def spool(rows: list[figures.StageFacts]) -> tuple[int, float | None]:
    """Panels whose evidence waits, and the age of the oldest, as the archiver says."""
    counters = next((row.counters for row in rows if row.stage == "archiver"), {})
    waiting = int(counters.get("spooled", 0))
    return waiting, counters.get("spool_age_s") if waiting else None
