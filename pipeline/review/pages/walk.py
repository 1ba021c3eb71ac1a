"""From panel to panel in the order of a queue, as it was when somebody began; deciding moves nothing."""

from pipeline.review.desk import Desk
from pipeline.review.facts import Filter

PART, MOST = 100, 2000


class Walk:
    """The tokens of a queue, fetched in parts as one comes to them. Used by one thread at a time."""

    def __init__(self, desk: Desk, wanted: Filter) -> None:
        self._desk, self._wanted = desk, wanted
        self._tokens: list[str] = []
        self._next: str | None = None
        self._begun = False

    def beside(self, token: str, step: int) -> str | None:
        """The panel before (-1) or behind (1); None at the end. A panel of another list is followed by the first."""
        at = self._place(token)
        if at is None:
            return self._tokens[0] if step > 0 and self._tokens else None
        if at + step >= len(self._tokens):
            self._further()
        if at + step < 0:
            at += self._newer()
        return self._tokens[at + step] if 0 <= at + step < len(self._tokens) else None

    def _place(self, token: str) -> int | None:
        if not self._begun:
            self._further()
        while token not in self._tokens and self._next and len(self._tokens) < MOST:
            self._further()
        return self._tokens.index(token) if token in self._tokens else None

    def _further(self) -> None:
        if self._begun and not self._next:
            return
        page = self._desk.queue(self._wanted, self._next, PART)
        self._begun, self._next = True, page.next
        known = set(self._tokens)
        self._tokens += [row.token for row in page.rows if row.token not in known]

    def _newer(self) -> int:
        """Panels that came meanwhile go in front; returns how many."""
        known = set(self._tokens)
        page = self._desk.queue(self._wanted, None, PART)
        came = [row.token for row in page.rows if row.token not in known]
        self._tokens[:0] = came
        return len(came)
