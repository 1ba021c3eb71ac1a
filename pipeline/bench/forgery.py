"""What becomes of a message on a bad line: lost, late, twice, torn, mixed up. Pure and seeded.

The threat is corruption, loss, repetition and confusion, not an inspector that lies. So no message ever says PASS of a
panel that was not inspected with its token, digest, recipe and engine all right, unless the true verdict comes first:
nobody could tell such a one from the truth. Every forged verdict below claims PASS and has one of the four wrong;
`claim` has all four right and follows the true verdict.
"""

import random
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack

ANY = ("drop", "duplicate", "delay", "reorder", "flip", "truncate", "oversize")
VERDICT = ("token", "digest", "recipe", "engine", "claim", "replay", "foreign")
KINDS = (*ANY, *VERDICT)
OVERSIZE, OVERSIZE_VERDICT = 6_000, 70_000  # more than a topic may have, less than what ends the connection
REMEMBERED = 64  # verdicts of other panels
MS = 1_000_000


@dataclass(frozen=True)
class Sent:
    """A message to pass on after `after_ns`; `behind`: after the next one on the same way, at the latest then."""

    data: bytes
    after_ns: int = 0
    behind: bool = False


@dataclass
class Forger:
    """Passes messages on, and harms a share `rate` of them by each kind that suits; at most one kind a message.

    Every verdict is held for up to `hold_ms` first, so that several panels are open at once and verdicts overtake
    each other.
    """

    rate: float
    seed: int
    window_ms: int
    hold_ms: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)  # messages by topic
    _past: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def passed_on(self, data: bytes) -> list[Sent]:
        """What is sent in place of `data`, in order."""
        envelope = _envelope(data)
        topic = str(envelope.get("topic", "?"))
        self.seen[topic] += 1
        is_verdict = topic == "verdicts" and isinstance(envelope.get("body"), dict)
        kind = self._kind(KINDS if is_verdict else ANY)
        sent = self._harmed(kind, data, envelope) if kind else [Sent(data)]
        if is_verdict:
            self._past.append(envelope)
            held_ns = int(self._rng.random() * self.hold_ms * MS)
            sent = [Sent(one.data, one.after_ns + held_ns, one.behind) for one in sent]
        return sent

    def _kind(self, kinds: tuple[str, ...]) -> str | None:
        draw = self._rng.random()
        return kinds[int(draw / self.rate)] if draw < self.rate * len(kinds) else None

    def _harmed(self, kind: str, data: bytes, envelope: dict[str, Any]) -> list[Sent]:
        sent = self._by_verdict(kind, data, envelope) if kind in VERDICT else self._by_any(kind, data, envelope)
        self.counts[kind] += sent != [Sent(data)]
        return sent

    def _by_any(self, kind: str, data: bytes, envelope: dict[str, Any]) -> list[Sent]:
        match kind:
            case "drop":
                return []
            case "duplicate":
                return [Sent(data), Sent(data)]
            case "delay":
                return [Sent(data, int((1 + self._rng.random()) * self.window_ms * MS))]
            case "reorder":
                return [Sent(data, self.window_ms * MS // 4, behind=True)]
            case "flip":
                return [Sent(flipped(data, self._rng.randrange(8 * len(data))))]
            case "truncate":
                return [Sent(data[: self._rng.randrange(len(data))])]
            case _:
                return [Sent(data + bytes(OVERSIZE_VERDICT if envelope.get("topic") == "verdicts" else OVERSIZE))]

    def _by_verdict(self, kind: str, data: bytes, envelope: dict[str, Any]) -> list[Sent]:
        others = [past for past in self._past if past["body"]["token"] != envelope["body"]["token"]]
        other = self._rng.choice(others) if others else None
        match kind:
            case "claim":
                return [Sent(data), Sent(_packed(envelope, PASSING))]
            case "replay":
                return [Sent(_packed(other)), Sent(data)] if other else [Sent(data)]
            case "foreign" | "token" if other is None:
                return [Sent(data)]
            case "foreign":  # another panel's inspection under this panel's name
                return [Sent(_packed(other or {}, PASSING | {"token": envelope["body"]["token"]}))]
            case "token":  # this panel's inspection under another panel's name
                return [Sent(_packed(envelope, PASSING | {"token": (other or {})["body"]["token"]}))]
            case _:
                return [Sent(_packed(envelope, PASSING | {kind: self._another(envelope["body"][kind])}))]

    def _another(self, digits: str) -> str:
        """A hexadecimal number that differs in one digit."""
        place = self._rng.randrange(len(digits)) if digits else 0
        digit = digits[place : place + 1] or "0"
        return digits[:place] + ("1" if digit == "0" else "0") + digits[place + 1 :]


PASSING: dict[str, Any] = {"outcome": "PASS", "fault": None, "score": 0.17, "limit": 0.2, "defects": [], "mask": None}


def flipped(data: bytes, bit: int) -> bytes:
    """`data` with one byte changed in one bit."""
    return data[: bit // 8] + bytes([data[bit // 8] ^ (1 << bit % 8)]) + data[bit // 8 + 1 :]


def _envelope(data: bytes) -> dict[str, Any]:
    try:
        found = msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException):
        return {}
    return found if isinstance(found, dict) else {}


def _packed(envelope: dict[str, Any], changes: Mapping[str, Any] | None = None) -> bytes:
    return bytes(msgpack.packb(envelope | {"body": envelope["body"] | dict(changes or {})}) or b"")
