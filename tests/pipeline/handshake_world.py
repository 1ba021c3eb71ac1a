"""A world around `handshake.step` that is small enough to be walked through whole.

Three panels, a PLC that decides by the contract's rule 3, cameras, an inspector, a ledger and a clock of four hands:
inside the bridge's window, past its deadline, past the PLC's window, given up. `Book` is what is true of a panel, kept
from what was sent and never from what the bridge thinks; every action of the bridge is held against it.
"""

from typing import Any, NamedTuple

from handshake_messages import token_of
from handshake_parts import EXPECTED, OTHER, RECIPE_NO, STATION

from pipeline.handshake import step
from pipeline.messages import Fault, Outcome
from pipeline.open_panels import (
    Action,
    Clear,
    Event,
    Expected,
    LedgerState,
    LinkLost,
    Publish,
    Record,
    Route,
    Shown,
    State,
    Switched,
    Terms,
    Unrecorded,
    Write,
)
from pipeline.plcs import ACK_PASSED, PASS_CODE, REJECT_CODE, SLOTS
from pipeline.triggers import ahead

UNIT = 1_000_000
PAST_DEADLINE, PAST_WINDOW, GIVEN_UP = 1, 2, 3  # units of age
UNKNOWN_NO = 9
FIRST_SEQ = 0xFFFF_FFFF  # the next one wraps


class Book(NamedTuple):
    """What is true of one panel. Times in nanoseconds."""

    seq: int
    recipe_no: int = RECIPE_NO
    triggered_ns: int = -1  # by the PLC; -1: not yet
    edge_ns: int = -1  # when a bridge saw it
    by: Expected | None = None  # what answered to its number when a bridge saw it
    sets: frozenset[str] = frozenset()  # cameras whose complete set came before a result was written
    good: bool = False  # and the expected verdict on just these
    wrong: bool = False  # or something that contradicts it: no pass, at the latest at the deadline
    spoiled: bool = False  # or anything after which it is a reject at once
    intent: Outcome | None = None  # in the ledger
    result: Outcome | None = None  # in the slot
    ack: int = 0
    told: bool = False
    closed: bool = False

    @property
    def slot(self) -> int:
        return self.seq % SLOTS

    @property
    def open(self) -> bool:
        return self.edge_ns >= 0 and not self.closed


class Place(NamedTuple):
    """What does not change: how many cameras, which sequences, which kinds of wrong verdicts, how many mishaps, and
    swaps of the recipe.
    """

    terms: Terms
    seqs: tuple[int, ...]
    wrong: tuple[tuple[str, ...], ...]  # of each panel
    mishaps: int
    swaps: int = 0


class World(NamedTuple):
    """One state of everything."""

    place: Place
    state: State
    books: tuple[Book, ...]
    now_ns: int = 10 * UNIT
    mishaps: int = 0  # so far
    swaps: int = 0  # so far: `EXPECTED` and `OTHER` in turn
    linked: bool = True
    inspector: bool = True
    ghosts: frozenset[int] = frozenset()  # numbers that were skipped and closed


def place(
    cameras: tuple[str, ...],
    seqs: tuple[int, ...],
    wrong: tuple[tuple[str, ...], ...],
    mishaps: int,
    takt_ns: int = 0,
    swaps: int = 0,
) -> Place:
    terms = Terms(STATION, cameras, {RECIPE_NO: EXPECTED}, 2 * UNIT, UNIT, UNIT - 1, UNIT, 0, takt_ns)
    return Place(terms, seqs, wrong, mishaps, swaps)


def start(where: Place) -> World:
    state = State(where.terms, last_seq=FIRST_SEQ, shown=known({}))
    return World(where, state, tuple(Book(seq) for seq in where.seqs))


def known(taken: dict[int, tuple[int, bool]]) -> tuple[Shown, ...]:
    """What a bridge that starts knows of the slots: slot -> its newest number, and whether that is decided."""
    old = {seq % SLOTS: (seq, True) for seq in range(FIRST_SEQ - SLOTS + 1, FIRST_SEQ + 1)}
    found = old | taken
    return tuple(Shown(found[slot][0], waited=not found[slot][1]) for slot in range(SLOTS))


# --- what the bridge does with what it decided ---


class BrokenPromiseError(AssertionError):
    """The hand-shake broke a promise."""


def ensure(condition: object, what: str) -> None:
    if not condition:
        raise BrokenPromiseError(what)


def tell(world: World, event: Event, fails: str = "") -> World:
    """The bridge takes an event and performs its actions; `fails`: what goes wrong at the first result."""
    state, actions = step(world.state, event)
    world = world._replace(state=state)
    for action in actions:
        world = _perform(world, action, fails)
    ensure(state.triggers == state.passed + state.rejected + len(state.panels), "a trigger without one outcome")
    return world


def _perform(world: World, action: Action, fails: str) -> World:
    match action:
        case Record("trigger", what):
            return _taken_up(world, what)
        case Record("outcome", what):
            return _closed(world, what)
        case Route(trigger):
            book = world.books[_number(world, trigger.seq)]
            ensure(
                book.open and (trigger.inspector is None) == book.spoiled, "announced to be inspected in vain, or not"
            )
            ensure(trigger.recipe == (book.by.recipe if book.by else ""), "announced for another recipe")
            ensure(trigger.token == token_of(_number(world, trigger.seq)), "announced under another token")
        case Write():
            return _written(world, action, fails)
        case Clear(slot):
            return cleared(world, slot)
        case Publish() | Record():
            pass
    return world


def _number(world: World, seq: int) -> int:
    return world.place.seqs.index(seq)


def put(world: World, number: int, book: Book) -> World:
    return world._replace(books=(*world.books[:number], book, *world.books[number + 1 :]))


def _taken_up(world: World, what: dict[str, Any]) -> World:
    if what["token"].startswith("missed-"):
        return _overlooked(world, what["seq"])
    number = _number(world, what["seq"])
    book = world.books[number]
    ensure(what["token"] == token_of(number) and book.triggered_ns >= 0, "a trigger of nobody's")
    ensure(book.edge_ns < 0, "a trigger was taken up twice")
    ensure(skipped(world.place, number) <= world.ghosts, "a skipped number without an outcome")
    able = book.recipe_no == RECIPE_NO and world.inspector and world.state.ledger_ok and not world.state.stopping
    by = in_force(world) if book.recipe_no == RECIPE_NO else None
    ensure(what["recipe"] == (by.recipe if by else ""), "taken up under another recipe")
    world = put(world, number, book._replace(edge_ns=world.now_ns, spoiled=not able, by=by))
    return _crowded(world, number) if number else world


def _crowded(world: World, number: int) -> World:
    """Panels that follow within the takt are rejects, both; so is one whose number the PLC's count does not lead to."""
    books, takt_ns = world.books, world.place.terms.takt_ns
    before, book = books[number - 1], books[number]
    near = before.edge_ns >= 0 and book.edge_ns - before.edge_ns < takt_ns
    if near and before.open and before.intent is None:
        world = put(world, number - 1, before._replace(spoiled=True))
    anew = ahead(book.seq, before.seq) < 0
    return put(world, number, book._replace(spoiled=True)) if near or anew else world


def _overlooked(world: World, seq: int) -> World:
    """A number was skipped, or its panel was over before the bridge looked."""
    if seq not in world.place.seqs:
        return world
    number = _number(world, seq)
    book = world.books[number]
    ensure(book.edge_ns < 0 and taken_again(world, book), "a panel that stands in its slot was called missed")
    return put(world, number, book._replace(edge_ns=world.now_ns, closed=True))


def _closed(world: World, what: dict[str, Any]) -> World:
    if what["token"].startswith("missed-"):
        ensure(
            what["seq"] not in world.ghosts and what["outcome"] is Outcome.REJECT, "a skipped number, twice or passed"
        )
        return world._replace(ghosts=world.ghosts | {what["seq"]})
    number = int(what["token"], 16)
    book = world.books[number]
    ensure(what["seq"] == book.seq and book.edge_ns >= 0, "an outcome before its trigger")
    ensure(not book.closed, "two outcomes of one trigger")
    known, acknowledged = book.ack != 0 and book.told, what["acknowledged"]
    ensure(known or not acknowledged, "an acknowledgement that the PLC did not give")
    given_up = world.now_ns - book.edge_ns >= GIVEN_UP * UNIT
    ensure(acknowledged or given_up or taken_again(world, book), "a panel was given up too early")
    ensure(what["recipe"] == (book.by.recipe if book.by else ""), "closed under another recipe than it was triggered")
    passed = acknowledged and book.ack == ACK_PASSED
    ensure((what["outcome"] is Outcome.PASS) == passed, "the ledger says what the PLC did not")
    return put(world, number, book._replace(closed=True))


def taken_again(world: World, book: Book) -> bool:
    """The PLC put a later panel into the slot: it will say no more of this one."""
    return any(other.slot == book.slot and other.triggered_ns > book.triggered_ns for other in world.books)


def skipped(where: Place, number: int) -> frozenset[int]:
    """The numbers that the PLC left out before this panel."""
    before = where.seqs[number - 1] if number else FIRST_SEQ
    return frozenset((before + on) % (1 << 32) for on in range(1, ahead(where.seqs[number], before)))


def _written(world: World, write: Write, fails: str) -> World:
    number = int(write.token, 16)
    book, passes = world.books[number], write.outcome is Outcome.PASS
    ensure((write.slot, write.result.seq) == (book.slot, book.seq), "a result for another panel's slot")
    ensure(book.open and book.intent is None, "a result before the trigger, after the outcome or twice")
    ensure(write.result.code == (PASS_CODE if passes else REJECT_CODE), "a code that says something else")
    ensure(write.result.recipe_echo == book.recipe_no, "the echo of another recipe")
    overtaken = (fails == "link" and not world.linked) or (fails == "ledger" and not world.state.ledger_ok)
    if not overtaken:  # else it was decided before the mishap, and is not written
        ensure(proven(world, book) or not passes, "a PASS without its proof")
        ensure(passes or not proven(world, book), "a proven panel was rejected")
    if fails == "ledger" and passes:
        world = tell(world, LedgerState(ok=False))
        return tell(spoiled(world), Unrecorded(write.token))
    if fails == "time" and passes:
        return tell(put(world, number, book._replace(spoiled=True)), Unrecorded(write.token, Fault.LATE))
    world = put(world, number, book._replace(intent=write.outcome))
    if fails == "link" and world.linked:
        return lost(world)
    if fails == "crash" or not world.linked:
        return world
    return put(world, number, book._replace(intent=write.outcome, result=write.outcome))


def cleared(world: World, slot: int) -> World:
    for number, book in enumerate(world.books):
        if book.slot == slot and book.result and world.linked:
            ensure(not book.open or book.ack, "a result was taken away before the PLC had decided")
            world = put(world, number, book._replace(result=None))
    return world


def proven(world: World, book: Book) -> bool:
    """This panel's complete set, inspected by what the bridge expects, in time, and nothing against it."""
    complete = book.sets == frozenset(world.place.terms.cameras)
    sound = book.good and not book.wrong and not book.spoiled
    return complete and sound and world.now_ns - book.edge_ns < PAST_DEADLINE * UNIT


def in_force(world: World) -> Expected:
    """What answers to the number for the next trigger."""
    return OTHER if world.swaps % 2 else EXPECTED


def swapped(world: World) -> World:
    """Another recipe takes over: what is triggered already has nothing to do with it."""
    world = world._replace(swaps=world.swaps + 1)
    return tell(world, Switched(RECIPE_NO, in_force(world)))


def spoiled(world: World) -> World:
    """Nothing that is open and not yet written may pass any more."""
    books = (book._replace(spoiled=True) if book.open and book.intent is None else book for book in world.books)
    return world._replace(books=tuple(books))


def lost(world: World) -> World:
    """The connection to the PLC breaks."""
    return tell(spoiled(world._replace(linked=False)), LinkLost())
