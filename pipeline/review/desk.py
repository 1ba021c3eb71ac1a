"""Everything the review station does, for the pages and the API alike; no HTTP in here."""

from datetime import datetime

from pipeline.config import LineConfig
from pipeline.review import facts
from pipeline.review.facts import Filter, Person


class Desk:
    """One for a process; every method may be called from any thread.

    Raises (all methods):
        StoreError: the store is away now; try again.
        NotThere: there is no such panel, picture or decision.
        Refused: the person may not do that, or not now.
    """

    def __init__(self, config: LineConfig) -> None:
        raise NotImplementedError

    # --- panels ---

    def queue(self, wanted: Filter, cursor: str | None = None, limit: int = 50) -> facts.Page:
        """Panels to decide on top, then those decided, each newest first."""
        raise NotImplementedError

    def find(self, text: str) -> list[facts.Row]:
        """By bar code (whole or its beginning) or by token (its beginning), newest first, at most 20."""
        raise NotImplementedError

    def panel(self, token: str) -> facts.PanelFacts:
        raise NotImplementedError

    def pulse(self) -> facts.Pulse:
        raise NotImplementedError

    # --- pictures: bytes and their media type ---

    def thumb(self, token: str, name: str = "") -> tuple[bytes, str]:
        """A small JPEG, 320 px wide at most, its defects boxed; `name` empty: the channel that shows them best."""
        raise NotImplementedError

    def picture(self, token: str, name: str, kind: str = "png") -> tuple[bytes, str]:
        """One channel at full resolution: `png` as it was kept, `jpeg` in 8 bits for looking at."""
        raise NotImplementedError

    def heat(self, token: str) -> tuple[bytes, str]:
        """The anomaly map as a PNG in colour, at its own resolution: stretch it over the panel."""
        raise NotImplementedError

    def outlines(self, token: str) -> list[list[tuple[int, int]]]:
        """Closed polygons around what is marked, (x, y) in pixels of the panel."""
        raise NotImplementedError

    # --- decisions ---

    def codes(self) -> list[facts.Code]:
        """The plant's defect classes."""
        raise NotImplementedError

    def decide(self, person: Person, token: str, wish: facts.Wish) -> facts.Standing:
        raise NotImplementedError

    def undo(self, person: Person, token: str, n: int | None = None) -> facts.Standing:
        """Take back a decision; without `n` the person's own newest one of this panel."""
        raise NotImplementedError

    def audit(self, cursor: str | None = None, limit: int = 100) -> facts.AuditPage:
        raise NotImplementedError

    # --- figures ---

    def shift(self, since: datetime, until: datetime, product: str | None = None) -> facts.Shift:
        raise NotImplementedError

    def shift_csv(self, since: datetime, until: datetime, product: str | None = None) -> str:
        """One row a panel."""
        raise NotImplementedError

    def live(self) -> facts.Live:
        raise NotImplementedError

    # --- people ---

    def log_in(self, name: str, password: str) -> facts.Session:
        """Refused says why: unknown, wrong, locked or disabled are told apart in the audit only."""
        raise NotImplementedError

    def session(self, secret: str | None) -> facts.Session | None:
        """The log-in of a cookie; None: there is none, or no longer."""
        raise NotImplementedError

    def log_out(self, secret: str) -> None:
        raise NotImplementedError
