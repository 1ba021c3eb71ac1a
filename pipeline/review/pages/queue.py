"""The queue: what is to be decided, the newest first, as it arrives."""

from asyncio import to_thread
from datetime import datetime
from typing import Any

from nicegui import ui
from pydantic import ValidationError

from pipeline.review import codes
from pipeline.review.facts import Filter, Pulse
from pipeline.review.pages import words
from pipeline.review.pages.cards import Cards, address
from pipeline.review.pages.controls import Choice, button, field, labelled
from pipeline.review.pages.frame import Visit, main
from pipeline.review.pages.keys import LISTS

QUEUES = {"rejects": "Rejects", "sample": "Sampled passes", "all": "All panels"}
PART, MOST = 50, 1000
EMPTY = "No panels here. They arrive by themselves."


class QueuePage:
    """The list with its filters."""

    def __init__(self, visit: Visit, wanted: Filter) -> None:
        self._visit, self._desk = visit, visit.desk
        self._wanted, self._limit = wanted, PART
        self._pulse: Pulse | None = None
        self._found: str | None = None  # looked up: the list stands still
        visit.draw("Queue", LISTS, lambda name: None, self.find)
        with main():
            self._title = ui.html("", sanitize=False, tag="h1")
            with ui.element("div").classes("tabs").props('role=group aria-label="which panels"'):
                self._tabs = {name: self._tab(name) for name in QUEUES}
            with ui.element("search").classes("filters"):
                self._filters()
            self._cards = Cards(EMPTY)
            self._more = button("Show more", self._further, name="more")

    def _tab(self, name: str) -> ui.html:
        return button(QUEUES[name], lambda: self._set(queue=name), name=f"tab-{name}")

    def _filters(self) -> None:
        wanted = self._wanted
        field("Bar code or token", "search", "", self.find, "find")
        field("Closed from", "datetime-local", _local(wanted.since), lambda at: self._set(since=_time(at)), "since")
        field("until", "datetime-local", _local(wanted.until), lambda at: self._set(until=_time(at)), "until")
        self._product = Choice("Product", {"": "any"}, "", lambda name: self._set(product=name or None), "product")
        Choice("Cause", words.causes(), wanted.cause or "", lambda name: self._set(cause=name or None), "cause")
        classes = {"": "any"} | {one.code: one.text for one in codes.flat(self._desk.codes())}
        Choice("Defect class", classes, wanted.code or "", lambda name: self._set(code=name or None), "code")
        field("Station", "text", wanted.station or "", lambda name: self._set(station=name or None), "station")
        Choice("Decision", words.DECISIONS, _decision(wanted), self._decided, "decision")

    def _decided(self, name: str) -> Any:
        kind, _, value = name.partition(" ")
        none = {"state": None, "finding": None}
        return self._set(**none | ({kind: value} if value else {}))

    async def _set(self, **changes: Any) -> None:
        try:
            self._wanted = Filter.model_validate(self._wanted.model_dump() | changes)
        except ValidationError:
            self._visit.complain("that is no filter: leave it empty or choose another")
            return
        self._limit, self._found = PART, None
        self._address()
        await self._visit.trying(self._load)

    async def _further(self) -> None:
        self._limit = min(self._limit + PART, MOST)
        await self._visit.trying(self._load)

    async def find(self, what: str) -> None:
        """By bar code or token; the one panel that it names is opened."""

        async def found() -> None:
            rows = await to_thread(self._desk.find, what)
            if len(rows) == 1:
                ui.navigate.to(address(rows[0].token, words.narrowed(self._wanted)))
            self._cards.show(rows, words.narrowed(self._wanted))
            self._more.set_visibility(False)
            many = "no panel is" if not rows else f"{len(rows)} panels are"
            self._visit.say(f"{many} named {what} or begin so")

        self._found = what.strip() or None
        what = what.strip()
        await self._visit.trying(found if what else self._load)

    async def _turn(self) -> None:
        now = await to_thread(self._desk.beat)
        if now != self._pulse:
            await self._load(now)

    async def _load(self, now: Pulse | None = None) -> None:
        if self._found is not None:
            return
        wanted, limit = self._wanted, self._limit
        page = await to_thread(self._desk.queue, wanted, None, limit)
        now = now or await to_thread(self._desk.pulse)
        if self._pulse is None:
            products = await to_thread(self._desk.products)
            self._product.show({"": "any"} | {name: name for name in products}, wanted.product or "")
        if (wanted, limit) != (self._wanted, self._limit):
            return  # chosen anew meanwhile
        self._cards.show(page.rows, words.narrowed(wanted))
        self._more.set_visibility(page.next is not None and limit < MOST)
        self._heads(now)
        self._pulse = now

    async def first(self) -> None:
        """Fill the page before it is sent: a timer sends it, so it comes behind."""
        await self._visit.trying(self._load)
        self._visit.every_second(self._turn)

    def _heads(self, now: Pulse) -> None:
        counts = {"rejects": now.open_rejects, "sample": now.open_sample}
        self._title.set_content(
            f"{QUEUES[self._wanted.queue]}: {counts.get(self._wanted.queue, now.open_rejects)} to decide"
        )
        for name, tab in self._tabs.items():
            tab.set_content(labelled(QUEUES[name] + (f" ({counts[name]})" if name in counts else "")))
            tab.props["aria-pressed"] = "true" if name == self._wanted.queue else "false"
            tab.update()

    def _address(self) -> None:
        """What is chosen stands in the address: it can be kept and sent."""
        parameters = words.narrowed(self._wanted)
        ui.navigate.history.replace(address("", parameters))


def _decision(wanted: Filter) -> str:
    if wanted.state:
        return f"state {wanted.state.value}"
    return f"finding {wanted.finding.value}" if wanted.finding else ""


def _local(at: datetime | None) -> str:
    return f"{at.astimezone():%Y-%m-%dT%H:%M}" if at else ""


def _time(text: str) -> datetime | None:
    """What a browser's field says, in the zone of this machine; None: it is no time."""
    try:
        return datetime.fromisoformat(text).astimezone() if text else None
    except ValueError:
        return None
