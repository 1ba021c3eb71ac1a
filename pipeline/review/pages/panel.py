"""One panel: its pictures, what is known of it, and what people say of it."""

from asyncio import to_thread
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from pipeline.errors import TaktError
from pipeline.messages import Outcome
from pipeline.review import codes
from pipeline.review.facts import Filter, Finding, PanelFacts, Role, Vote, Wish
from pipeline.review.pages import about, words
from pipeline.review.pages.cards import address
from pipeline.review.pages.controls import Choice, button, labelled
from pipeline.review.pages.frame import Visit, main
from pipeline.review.pages.keys import AGAIN, CHANNELS, DECIDES, LOOKS, MOVES, classes
from pipeline.review.pages.viewer import Viewer
from pipeline.review.pages.walk import Walk

WORDS = {
    (Outcome.REJECT, Finding.DEFECTIVE): "Confirm reject",
    (Outcome.REJECT, Finding.GOOD): "Overrule: good",
    (Outcome.PASS, Finding.DEFECTIVE): "Defective: escaped",
    (Outcome.PASS, Finding.GOOD): "Confirm good",
}
KEY_OF = {Finding.DEFECTIVE: "R", Finding.GOOD: "O"}
COMMENT = "document.getElementById('comment')"


class PanelPage:
    """Panel after panel on one page: pictures and texts are exchanged, the page stays."""

    def __init__(self, visit: Visit, token: str, wanted: Filter) -> None:
        self._visit, self._desk = visit, visit.desk
        self._token, self._wanted = token, wanted
        self._walk = Walk(visit.desk, wanted)
        self._panel: PanelFacts | None = None
        self._audit, self._spoken = -1, -1  # the newest record of all, and of this panel
        self._code, self._busy = "", False
        self._engineer = visit.session.person.may(Role.ENGINEER)
        keys = [*MOVES, *DECIDES, *([AGAIN] if self._engineer else []), *classes(visit.desk.codes()), *CHANNELS, *LOOKS]
        visit.draw("Panel", keys, self.act, self._scanned)
        with main().classes("panel"):
            self._viewer = Viewer()
            with ui.element("aside").props('aria-label="the panel and its review"'):
                self._side()

    def _side(self) -> None:
        self._heading = ui.html("", sanitize=False)
        self._measured = ui.html("", sanitize=False)
        with ui.element("section").classes("decide").props('aria-label="decision"'):
            self._decisions()
        self._votes = ui.html("", sanitize=False)
        self._others = ui.element("div")
        self._defects = ui.html("", sanitize=False)
        if self._engineer:
            button("Inspect again with the recipe now in use", lambda: self.act("again"), "A", "quiet", "again")
        self._again = ui.html("", sanitize=False).props("id=inspected-again role=status")
        with ui.element("div").classes("tools"):
            button("Previous", lambda: self.act("previous"), "K")
            button("Next", lambda: self.act("next"), "J")
            button("Queue", lambda: self.act("queue"), "Q")
        self._facts = ui.html("", sanitize=False)

    def _decisions(self) -> None:
        tree = list(codes.flat(self._desk.codes()))
        options = {"": "none"} | {one.code: f"{one.text}{f' (Shift {one.key})' if one.key else ''}" for one in tree}
        self._classes = options
        self._choice = Choice("Defect class", options, "", self._choose, "class")
        with ui.element("label").classes("field"):
            ui.html(labelled("Comment", "C"), sanitize=False, tag="span")
            self._comment = ui.element("textarea").props('id="comment" rows="2" maxlength="1000"')
        with ui.element("div").classes("tools"):
            self._buttons = {finding: self._decision(finding) for finding in KEY_OF}
            button("To the lab", lambda: self.act("lab"), "L", "lab", "lab")
            button("Undo", lambda: self.act("undo"), "U", "undo", "undo")

    def _decision(self, finding: Finding) -> ui.html:
        return button("", lambda: self.act(finding.value), kind=f"strong {finding.value}", name=finding.value)

    # --- keys and buttons ---

    async def act(self, name: str) -> None:
        """What a key or a button asks for; while one thing is being done, no other begins."""
        kind, _, value = name.partition(" ")
        if kind == "class":
            self._choose(value)
        elif kind == "queue":
            ui.navigate.to(address("", words.narrowed(self._wanted)))
        else:
            await self._one_at_a_time(self._does(kind))

    def _does(self, kind: str) -> Callable[[], Awaitable[Any]]:
        moves = {"next": 1, "previous": -1}
        if kind in moves:
            return lambda: self._move(moves[kind])
        if kind == "undo":
            return self._undo
        if kind == "again":
            return self._inspect_again
        return lambda: self._decide(kind)

    async def _one_at_a_time(self, do: Callable[[], Awaitable[Any]]) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            await self._visit.trying(do)
        finally:
            self._busy = False

    def _choose(self, code: str) -> None:
        self._code = code if code in self._classes else ""
        self._choice.show(self._classes, self._code)
        self._visit.say(f"class: {self._classes[self._code]}; R confirms")

    async def _decide(self, kind: str) -> None:
        if self._panel is None or kind not in list(Finding):
            return
        token, finding, code = self._token, Finding(kind), self._code
        comment = await ui.run_javascript(f"{COMMENT}.value", timeout=5)
        person = await self._visit.person()
        wish = Wish(finding=finding, code="" if finding is Finding.GOOD else code, comment=str(comment)[:1000])
        standing = await to_thread(self._desk.decide, person, token, wish)
        said = words.stands(standing, self._panel.row.outcome)
        await self._show(token)
        self._visit.say(f"Kept: {said}. U takes it back, J goes on.")

    async def _undo(self, n: int | None = None) -> None:
        person = await self._visit.person()
        await to_thread(self._desk.undo, person, self._token, n)
        await self._show(self._token)
        self._visit.say("Taken back.")

    async def _inspect_again(self) -> None:
        """Shown beside what was recorded, until another panel is shown; kept nowhere."""
        person, panel = await self._visit.person(), self._panel
        if panel is None:
            return
        self._again.set_content(about.AT_IT)
        try:
            found = await to_thread(self._desk.inspect_again, person, panel.row.token)
            self._again.set_content(about.compared(panel, found))
        except TaktError:
            self._again.set_content("")
            raise

    async def _move(self, step: int) -> None:
        await self._visit.person()
        beside = await to_thread(self._walk.beside, self._token, step)
        if beside is None:
            self._visit.say(
                "That is the last panel of this list." if step > 0 else "That is the first panel of this list."
            )
            return
        await self._show(beside)
        ui.navigate.history.replace(address(beside, words.narrowed(self._wanted)))
        self._visit.say("")

    async def _scanned(self, text: str) -> None:
        """A bar-code reader opens the panel that it names."""

        async def opened() -> None:
            rows = await to_thread(self._desk.find, text)
            if len(rows) != 1:
                self._visit.complain(f"{len(rows) or 'no'} panels are named {text} or begin so")
                return
            await self._show(rows[0].token)
            ui.navigate.history.replace(address(self._token, words.narrowed(self._wanted)))

        await self._one_at_a_time(opened)

    # --- what is shown ---

    async def first(self) -> None:
        """Fill the page before it is sent: a timer sends it, so it comes behind."""
        await self._visit.trying(lambda: self._show(self._token))
        self._visit.every_second(self._turn)

    async def _turn(self) -> None:
        """What others say of this panel appears; a store that was away is asked again."""
        audit = (await to_thread(self._desk.beat)).audit
        if (audit == self._audit and self._panel is not None) or self._busy:
            return
        token = self._token
        spoken = await to_thread(self._desk.spoken, token)
        if (spoken != self._spoken or self._panel is None) and token == self._token and not self._busy:
            await self._show(token)
        self._audit = audit

    async def _show(self, token: str) -> None:
        spoken = await to_thread(self._desk.spoken, token)
        panel = await to_thread(self._desk.panel, token)
        other = self._panel is None or self._panel.row.token != token
        self._token, self._panel, self._spoken = token, panel, spoken
        if other:
            following = await to_thread(self._walk.beside, token, 1)
            self._start(panel, following)
        self._texts(panel)

    def _start(self, panel: PanelFacts, following: str | None) -> None:
        self._code = panel.row.standing.code if panel.row.standing.code in self._classes else ""
        self._choice.show(self._classes, self._code)
        ui.run_javascript(f"{COMMENT} && ({COMMENT}.value = '')")
        self._viewer.show(panel, following)
        self._again.set_content("")
        for finding, key in KEY_OF.items():
            self._buttons[finding].set_content(labelled(WORDS[panel.row.outcome, finding], key))

    def _texts(self, panel: PanelFacts) -> None:
        self._heading.set_content(about.heading(panel))
        self._measured.set_content(about.measured(panel))
        self._votes.set_content(about.votes(panel.votes, panel.row.outcome))
        self._defects.set_content(about.defects(panel.defects, panel.row.standing.code))
        self._facts.set_content(about.origin(panel) + about.steps(panel) + about.greys(panel))
        self._others.clear()
        with self._others:
            for vote in panel.votes:
                self._other(vote)

    def _other(self, vote: Vote) -> None:
        """What somebody else said is taken back by whoever may; the desk refuses the others."""
        if vote.undone or vote.by == self._visit.session.person.name:
            return
        words_ = f"Take back what {vote.by} said: {words.SAID[vote.finding]} {vote.code}".strip()
        button(words_, lambda: self._one_at_a_time(lambda: self._undo(vote.n)), kind="quiet")
