"""What can happen in `handshake_world`: a turn of the bridge, a lost link, a restart, and what stages say."""

from handshake_messages import report, said, token_of
from handshake_parts import INSPECTOR, OTHER
from handshake_world import (
    FIRST_SEQ,
    GIVEN_UP,
    PAST_DEADLINE,
    UNIT,
    Book,
    World,
    cleared,
    ensure,
    known,
    proven,
    put,
    spoiled,
    taken_again,
    tell,
)

from pipeline.handshake import reopen
from pipeline.open_panels import CapturedSeen, PlcSeen, State, Tick, Unrouted, VerdictSeen
from pipeline.plcs import SLOTS, SlotSeen


def turn(world: World, fails: str = "") -> World:
    """One turn of the bridge's loop: the clock, and the PLC if it is there."""
    before = world.books
    world = tell(world, Tick(world.now_ns), fails)
    if world.linked:
        world = tell(world, _seen(world), fails)
    _check_turn(world, before, fails)
    return world


def _seen(world: World) -> PlcSeen:
    slots = {seq % SLOTS: SlotSeen(seq, "", 0, 0, seq, 0) for seq in range(FIRST_SEQ - SLOTS + 1, FIRST_SEQ + 1)}
    fresh = []
    for number, book in enumerate(world.books):
        if book.triggered_ns >= 0:
            old = slots[book.slot]
            ack = (book.seq, book.ack) if book.told else (old.ack_seq, old.ack_code)
            slots[book.slot] = SlotSeen(book.seq, f"panel-{number}", book.recipe_no, 2, *ack)
            fresh += [token_of(number)] if book.edge_ns < 0 and not taken_again(world, book) else []
    spare = (f"f{number:031x}" for number in range(SLOTS))
    tokens = (*fresh, *spare)[:SLOTS]
    inspector = INSPECTOR if world.inspector else None
    return PlcSeen(tuple(slots[slot] for slot in range(SLOTS)), world.now_ns, tokens, inspector, world.now_ns)


def _check_turn(world: World, before: tuple[Book, ...], fails: str) -> None:
    """What a turn must not leave undone."""
    for was, book in zip(before, world.books, strict=True):
        if book.triggered_ns >= 0 and world.linked:
            ensure(book.edge_ns >= 0, "a trigger was not taken up")
            ensure(not (was.open and book.open and book.told), "an acknowledgement was overlooked")
            ensure(not (book.closed and book.result), "a slot was not emptied")
        if not book.open:
            continue
        age = world.now_ns - book.edge_ns
        ensure(age < GIVEN_UP * UNIT, "a panel stays open for ever")
        if book.intent is None and not fails:
            ensure(age < PAST_DEADLINE * UNIT and not book.spoiled, "no reject was written")
            ensure(not proven(world, book), "a proven panel waits")


def connected(world: World) -> World:
    """It is made again: slots without an open panel are emptied."""
    taken = {panel.slot for panel in world.state.panels}
    world = world._replace(linked=True)
    for slot in set(range(SLOTS)) - taken:
        world = cleared(world, slot)
    return world


def restarted(world: World) -> World:
    """The bridge is killed; a new one knows the ledger and nothing else."""
    world = spoiled(world)
    records = [
        {"token": token_of(number), "seq": book.seq, "panel_id": "", "recipe_no": book.recipe_no}
        | {"intent": book.intent, **_names(book)}
        for number, book in enumerate(world.books)
        if book.open
    ]
    aged = (book._replace(edge_ns=world.now_ns - UNIT) if book.open else book for book in world.books)
    world = world._replace(books=tuple(aged))  # the new bridge gives them no time, but waits for the acknowledgement
    taken = [book for book in world.books if book.edge_ns >= 0]
    shown = known({book.slot: (book.seq, book.closed and book.told) for book in taken})
    state = State(world.state.terms, last_seq=taken[-1].seq if taken else FIRST_SEQ, shown=shown)
    return connected(world._replace(state=reopen(state, records, world.now_ns)))


def _names(book: Book) -> dict[str, str]:
    """As in the trigger's record."""
    by = book.by
    return {"recipe": by.recipe, "calibration": by.calibration, "engine": by.engine} if by else {}


def right(book: Book) -> str:
    """The verdict that passes this panel: by the recipe that it was triggered for."""
    return "new" if book.by is OTHER else "good"


def reported(world: World, number: int, camera: str, kind: str) -> World:
    book = world.books[number]
    if book.open and book.intent is None:
        sets = book.sets | {camera} if kind == "good" else book.sets
        book = book._replace(sets=sets, wrong=book.wrong or kind == "other", spoiled=book.spoiled or kind == "fault")
    return tell(put(world, number, book), CapturedSeen(report(number, camera, kind)))


def judged(world: World, number: int, kind: str) -> World:
    """The same found by another inspector contradicts nothing, but alone it proves nothing."""
    book = world.books[number]
    if book.open and book.intent is None:
        good = kind == right(book)
        contradicts = not good and not (kind == "inspector" and book.good and right(book) == "good")
        book = book._replace(good=book.good or good, wrong=book.wrong or contradicts)
    return tell(put(world, number, book), VerdictSeen(said(number, kind, world.place.terms.cameras)))


def unrouted(world: World, number: int) -> World:
    """The announcement did not reach everybody."""
    book = world.books[number]
    if book.open and book.intent is None:
        book = book._replace(spoiled=True)
    return tell(put(world, number, book), Unrouted(token_of(number)))
