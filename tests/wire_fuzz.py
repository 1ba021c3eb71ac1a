"""What a stranger, a broken peer or another version may put on a socket: endless, and the same for the same seed."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import msgpack

JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    (1 << 64) - 1,
    -(1 << 63),
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x" * 300,
    "../../../x",
    "\x00",
    b"\xff\xfe",
    [],
    [[[[]]]],
    {},
    {"a": {"b": 1}},
]
Parts = list[bytes]


def fuzzed(valid: list[bytes], seed: int) -> Iterator[Parts]:
    """Multipart messages; `valid` are encoded messages that the socket would take."""
    rng = random.Random(seed)
    kinds = [_noise, _cut, _flipped, _long, _retyped, _retyped, _retyped, _format, _topic, _many]
    while True:
        yield rng.choice(kinds)(rng, rng.choice(valid))


def _noise(rng: random.Random, valid: bytes) -> Parts:
    return [rng.randbytes(rng.choice([0, 1, 7, 200, 3000]))]


def _cut(rng: random.Random, valid: bytes) -> Parts:
    return [valid[: rng.randrange(len(valid))]]


def _flipped(rng: random.Random, valid: bytes) -> Parts:
    data = bytearray(valid)
    for _ in range(rng.randrange(1, 6)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return [bytes(data)]


def _long(rng: random.Random, valid: bytes) -> Parts:
    """Above the topic's limit; the longest ones end the connection before they are read."""
    return [valid + bytes(rng.choice([1, 70_000, 200_000, 2_000_000]))]


def _retyped(rng: random.Random, valid: bytes) -> Parts:
    """One value anywhere becomes something else."""
    return [_packed(_changed(rng, msgpack.unpackb(valid)))]


def _changed(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return value | {key: _changed(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], _changed(rng, value[at]), *value[at + 1 :]]
    return rng.choice([*JUNK, rng.getrandbits(63), f"{rng.getrandbits(128):032x}"])


def _format(rng: random.Random, valid: bytes) -> Parts:
    return [_packed(msgpack.unpackb(valid) | {"format": rng.choice([0, 2, 99, "1", None, 1.0, True])})]


def _topic(rng: random.Random, valid: bytes) -> Parts:
    names = ["triggers", "captured", "images", "verdicts", "presence", "recipes", "evidence", "outcomes", "health"]
    names += ["gossip"]
    return [_packed(msgpack.unpackb(valid) | {"topic": rng.choice(names)})]


def _many(rng: random.Random, valid: bytes) -> Parts:
    more = [rng.randbytes(rng.choice([0, 1, 500])) for _ in range(rng.choice([1, 2, 40]))]
    return rng.choice([[valid, *more], [b"", valid], [*more, valid], [valid, valid]])


def _packed(value: Any) -> bytes:
    return bytes(msgpack.packb(value) or b"")


def sent(send: Callable[[Parts], object], valid: list[bytes], seed: int, messages: int) -> None:
    """Send so many of them."""
    for _, parts in zip(range(messages), fuzzed(valid, seed), strict=False):
        send(parts)
