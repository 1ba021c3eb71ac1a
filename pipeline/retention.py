"""Which pictures policy deletes, and when. What the ledger and people said of a panel is never touched. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.config import KeepConfig

ORDER = {"fault": 0, "sample": 1, "reject": 2}  # what the day's quota takes first


@dataclass(frozen=True)
class Kept:
    """Lossless pictures of one panel."""

    token: str
    reason: str
    kept_at: str
    bytes: int
    decided: bool


def before(keep: KeepConfig, now: datetime) -> dict[str, str]:
    """For each reason the time before which its lossless pictures go."""
    days = {"reject": keep.reject_days, "fault": keep.fault_days, "sample": keep.sample_days}
    return {reason: _iso(now - timedelta(days=number)) for reason, number in days.items()}


def thumbs_before(keep: KeepConfig, now: datetime) -> str:
    return _iso(now - timedelta(days=keep.thumb_days))


def over_quota(keep: KeepConfig, day: Iterable[Kept]) -> list[str]:
    """Tokens whose pictures go so that one day's fit the quota: by reason, decided ones first, then the oldest."""
    kept = list(day)
    over = sum(one.bytes for one in kept) - (keep.daily_gb or float("inf")) * 1e9
    gone: list[str] = []
    for one in sorted(kept, key=lambda one: (ORDER.get(one.reason, 0), not one.decided, one.kept_at)):
        if over <= 0:
            break
        over -= one.bytes
        gone.append(one.token)
    return gone


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")
