"""The audit: who did what, when, from what to what, and whether its chain is whole. Nothing is changed here."""

from asyncio import to_thread
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi.responses import Response
from nicegui import ui

from pipeline.review.api import NOT_SHOWN
from pipeline.review.facts import AuditFilter, AuditRow, Chain
from pipeline.review.pages.controls import Choice, button, field
from pipeline.review.pages.filters import read
from pipeline.review.pages.frame import Visit, bare, main
from pipeline.review.pages.keys import TRAIL
from pipeline.review.pages.markup import Html, table, tag
from pipeline.review.pages.words import NONE, when, zone

PART = 50
HEADS = ("record", "when", "who", "what", "of what", "from", "to", "reason", "recipe")


class AuditPage:
    """Records a part at a time; the newest part follows what is written."""

    def __init__(self, visit: Visit, parameters: Mapping[str, str]) -> None:
        self._visit, self._desk = visit, visit.desk
        self._wanted = stripped(parameters)
        self._before: list[str | None] = [None]  # the cursors that led here
        self._next: str | None = None
        self._seen = -1
        self._chain: Chain | None = None
        visit.draw("Audit", TRAIL, self.act, lambda text: self._set(panel=text))
        with main():
            ui.html("Audit", sanitize=False, tag="h1")
            self._state = ui.html(chain(None), sanitize=False).props("id=chain role=status")
            with ui.element("search").classes("filters"):
                self._filters()
            self._records = ui.html("", sanitize=False).props("id=records").classes("wide")
            with ui.element("div").classes("tools"):
                self._newer = button("Newer", lambda: self.act("previous"), "K", name="newer")
                self._older = button("Older", lambda: self.act("next"), "J", name="older")

    def _filters(self) -> None:
        wanted = self._wanted
        found = wanted.panel or ""  # no search field: in one of those Escape would take the filter away
        self._panel = field("Bar code or token", "text", found, lambda text: self._set(panel=text), "find")
        who = wanted.who or ""
        self._people = Choice("Person", _choices([who]), who, lambda name: self._set(who=name), "who")
        button("Check the chain again", self._check_again, name="check")

    async def act(self, name: str) -> None:
        """What a key or a button asks for."""
        if name == "next" and self._next:
            self._before.append(self._next)
        elif name == "previous" and len(self._before) > 1:
            self._before.pop()
        else:
            self._visit.say("Those are the oldest." if name == "next" else "Those are the newest.")
            return
        self._visit.say("")
        await self._visit.trying(self._load)

    async def _set(self, **changes: str) -> None:
        self._wanted = stripped(self._wanted.model_dump(exclude_none=True) | changes)
        self._before, self._next = [None], None
        self._panel.props["value"] = self._wanted.panel or ""
        self._panel.update()
        ui.navigate.history.replace(address(self._wanted))
        await self._visit.trying(self._load)

    async def first(self) -> None:
        """Fill the page before it is sent: a timer sends it, so it comes behind."""
        await self._visit.trying(self._load)
        self._visit.every_second(self._turn)

    async def _turn(self) -> None:
        """New records appear on top; the chain is hashed once the page stands."""
        count = (await to_thread(self._desk.beat)).audit
        if count != self._seen and len(self._before) == 1:
            await self._load()
            self._seen = count
        if self._chain is None:
            await self._check()

    async def _check_again(self) -> None:
        async def again() -> None:
            await self._visit.person()
            await self._check(anew=True)

        await self._visit.trying(again)

    async def _check(self, *, anew: bool = False) -> None:
        self._state.set_content(chain(None))
        self._chain = await to_thread(self._desk.audit_chain, anew=anew)
        self._state.set_content(chain(self._chain))

    async def _load(self) -> None:
        asked = (self._before[-1], self._wanted)
        page = await to_thread(self._desk.audit, asked[0], PART, asked[1])
        people = await to_thread(self._desk.audit_people)
        if asked != (self._before[-1], self._wanted):
            return  # chosen anew meanwhile
        self._people.show(_choices(people), self._wanted.who or "")
        self._next = page.next
        self._records.set_content(records(page.rows))
        for shown, there in ((self._newer, len(self._before) > 1), (self._older, page.next is not None)):
            shown.props["disabled"] = not there
            shown.update()


def refused() -> Response:
    """For whom the audit is not."""
    return bare("Audit – takt", "Audit", f"⚠ {NOT_SHOWN}", 403, tag("a", "Queue", href="/", class_="button"))


def stripped(parameters: Mapping[str, str]) -> AuditFilter:
    """The filter of an address or of what was typed, without the blanks around it."""
    return read(AuditFilter, {key: value.strip() for key, value in parameters.items()})


def address(wanted: AuditFilter) -> str:
    parameters = wanted.model_dump(exclude_none=True)
    return "/audit" + (f"?{urlencode(parameters)}" if parameters else "")


def chain(found: Chain | None) -> Html:
    """A sign and words; None: it is being hashed."""
    if found is None:
        return tag("p", "… The chain is being checked.")
    said = f"{found.records} records, {found.signatures_checked} signatures, checked {when(found.at)} {zone()}"
    if found.intact:
        return tag("p", tag("strong", "✔ The chain is intact", class_="well"), f": {said}.")
    return tag("p", tag("strong", f"⚠ The chain is broken: {found.first_broken}", class_="bad"), f"; {said}.")


def records(rows: Iterable[AuditRow]) -> Html:
    said = [_record(row) for row in rows]
    return table(f"Records, newest first; times in {zone()}", HEADS, said) if said else tag("p", "No such records.")


def _record(row: AuditRow) -> tuple[Any, ...]:
    said = (row.before or NONE, row.after or NONE, row.reason or NONE)
    return (
        row.n,
        when(row.at),
        row.who,
        row.what,
        _subject(row),
        *said,
        tag("span", row.recipe[:12] or NONE, class_="code"),
    )


def _subject(row: AuditRow) -> Html:
    if not row.panel:
        return tag("span", row.subject or NONE)
    name = row.panel_id or f"panel {row.subject[:12]}"
    return tag("a", name, href=f"/panel/{row.subject}?queue=all")


def _choices(people: Iterable[str]) -> dict[str, str]:
    return {"": "anybody"} | {name: name for name in people if name}
