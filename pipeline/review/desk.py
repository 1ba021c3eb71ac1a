"""Everything the review station does, for the pages and the API alike; no HTTP in here."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from pipeline import wishes
from pipeline.audit import Audit, verified
from pipeline.config import LineConfig, ReviewConfig
from pipeline.errors import RefusedError
from pipeline.keys import machine_key, public_key
from pipeline.review import accounts, again, codes, deciding, facts, figures, live, looking, queries, shift, trail
from pipeline.review.deciding import Rules
from pipeline.review.facts import Filter, Person, Role
from pipeline.review.panel import Pictures, whole
from pipeline.review.recipes import Recipes
from pipeline.store import Database, check
from pipeline.store.places import place_of

LAST = 12  # panels on the live page
BEAT_S = 0.9


class Desk:
    """One for a process; every method may be called from any thread.

    Raises (all methods):
        StoreError: the store is away now; try again.
        NotFoundError: there is no such panel, picture or finding.
        RefusedError: the person may not do that, or not now.
        UsageError: what was asked for cannot be.
    """

    def __init__(self, config: LineConfig) -> None:
        """Raises ConfigError: what the line file says of the review station cannot be used."""
        self.config = config
        self.settings = config.review or ReviewConfig()
        self.watch: live.Watch | None = None  # set by whoever turns it
        tree = self.settings.codes
        self._codes = codes.read(config.under(tree) if tree else None)
        self._recipes = Recipes()
        named = {one.code for one in codes.flat(self._codes)}
        self._rules = Rules(named, self.settings.two_persons, Role(self.settings.overrule_role), self._recipes)
        self._database = Database(place_of(config), durable=True)
        self._pictures = Pictures(config.state / "evidence", config.station, [camera.name for camera in config.cameras])
        self._found = looking.Recent(self._find_pictures)
        self._one_engine = threading.Lock()
        self._one_picture = threading.Lock()  # a line's other processes keep the cores but one
        self._beat: tuple[float, facts.Pulse] | None = None
        self._beating = threading.Lock()
        self._ready, self._checking = False, threading.Lock()
        self._accounts: accounts.Accounts | None = None
        self._chain = trail.ChainCheck(self._verified)

    def close(self) -> None:
        self._database.close()

    # --- panels ---

    def queue(self, wanted: Filter, cursor: str | None = None, limit: int = 50) -> facts.Page:
        """Panels to decide on top, then those decided, each newest first."""
        with self._reading() as session:
            return queries.queue(session, wanted, cursor, limit, lambda code: codes.below(self._codes, code))

    def find(self, text: str) -> list[facts.Row]:
        """By bar code (whole or its beginning) or by token (its beginning), newest first, at most 20."""
        with self._reading() as session:
            return queries.find(session, text)

    def panel(self, token: str) -> facts.PanelFacts:
        with self._reading() as session:
            return whole(session, self._recipes, token, self._pictures, self.settings.two_persons)

    def pulse(self) -> facts.Pulse:
        """What changes when there is something new."""
        with self._reading() as session:
            return queries.pulse(session)

    def beat(self) -> facts.Pulse:
        """The pulse, at most a second old: all pages ask together."""
        with self._beating:
            if self._beat is None or time.monotonic() - self._beat[0] >= BEAT_S:
                self._beat = (time.monotonic(), self.pulse())
            return self._beat[1]

    def spoken(self, token: str) -> int:
        """The newest record of this panel in the audit: another one when somebody has said something of it."""
        with self._reading() as session:
            return queries.spoken(session, token)

    def products(self) -> list[str]:
        """That panels were of, for filters."""
        with self._reading() as session:
            return sorted(set(queries.products(session).values()) - {""})

    # --- pictures: bytes and their media type ---

    def thumb(self, token: str, name: str = "") -> looking.Sent:
        """A small JPEG, 320 px at most, its defects boxed; `name` empty: the channel that shows them best."""
        kept = self._found(token)
        with self._one_picture:
            return looking.thumb(self._pictures, kept, name)

    def picture(self, token: str, name: str, kind: looking.Kind = "png") -> looking.Sent:
        """One channel at full resolution: `png` as it was kept, `jpeg` in 8 bits for looking at."""
        kept = self._found(token)
        with self._one_picture:
            return looking.picture(self._pictures, kept.picture, name, kind)

    def heat(self, token: str) -> looking.Sent:
        """The anomaly map as a PNG in colour, at its own resolution: stretch it over the panel."""
        kept = self._found(token)
        with self._one_picture:
            return looking.heat(self._pictures, kept)

    def outlines(self, token: str) -> list[list[tuple[int, int]]]:
        """Closed polygons around what is marked, (x, y) in pixels of the panel."""
        kept = self._found(token)
        with self._one_picture:
            return looking.outlines(self._pictures, kept)

    def inspect_again(self, person: Person, token: str) -> facts.Again:
        """The kept frames through the recipe now in use; for engineers. Takes seconds; nothing is written."""
        if not person.may(Role.ENGINEER):
            raise RefusedError("to inspect a panel again needs the role engineer")
        kept = self._found(token)
        with self._one_engine:
            return again.inspected(self.config, self._pictures, kept)

    def _find_pictures(self, token: str) -> looking.Kept:
        with self._reading() as session:
            return looking.found(session, self._recipes, token)

    # --- decisions ---

    def codes(self) -> list[facts.Code]:
        """The plant's defect classes."""
        return self._codes

    def decide(self, person: Person, token: str, wish: facts.Wish) -> facts.Standing:
        return deciding.decide(self._audit(), self._rules, person, token, wish)

    def undo(self, person: Person, token: str, n: int | None = None) -> facts.Standing:
        """Take back a finding; without `n` the person's own newest one of this panel."""
        return deciding.undo(self._audit(), self._rules, person, token, n)

    # --- the audit ---

    def audit(
        self, cursor: str | None = None, limit: int = 100, wanted: facts.AuditFilter | None = None
    ) -> facts.AuditPage:
        """Newest first."""
        with self._reading() as session:
            return trail.records(session, wanted or facts.AuditFilter(), cursor, limit)

    def audit_people(self) -> list[str]:
        """Of whom there is a record, for filters."""
        with self._reading() as session:
            return trail.people(session)

    def audit_chain(self, *, anew: bool = False) -> facts.Chain:
        """Whether a record was changed or is missing; takes about a quarter of a millisecond a record."""
        return self._chain(self.pulse().audit, anew=anew)

    def _verified(self) -> dict[str, Any]:
        config = self.config
        return verified(self._database, config.state, config.station, public_key(config.state))

    # --- figures ---

    def shift(self, since: datetime, until: datetime, product: str | None = None) -> figures.Shift:
        texts = {one.code: one.text for one in codes.flat(self._codes)}
        with self._reading() as session:
            return shift.counted(session, shift.Span(since, until, product), texts)

    def shift_csv(self, since: datetime, until: datetime, product: str | None = None) -> str:
        """One row a panel."""
        with self._reading() as session:
            return shift.table(session, shift.Span(since, until, product))

    def live(self) -> figures.Live:
        stages = self.watch.stages() if self.watch else []
        spooled, age = live.spool(stages)
        with self._reading() as session:
            last = queries.last(session, self.config.station, LAST)
            room = live.disk(session, self.config.state, self.config.station, datetime.now(UTC))
        running = wishes.runs(self.config)
        return figures.Live(running=running, stages=stages, last=last, spooled=spooled, spool_age_s=age, disk=room)

    # --- people ---

    @property
    def accounts(self) -> accounts.Accounts:
        """Who may come in."""
        if self._accounts is None:
            wanted = self.settings
            idle, lock = timedelta(minutes=wanted.idle_min), timedelta(minutes=wanted.lock_min)
            self._accounts = accounts.Accounts(self._audit(), idle, wanted.lock_after, lock)
        return self._accounts

    def log_in(self, name: str, password: str) -> facts.Session:
        """Refused without a reason: unknown, wrong, locked and disabled are told apart in audit and log only."""
        return self.accounts.log_in(name, password)

    def session(self, secret: str | None, *, click: bool = True) -> facts.Session | None:
        """The log-in of a cookie; None: there is none, or no longer. `click`: somebody has done something."""
        return self.accounts.session(secret, click=click)

    def log_out(self, secret: str) -> None:
        self.accounts.log_out(secret)

    # --- the store ---

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        self._checked()
        with self._database.reading() as session:
            yield session

    def _audit(self) -> Audit:
        self._checked()
        return Audit(self._database, self.config.station, machine_key(self.config.state), self.config.state)

    def _checked(self) -> None:
        """The store is of our format: looked at once."""
        with self._checking:
            if not self._ready:
                check(self._database)
                self._ready = True
