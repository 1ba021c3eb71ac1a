"""The ring: a slot's life, leases, what is not there, processes that come and go."""

import multiprocessing as mp
import os
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_parts import SLOT_BYTES, SLOTS, SOON, picture, put

from pipeline.errors import ConfigError, StageError
from pipeline.frames import (
    SHARED,
    Reader,
    Ring,
    create_ring,
    digest_of,
    remove_ring,
)
from pipeline.messages import Frames


@pytest.fixture
def name() -> Iterator[str]:
    """A ring of three slots."""
    ring = f"takt-test-{os.getpid()}-{time.monotonic_ns()}"
    create_ring(ring, SLOTS, SLOT_BYTES)
    yield ring
    remove_ring(ring)


def filled(ring: Ring, seed: int = 1) -> Frames:
    slot = ring.acquire(0)
    assert slot is not None
    return put(ring, slot, picture(seed))[0]


# --- a slot's life ---


def test_a_slot_goes_from_the_writer_to_the_reader_and_back(name):
    ring, reader = Ring(name), Reader()
    frames = filled(ring)
    assert ring.free() == SLOTS - 1
    held = reader.hold(frames, ())
    assert held is not None and held.intact()
    np.testing.assert_array_equal(held.pixels, picture(1))
    assert digest_of(held.pixels.data.cast("B")) == frames.digest
    held.release()
    assert ring.free() == SLOTS


def test_a_full_ring_gives_no_slot_and_overwrites_nothing(name):
    ring, reader = Ring(name), Reader()
    sets = [filled(ring, seed) for seed in range(SLOTS)]
    assert ring.acquire(0) is None and ring.free() == 0
    for seed, frames in enumerate(sets):
        held = reader.hold(frames, ())
        assert held is not None
        np.testing.assert_array_equal(held.pixels, picture(seed))
    assert ring.acquire(0) is None  # in use is not free either
    assert ring.reclaimed == 0


def test_a_slot_being_written_has_no_lease_to_lose(name):
    ring = Ring(name)
    for _ in range(SLOTS):
        ring.acquire(0)
    assert ring.acquire(1 << 62) is None


@pytest.mark.parametrize("claimed", [False, True])
def test_a_dead_readers_slot_comes_back_when_its_lease_is_over_and_is_counted(name, claimed):
    ring = Ring(name)
    sets = [filled(ring, seed) for seed in range(SLOTS)]
    if claimed:
        for frames in sets:
            assert Reader().hold(frames, ()) is not None
    assert ring.acquire(SOON) is None
    assert ring.acquire(SOON + 1) == sets[0].slot
    assert ring.reclaimed == 1


def test_a_reader_sees_that_its_slot_was_taken_from_it_and_cannot_free_it(name):
    ring, reader = Ring(name), Reader()
    held = reader.hold(filled(ring), ())
    assert held is not None
    for _ in range(SLOTS):
        ring.acquire(SOON + 1)
    assert not held.intact()
    held.release()
    assert ring.free() == 0


def test_a_message_that_names_an_older_set_of_the_slot_gets_nothing(name):
    ring, reader = Ring(name), Reader()
    stale = filled(ring)
    assert stale.slot is not None and stale.generation is not None
    ring.release(stale.slot, stale.generation)
    fresh = filled(ring, seed=2)
    assert fresh.slot == stale.slot
    assert reader.hold(stale, ()) is None
    assert reader.hold(fresh, ()) is not None


def test_a_set_is_given_to_one_reader_only(name):
    frames = filled(Ring(name))
    assert Reader().hold(frames, ()) is not None
    assert Reader().hold(frames, ()) is None


def test_a_slot_released_twice_stays_the_next_writers(name):
    ring, reader = Ring(name), Reader()
    held = reader.hold(filled(ring), ())
    assert held is not None
    held.release()
    taken = [ring.acquire(0) for _ in range(SLOTS)]
    held.release()
    assert ring.free() == 0 and None not in taken


def test_a_new_writer_takes_back_what_the_last_one_was_writing_and_nothing_else(name):
    first = Ring(name)
    first.acquire(0)
    frames = filled(first)
    second = Ring(name)
    second.take_over()
    assert second.free() == SLOTS - 1
    assert Reader().hold(frames, ()) is not None


def test_slots_do_not_share_memory(name):
    ring = Ring(name)
    for slot in range(SLOTS):
        ring.acquire(0)
        ring.room(slot)[:] = bytes([slot + 1]) * len(ring.room(slot))
    assert [set(bytes(ring.room(slot))) for slot in range(SLOTS)] == [{1}, {2}, {3}]
    assert len(ring.room(0)) >= SLOT_BYTES and len(ring.room(0, offset=100)) == len(ring.room(0)) - 100


@given(st.lists(st.tuples(st.sampled_from(["write", "hold", "release", "late"]), st.integers(0, 9)), max_size=40))
@settings(max_examples=80, deadline=None)
def test_whatever_the_order_no_held_set_changes_while_it_is_intact(steps):
    name = f"takt-test-{os.getpid()}-order"
    create_ring(name, SLOTS, SLOT_BYTES)
    ring, reader, now = Ring(name), Reader(), 0
    sent: list[tuple[Frames, int]] = []
    holds: list = []
    for number, (what, which) in enumerate(steps):
        if what == "write" and (slot := ring.acquire(now)) is not None:
            sent.append((put(ring, slot, picture(number))[0], number))
        elif what == "late":
            now = SOON + 1 if which == 0 else now
        elif what == "hold" and sent:
            frames, seed = sent[which % len(sent)]
            if (held := reader.hold(frames, ())) is not None:
                holds.append((held, seed))
        elif what == "release" and holds:
            holds.pop(which % len(holds))[0].release()
        for held, seed in holds:
            if held.intact():
                np.testing.assert_array_equal(held.pixels, picture(seed))
    remove_ring(name)


# --- creating, keeping, refusing ---


def test_a_ring_of_the_same_shape_is_kept_with_what_is_in_it(name):
    frames = filled(Ring(name))
    create_ring(name, SLOTS, SLOT_BYTES)
    assert Reader().hold(frames, ()) is not None


@pytest.mark.parametrize(("slots", "slot_bytes"), [(SLOTS + 1, SLOT_BYTES), (1, 3 * 12_288), (SLOTS, 2 * SLOT_BYTES)])
def test_a_ring_of_another_shape_is_made_anew_even_if_it_is_as_large(name, slots, slot_bytes):
    filled(Ring(name))
    create_ring(name, slots, slot_bytes)
    ring = Ring(name)
    assert (ring.slots, ring.free()) == (slots, slots)
    assert ring.slot_bytes >= slot_bytes


def test_a_ring_that_cannot_be_had_is_a_settings_error_and_leaves_nothing():
    with pytest.raises(
        ConfigError, match=r"needs 8000000000 MB of shared memory, \d+ MB are free: lower slots or"
    ) as error:
        create_ring("takt-test-huge", 2, 4 * 10**15)
    assert "\n" not in str(error.value)
    assert not (SHARED / "takt-test-huge").exists()


def test_a_ring_that_is_not_there_or_not_one_says_what_to_do():
    with pytest.raises(StageError, match="does not exist: start the line"):
        Ring("takt-test-none")
    foreign = SHARED / f"takt-test-foreign-{os.getpid()}"
    foreign.write_bytes(b"x" * 8192)
    try:
        with pytest.raises(StageError, match="another format"):
            Ring(foreign.name)
    finally:
        foreign.unlink()


@pytest.mark.parametrize(
    "changes",
    [
        {"ring": "takt-test-none"},
        {"ring": ""},
        {"ring": ".."},
        {"ring": "../shm/x"},
        {"slot": 99},
        {"generation": 0},
        {"generation": 7},
        {"shape": (2, 3000, 4000)},
        {"shape": (1 << 40, 1 << 40)},
        {"shape": (0, 30, 40)},
        {"slot": None, "generation": None},
    ],
    ids=str,
)
def test_a_message_that_names_what_is_not_there_gets_nothing(name, changes):
    frames = filled(Ring(name)).model_copy(update=changes)
    assert Reader().hold(frames, ()) is None


@pytest.mark.parametrize("behind", [(), (b"x" * 2399,), (b"x" * 2401,), (b"x" * 1200, b"x" * 1200)])
def test_pixels_behind_a_message_must_be_exactly_as_many_as_it_says(behind):
    frames = Frames(shape=(2, 30, 40), dtype="uint8", digest="0" * 32)
    assert Reader().hold(frames, tuple(map(memoryview, behind))) is None


# --- processes ---


def _attach_and_leave(name: str) -> None:
    Ring(name).acquire(0)


def _echo(inbox: "mp.Queue[str | None]", outbox: "mp.Queue[tuple[str, str]]") -> None:
    """Hold every set that is named, say its digest, give it back."""
    reader = Reader()
    while (text := inbox.get()) is not None:
        frames = Frames.model_validate_json(text)
        held = reader.hold(frames, ())
        assert held is not None
        outbox.put((frames.digest, digest_of(held.pixels.data.cast("B"))))
        held.release()


def test_two_processes_exchange_sets_and_a_leaving_reader_takes_nothing_along(name):
    spawn = mp.get_context("spawn")
    leaving = spawn.Process(target=_attach_and_leave, args=(name,))
    inbox, outbox = spawn.Queue(), spawn.Queue()
    echo = spawn.Process(target=_echo, args=(inbox, outbox))
    leaving.start()
    echo.start()
    leaving.join(30)
    assert leaving.exitcode == 0
    assert (SHARED / name).exists()
    ring = Ring(name)
    assert ring.free() == SLOTS - 1  # what the other process took
    ring.take_over()
    for seed in range(10):
        frames = filled(ring, seed)
        inbox.put(frames.model_dump_json())
        assert outbox.get(timeout=30) == (frames.digest, digest_of(picture(seed).data.cast("B")))
    inbox.put(None)
    echo.join(30)
    assert echo.exitcode == 0 and (SHARED / name).exists()
    assert ring.reclaimed == 0
