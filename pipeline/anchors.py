"""Anchors: how many records the ledger had and the hash of the last one, signed; pure.

A chain of hashes shows every change but two: an end that was cut off, and a chain that was written anew. Anchors
that are kept elsewhere than in the ledger's own files show these as well, up to the newest anchor.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Anchor:
    """So many records stood in the ledger then; `head` is the hash of the last of them."""

    station: str
    wall: str  # UTC, ISO 8601
    records: int
    head: str
    signature: str = ""

    def text(self) -> bytes:
        """What is signed."""
        return "\n".join(("takt anchor 1", self.station, self.wall, str(self.records), self.head)).encode()


@dataclass(frozen=True)
class Checked:
    """What anchors say of a ledger. `at`: no record before this one need be doubted on their account."""

    anchors: int = 0
    until: str | None = None  # the newest anchor that holds
    problem: str | None = None
    at: int = 0


def anchor_of(record: Mapping[str, Any]) -> Anchor:
    """The anchor in a ledger's record of that step: its own number is the count, its `prev` is the head."""
    fields = ("station", "wall", "n", "prev", "signature")
    return Anchor(*(record[name] for name in fields))


def check(
    anchors: Iterable[Anchor], hashes: Mapping[int, str], first: int, end: int, authentic: Callable[[Anchor], bool]
) -> Checked:
    """Hold a ledger's records `first` to `end` - 1, whose `hashes` are known by number, against its anchors."""
    held, until, covered = 0, None, first
    signed = {anchor: authentic(anchor) for anchor in anchors if anchor.records > first}
    for anchor in sorted(signed, key=lambda anchor: (anchor.records, not signed[anchor], anchor.wall)):
        said = f"the anchor of {anchor.wall[:19]}"
        if not signed[anchor]:
            return Checked(held, until, f"{said} is not signed by this machine's key", anchor.records)
        if anchor.records > end:
            return Checked(held, until, f"{said} says {anchor.records} records, {end} are here", end)
        if hashes.get(anchor.records - 1) != anchor.head:
            span = f"changed or put in between {covered} and {anchor.records - 1}"
            return Checked(held, until, f"{said} signed other records: {span}", anchor.records - 1)
        held, until, covered = held + 1, anchor.wall, anchor.records
    return Checked(held, until)
