"""Deletes pictures by policy, and leaves a record of it in the audit."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.audit import Audit
from pipeline.config import KeepConfig
from pipeline.log import logger
from pipeline.retention import before, over_quota, thumbs_before
from pipeline.shelf import THUMBS, lossless
from pipeline.store import Picture
from pipeline.store.pictures import by_token, deleted, of_day, outdated, outdated_thumbs

LOG = logger("tidying")
WHO = "takt"


def tidy(audit: Audit, keep: KeepConfig, now: datetime) -> int:
    """How many panels' pictures went. Files first: what a crash interrupts is found again by the next call.

    Raises:
        StoreError, OSError: it cannot be done now.
    """
    now = now.astimezone(UTC)
    with audit.database.reading() as session:
        old = outdated(session, audit.station, before(keep, now))
        small = outdated_thumbs(session, audit.station, thumbs_before(keep, now))
        days = {f"{day:%Y-%m-%d}" for day in (now, now - timedelta(days=1))} if keep.daily_gb else set()
        over = [token for day in sorted(days) for token in over_quota(keep, of_day(session, audit.station, day))]
        many = by_token(session, set(over) - {one.token for one in old})
    gone = _delete(audit, old, f"older than {keep.reject_days}, {keep.fault_days}, {keep.sample_days} days")
    gone += _delete(audit, many, f"over the day's {keep.daily_gb} GB")
    return gone + _delete(audit, small, f"thumbnails older than {keep.thumb_days} days", thumbs=True)


def _delete(audit: Audit, pictures: list[Picture], why: str, *, thumbs: bool = False) -> int:
    if not pictures:
        return 0
    archive = (audit.state / "evidence").resolve()
    for folder in (Path(one.folder).resolve() for one in pictures):
        if folder.is_relative_to(archive):  # whatever a row says, nothing else is deleted
            _remove(folder, thumbs=thumbs)
    size = sum(one.bytes for one in pictures)
    with audit.writing() as pen:
        deleted(pen.session, [one.token for one in pictures], thumbs=thumbs)
        first, last = min(one.kept_at for one in pictures), max(one.kept_at for one in pictures)
        said = f"{len(pictures)} panels, {size} bytes, kept {first} to {last}"
        pen.write(WHO, "pictures deleted", reason=f"policy: {why}", before=said)
    LOG.info("pictures deleted by policy", extra={"panels": len(pictures), "bytes": size, "why": why})
    return len(pictures)


def _remove(folder: Path, *, thumbs: bool) -> None:
    if not folder.is_dir():
        return
    if thumbs:
        shutil.rmtree(folder / THUMBS, ignore_errors=True)
        return
    for path in list(lossless(folder)):
        path.unlink(missing_ok=True)
