"""The walk through `handshake_world`: what can happen next in a state, and when two states are one."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from handshake_happenings import connected, judged, reported, restarted, right, turn, unrouted
from handshake_messages import report, said, token_of
from handshake_parts import RECIPE_NO
from handshake_world import (
    PAST_WINDOW,
    UNIT,
    UNKNOWN_NO,
    Book,
    Place,
    World,
    ensure,
    lost,
    put,
    spoiled,
    start,
    swapped,
    tell,
)

from pipeline.messages import Outcome
from pipeline.open_panels import LedgerState, Panel, Stopping
from pipeline.plcs import ACK_PASSED, ACK_REJECTED, ACK_TIMED_OUT, SLOTS


def explored(where: Place) -> tuple[int, int]:
    """Breadth first from the first trigger on: how many states and transitions; each transition is checked."""
    first = start(where)
    seen, queue, transitions = {key(first)}, deque([first]), 0
    while queue:
        for world in successors(queue.popleft()):
            transitions += 1
            name = key(world)
            if name not in seen:
                seen.add(name)
                queue.append(world)
    return len(seen), transitions


def successors(world: World) -> Iterator[World]:
    after = turn(world)
    yield after
    if any(book.triggered_ns >= 0 and not (book.closed and book.ack) for book in world.books) and after == world:
        yield later(world)
    if may_trigger(world):
        yield triggered(world, RECIPE_NO)
    for number, book in enumerate(world.books):
        if book.edge_ns >= 0:
            yield from _messages(world, number, book)
        if _decidable(world, book):
            yield decided(world, number, alive=True, told=True)
    yield from _recoveries(world)
    if world.swaps < world.place.swaps:
        yield swapped(world)
    if world.mishaps < world.place.mishaps:
        yield from (after._replace(mishaps=world.mishaps + 1) for after in _mishaps(world))


def _messages(world: World, number: int, book: Book) -> Iterator[World]:
    """After the result, and after a fault, nothing that comes may change anything: seen by the next turn."""
    cameras = world.place.terms.cameras
    if book.open and book.intent is None and not book.spoiled:
        yield from (reported(world, number, camera, "good") for camera in cameras)
        yield judged(world, number, right(book))
        return
    before = world.state
    for camera in cameras:
        world = reported(world, number, camera, "good")
    world = judged(world, number, right(book))
    if book.open:
        yield turn(world)
    else:
        ensure(world.state == before, "a panel that is over was changed")


def _decidable(world: World, book: Book) -> bool:
    late = world.now_ns - book.triggered_ns >= PAST_WINDOW * UNIT
    return book.triggered_ns >= 0 and not book.ack and (late or book.result is not None)


def _recoveries(world: World) -> Iterator[World]:
    if not world.linked:
        yield connected(world)
    if not world.inspector:
        yield world._replace(inspector=True)
    if not world.state.ledger_ok:
        yield tell(world, LedgerState(ok=True))


def _mishaps(world: World) -> Iterator[World]:
    if world.linked:
        yield lost(world)
        yield turn(world, "link")
        yield turn(world, "time")
    if world.inspector:
        yield world._replace(inspector=False)
    if world.state.ledger_ok:
        yield tell(spoiled(world), LedgerState(ok=False))
        yield turn(world, "ledger")
    if not world.state.stopping:
        yield tell(spoiled(world), Stopping())
    yield restarted(world)
    yield restarted(turn(world, "crash"))
    yield later(world)  # the bridge's loop is slow
    if may_trigger(world):
        yield triggered(world, UNKNOWN_NO)
    for number, book in enumerate(world.books):
        yield from _mishaps_of(world, number, book)


def _mishaps_of(world: World, number: int, book: Book) -> Iterator[World]:
    if _decidable(world, book):
        yield decided(world, number, alive=False, told=True)
        yield decided(world, number, alive=True, told=False)
    if not book.open:
        return
    after = [reported(world, number, world.place.terms.cameras[0], kind) for kind in ("other", "fault")]
    after += [judged(world, number, kind) for kind in world.place.wrong[number]]
    if world.place.swaps:  # found by the one that has taken over, or by the one before
        after.append(judged(world, number, "good" if right(book) == "new" else "new"))
    after.append(unrouted(world, number))
    yield from after if book.intent is None else map(turn, after)


# --- what the PLC and the clock do ---


def triggered(world: World, recipe_no: int) -> World:
    """The PLC's next panel stands before the cameras."""
    number = next(number for number, book in enumerate(world.books) if book.triggered_ns < 0)
    book = world.books[number]._replace(recipe_no=recipe_no, triggered_ns=world.now_ns)
    return put(world, number, book)


def may_trigger(world: World) -> bool:
    """Rule 2: only into a slot that is empty and whose last panel the PLC has decided."""
    book = next((book for book in world.books if book.triggered_ns < 0), None)
    if book is None:
        return False
    others = [other for other in world.books if other.slot == book.slot and other.triggered_ns >= 0]
    return all(other.ack and not other.result for other in others)


def decided(world: World, number: int, *, alive: bool, told: bool) -> World:
    """The PLC decides by rule 3 what becomes of a panel; `alive`: it hears the vision system's heartbeat."""
    book = world.books[number]
    in_time = world.now_ns - book.triggered_ns < PAST_WINDOW * UNIT
    passes = book.result is Outcome.PASS and alive
    ack = (ACK_PASSED if passes else ACK_REJECTED) if in_time else ACK_TIMED_OUT
    return put(world, number, book._replace(ack=ack, told=told))


def later(world: World) -> World:
    return world._replace(now_ns=world.now_ns + UNIT)


# --- when two states are one ---


def key(world: World) -> tuple[Any, ...]:
    """Ages in classes, tokens by order; panels in any order, unless two share a slot."""
    panels = {panel.token: panel for panel in world.state.panels}
    parts = [_part(world, number, book, panels.get(token_of(number))) for number, book in enumerate(world.books)]
    if len({seq % SLOTS for seq in world.place.seqs}) == len(parts):
        parts.sort()
    state = world.state
    crowds = state.newest is not None and world.now_ns - state.newest.seen_ns < state.terms.takt_ns
    return *parts, crowds, world.mishaps, world.swaps, world.linked, world.inspector, state.ledger_ok, state.stopping


def _part(world: World, number: int, book: Book, panel: Panel | None) -> tuple[Any, ...]:
    age = min((world.now_ns - book.triggered_ns) // UNIT, PAST_WINDOW) if book.triggered_ns >= 0 else -1
    plc = age, book.recipe_no, book.result or "", book.ack, book.told
    if book.closed and book.ack:
        return (0, book.result or "")
    if panel is None:
        return 1, plc, book.closed
    left = max((panel.deadline_ns - world.now_ns) // UNIT, -PAST_WINDOW)
    by = panel.expected.recipe if panel.expected else ""
    bridge = left, by, bool(panel.fault), panel.written or "", panel.reopened, book.intent or ""
    if panel.fault or panel.written:  # what else was said of it changes nothing any more, as `_messages` sees
        return 2, plc, bridge, book.spoiled
    return 3, plc, bridge, _heard(number, panel, world.place), tuple(sorted(book.sets)), book.good, book.wrong


def _heard(number: int, panel: Panel, where: Place) -> tuple[Any, ...]:
    sets = tuple(sorted((camera, digest == report(number, camera, "good").digest) for camera, digest in panel.captured))
    kinds = ("good", "new", *where.wrong[number])
    said_so = tuple(kind for kind in kinds if panel.verdict is said(number, kind, where.terms.cameras))
    return sets, said_so
