"""The wire format: what follows the schema comes back as it was, all else is refused in one line."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire_parts import BROKEN, CAPTURED, envelope

from pipeline.bus import decode, encode
from pipeline.errors import MessageError
from pipeline.messages import (
    FAULTS,
    TOPICS,
    Captured,
    Defect,
    Evidence,
    Fault,
    FinalOutcome,
    Frames,
    Health,
    ImageSet,
    Loaded,
    LowMask,
    Message,
    Outcome,
    Presence,
    RecipeAt,
    Refusal,
    Timing,
    Trigger,
    Verdict,
    Wanted,
)

COUNTS = st.integers(0, (1 << 63) - 1)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=32)
TEXTS = st.text(max_size=16)
HEX32 = st.text("0123456789abcdef", min_size=32, max_size=32)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
FAULT = st.none() | st.sampled_from(list(Fault))
OUTCOMES = st.sampled_from(list(Outcome))
SEQUENCES = st.integers(0, 0xFFFF_FFFF)
FRAMES = st.builds(
    Frames,
    shape=st.tuples(COUNTS, COUNTS, COUNTS),
    dtype=st.sampled_from(["uint8", "uint16"]),
    digest=HEX32,
    ring=st.none() | NAMES,
    slot=st.none() | COUNTS,
    generation=st.none() | COUNTS,
)
DEFECTS = st.builds(
    Defect, x=COUNTS, y=COUNTS, width=COUNTS, height=COUNTS, area_px=COUNTS, peak=FLOATS, channels=st.tuples(TEXTS)
)
TIMING = st.builds(Timing, joined_ns=COUNTS, started_ns=COUNTS, network_ns=COUNTS, decided_ns=COUNTS)
MASK = st.none() | st.builds(LowMask, height=COUNTS, width=COUNTS, bits=st.binary(max_size=32_768))
SEVERAL_DEFECTS = st.lists(DEFECTS, max_size=3).map(tuple)
RECIPES_AT = st.builds(RecipeAt, recipe=TEXTS, path=TEXTS, used=st.booleans())
LOADED = st.builds(Loaded, recipe=TEXTS, calibration=TEXTS, engine=TEXTS)
MESSAGES: dict[str, st.SearchStrategy[Any]] = {
    "triggers": st.builds(
        Trigger,
        station=NAMES,
        token=HEX32,
        seq=SEQUENCES,
        panel_id=TEXTS,
        recipe_no=COUNTS,
        recipe=TEXTS,
        inspector=NAMES,
        cameras=st.tuples(NAMES, NAMES),
        edge_ns=COUNTS,
        window_ms=COUNTS,
    ),
    "captured": st.builds(
        Captured,
        station=NAMES,
        token=HEX32,
        camera=NAMES,
        frame_ids=st.tuples(COUNTS),
        digest=HEX32,
        exposed_ns=COUNTS,
        ready_ns=COUNTS,
        fault=FAULT,
    ),
    "images": st.builds(
        ImageSet, station=NAMES, token=HEX32, camera=NAMES, frames=FRAMES, exposed_ns=COUNTS, ready_ns=COUNTS
    ),
    "verdicts": st.builds(
        Verdict,
        station=NAMES,
        token=HEX32,
        inspector=NAMES,
        outcome=OUTCOMES,
        fault=FAULT,
        digest=HEX32,
        recipe=TEXTS,
        calibration=TEXTS,
        engine=TEXTS,
        score=FLOATS,
        limit=FLOATS,
        defects=SEVERAL_DEFECTS,
        mask=MASK,
        batch=COUNTS,
        timing=TIMING,
    ),
    "presence": st.builds(
        Presence,
        station=NAMES,
        stage=NAMES,
        role=st.sampled_from(["capture", "inspector"]),
        ready=st.booleans(),
        credits=COUNTS,
        loaded=st.lists(LOADED, max_size=3).map(tuple),
        refused=st.lists(st.builds(Refusal, recipe=TEXTS, why=TEXTS), max_size=2).map(tuple),
    ),
    "recipes": st.builds(
        Wanted,
        station=NAMES,
        recipes=st.lists(RECIPES_AT, min_size=1, max_size=3).map(tuple),
    ),
    "evidence": st.builds(
        Evidence,
        station=NAMES,
        token=HEX32,
        reason=st.sampled_from(["reject", "fault", "sample"]),
        cameras=st.tuples(NAMES),
        frames=st.tuples(FRAMES),
        map=st.none() | FRAMES,
    ),
    "outcomes": st.builds(
        FinalOutcome,
        station=NAMES,
        token=st.just("") | HEX32,
        seq=SEQUENCES,
        panel_id=TEXTS,
        outcome=OUTCOMES,
        fault=FAULT,
        acknowledged=st.booleans(),
        score=FLOATS,
        limit=FLOATS,
        defects=SEVERAL_DEFECTS,
        recipe=TEXTS,
        calibration=TEXTS,
        engine=TEXTS,
        latency_ms=FLOATS,
    ),
    "health": st.builds(
        Health,
        stage=NAMES,
        pid=COUNTS,
        state=st.sampled_from(["starting", "waiting", "ready", "error", "finished"]),
        text=TEXTS,
        counters=st.dictionaries(NAMES, COUNTS | st.floats(allow_nan=False), max_size=4),
    ),
}
TOPIC_NAMES = list(TOPICS)


def plain(message: Message) -> str:
    """The message as text: unlike the message, equal to itself where a number is nan."""
    return repr(message)


# --- the schema ---


def test_every_topic_is_tried():
    assert MESSAGES.keys() == TOPICS.keys()


@pytest.mark.parametrize("topic", TOPIC_NAMES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_message_arrives_as_it_was_sent(topic, data):
    message = data.draw(MESSAGES[topic])
    packed = encode(topic, "someone", 7, message)
    received = decode(packed, frozenset([topic]))
    assert (received.topic, received.source, received.sequence) == (topic, "someone", 7)
    assert plain(received.message) == plain(message)


def test_every_fault_has_its_own_number_and_a_text():
    assert FAULTS.keys() == set(Fault)
    assert len({text.number for text in FAULTS.values()}) == len(FAULTS)
    assert all(text.number > 0 and text.text.endswith(".") for text in FAULTS.values())


def test_the_largest_verdict_is_not_oversize():
    defect = Defect(x=9999, y=9999, width=9999, height=9999, area_px=10**8, peak=1.5, channels=("c" * 20,) * 8)
    largest = Verdict(
        station="s" * 32,
        token="0" * 32,
        inspector="i" * 32,
        outcome=Outcome.REJECT,
        fault=None,
        digest="0" * 32,
        recipe="0" * 64,
        calibration="0" * 64,
        engine="0" * 64,
        score=1.0,
        limit=1.0,
        defects=(defect,) * 64,
        mask=LowMask(height=512, width=512, bits=b"\xff" * 32_768),
        batch=8,
        timing=Timing(joined_ns=1 << 60, started_ns=1 << 60, network_ns=1 << 60, decided_ns=1 << 60),
    )
    packed = encode("verdicts", "inspector", 0, largest)
    assert decode(packed, frozenset(["verdicts"])).message == largest


@pytest.mark.parametrize("what", BROKEN)
def test_what_breaks_the_schema_is_refused_in_one_line(what):
    with pytest.raises(MessageError) as error:
        decode(bytes(BROKEN[what] or b""), frozenset(["captured"]))
    assert str(error.value) and "\n" not in str(error.value)


def test_every_topic_has_its_own_size_even_on_a_shared_socket():
    large = encode("captured", "capture_top", 0, CAPTURED.model_copy(update={"digest": "x" * 5000}))
    with pytest.raises(MessageError, match="oversize"):
        decode(large, frozenset(["captured", "verdicts"]))


@given(st.binary(max_size=200))
@example(b"\xc1")
@example(b"\xd6\xff\x00\x00\x00\x00")
@settings(max_examples=400, deadline=None)
def test_random_bytes_are_refused_and_raise_nothing_else(data):
    with pytest.raises(MessageError):
        decode(data, frozenset(TOPICS))


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_a_damaged_message_is_refused_or_still_one(place, damage):
    data = bytearray(envelope())
    place %= len(data)
    data[place : place + len(damage)] = damage
    with suppress(MessageError):
        assert isinstance(decode(bytes(data), frozenset(["captured"])).message, Captured)
