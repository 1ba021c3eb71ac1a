"""A ledger on disk held against everything there is: its own chain, its anchors, and those kept in the store."""

from pathlib import Path
from typing import Any

from pipeline.anchors import Anchor, Checked, check
from pipeline.errors import ConfigError
from pipeline.keys import PUBLIC, public_key
from pipeline.ledger import ledger_files, read_lines
from pipeline.recount import Count, recount
from pipeline.store import stored_anchors


def verified(path: Path, state: Path | None = None, *, anchored: bool = True) -> dict[str, Any]:
    """The figures of `takt ledger verify`; `state` is where store and key are, by default the folder the ledger is in.

    Raises:
        ConfigError: there is no ledger, or not the store or the key that its anchors need.
    """
    files = ledger_files(path)
    if not files:
        raise ConfigError(f"{path}: no ledger there; name the folder `ledger` in a line's state_dir")
    if not anchored:
        return _figures(recount(read_lines(files), whole=path.is_dir(), keep_outcomes=False), Checked())
    folder = path if path.is_dir() else path.parent
    place = state or folder.resolve().parent
    kept = stored_anchors(place)
    if kept is None and state is not None:
        raise ConfigError(f"{state}: no store there: name the line's state_dir, or leave it with --no-anchors")
    count = recount(read_lines(files), whole=path.is_dir(), anchors=kept or (), keep_outcomes=False)
    is_newest = path.is_dir() or path.name == max(file.name for file in ledger_files(folder))
    return _figures(count, _checked(count, kept or [], place, is_newest=is_newest))


def _checked(count: Count, kept: list[Anchor], place: Path, *, is_newest: bool) -> Checked:
    """What the ledger's own anchors and the kept ones say."""
    anchors, key = [*count.anchors, *kept], public_key(place)
    if key is None and not kept:
        return Checked()  # a copy of the ledger alone
    if key is None:
        raise ConfigError(f"{place / 'keys' / PUBLIC}: the anchors' key is missing: copy it from the line's machine")
    first = count.first or 0
    end = first + count.records
    if not is_newest:  # what stands in later files is not missing here
        anchors = [anchor for anchor in anchors if anchor.records <= end]
    return check(anchors, count.hashes, first, end, lambda anchor: key.holds(anchor.text(), anchor.signature))


def _figures(count: Count, checked: Checked) -> dict[str, Any]:
    """Of two things that are broken, the first."""
    broken = count.first_broken
    at = None if count.broken_at is None else (count.first or 0) + count.broken_at
    if checked.problem and (broken is None or (at is not None and checked.at < at)):
        broken = f"record {checked.at}: {checked.problem}"
    return {
        "records": count.records,
        "triggers": count.triggers,
        "passed": count.passed,
        "rejected": count.rejected,
        "faults": dict(count.faults),
        "open": len(count.open),
        "folded": count.folded,
        "left_out": count.left_out,
        "intact": broken is None,
        "first_broken": broken,
        "anchors": checked.anchors,
        "anchored_until": checked.until,
    }
