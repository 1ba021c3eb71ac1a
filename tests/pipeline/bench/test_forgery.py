"""What the storm does to messages keeps to its threat model, and a rate of 0 does nothing."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bench.forgery import ANY, KINDS, VERDICT, Forger, flipped
from pipeline.bus import decode, encode
from pipeline.errors import MessageError
from pipeline.messages import Outcome, Timing, Verdict

ACCEPTS = frozenset({"captured", "verdicts", "presence"})
BINDING = ("token", "digest", "recipe", "engine")


def verdict(number: int, outcome: Outcome = Outcome.REJECT) -> bytes:
    said = Verdict(
        station="s",
        token=f"{number:032x}",
        inspector="inspector",
        outcome=outcome,
        fault=None,
        digest=f"{number + 7:032x}",
        recipe="ab" * 32,
        calibration="",
        engine="cd" * 32,
        score=0.9,
        limit=0.2,
        defects=(),
        mask=None,
        batch=1,
        timing=Timing(joined_ns=0, started_ns=0, network_ns=0, decided_ns=0),
    )
    return encode("verdicts", "inspector", number, said)


def body(data: bytes) -> dict[str, Any]:
    return msgpack.unpackb(data)["body"]


def forged(kind: str) -> tuple[bytes, list[bytes]]:
    """A verdict, and what one kind of fault sends in its place."""
    forger = Forger(1e-9, seed=3, window_ms=60)
    forger.passed_on(verdict(1))
    data = verdict(2)
    return data, [sent.data for sent in forger._harmed(kind, data, msgpack.unpackb(data))]


@given(st.integers(0, 2**32), st.lists(st.integers(0, 1000), max_size=20))
def test_without_a_rate_every_message_goes_on_unchanged_at_once(seed: int, numbers: list[int]) -> None:
    forger = Forger(0.0, seed, window_ms=60)
    for number in numbers:
        data = verdict(number)
        sent = forger.passed_on(data)
        assert [(one.data, one.after_ns, one.behind) for one in sent] == [(data, 0, False)]
    assert not forger.counts


@pytest.mark.parametrize("kind", BINDING)
def test_a_forged_pass_has_one_binding_wrong(kind: str) -> None:
    true, (false,) = forged(kind)
    assert body(false)["outcome"] == "PASS"
    assert [name for name in BINDING if body(false)[name] != body(true)[name]] == [kind]
    assert isinstance(decode(false, ACCEPTS).message, Verdict)


def test_another_panels_inspection_under_this_panels_name_has_the_wrong_pixels() -> None:
    true, (false,) = forged("foreign")
    assert (body(false)["outcome"], body(false)["token"]) == ("PASS", body(true)["token"])
    assert body(false)["digest"] != body(true)["digest"]


def test_a_pass_with_every_binding_right_comes_after_the_true_verdict_only() -> None:
    true, sent = forged("claim")
    assert sent[0] == true
    assert (body(sent[1])["outcome"], len(sent)) == ("PASS", 2)


@given(st.integers(0, 2**32))
def test_no_message_alone_turns_a_reject_into_a_proven_pass(seed: int) -> None:
    """The line cannot tell such a one from the truth, so the storm must not make it."""
    forger = Forger(0.05, seed, window_ms=60)
    for number in range(20):
        data = verdict(number)
        true, alone = body(data), [one.data for one in forger.passed_on(data)]
        if data in alone:
            continue
        for data in alone:
            try:
                said = body(data)
            except (ValueError, KeyError, TypeError, msgpack.UnpackException):
                continue
            proven = isinstance(said, dict) and all(said.get(name) == true[name] for name in BINDING)
            assert not (proven and said.get("outcome") == "PASS")


@given(st.binary(min_size=1, max_size=50), st.data())
def test_a_flip_changes_one_bit(data: bytes, draw: st.DataObject) -> None:
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    changed = flipped(data, bit)
    assert sum((a ^ b).bit_count() for a, b in zip(data, changed, strict=True)) == 1


def test_what_is_oversize_or_cut_is_dropped_by_the_bus() -> None:
    for kind in ("oversize", "truncate"):
        for data in forged(kind)[1]:
            with pytest.raises(MessageError):
                decode(data, ACCEPTS)


def test_every_kind_is_injected_at_about_its_rate() -> None:
    forger = Forger(0.02, seed=1, window_ms=60)
    for number in range(5000):
        forger.passed_on(verdict(number))
    assert set(forger.counts) == set(KINDS) == {*ANY, *VERDICT}
    assert all(60 <= count <= 150 for count in forger.counts.values())
