"""Who may use the review station: accounts with Argon2id, sessions on the server, lock-out."""

import hmac
import secrets
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session as Db

from pipeline.audit import Audit, Pen
from pipeline.errors import ConfigError, NotFoundError, RefusedError, UsageError
from pipeline.log import logger
from pipeline.review.facts import Person, Role, Session
from pipeline.review.queries import text_of
from pipeline.store.tables import Account, LogIn

LOG = logger("accounts")
LEAST, MOST = 10, 200  # characters of a password
LONGEST = timedelta(hours=12)  # a log-in ends after this, however busy
SEEN_EVERY = timedelta(seconds=60)
REFUSED = "name or password is wrong, or the account is locked for now: ask an administrator"
LOCAL = Person(name="local", role=Role.QUALITY)  # on loopback, while there are no accounts


def hasher() -> Any:
    """Argon2id as its library recommends.

    Raises:
        ConfigError: the library is not installed.
    """
    try:
        from argon2 import PasswordHasher
    except ModuleNotFoundError:
        raise ConfigError("accounts need argon2-cffi: install the extra [review]") from None
    return PasswordHasher()


@dataclass
class Accounts:
    """Accounts and log-ins of a store; `idle`, `lock_after` and `lock` as the line file says."""

    audit: Audit
    idle: timedelta
    lock_after: int
    lock: timedelta
    _local: Session = field(default_factory=lambda: Session(person=LOCAL, secret="", csrf=secrets.token_hex(16)))
    _one: threading.Lock = field(default_factory=threading.Lock)  # a hash takes 64 MB and much of a core

    # --- log-ins ---

    def log_in(self, name: str, password: str) -> Session:
        """Raises RefusedError, which does not say why; the audit does."""
        with self.audit.database.reading() as db:
            account = db.get(Account, name)
        right = self._right(account, password)
        if account is None:
            LOG.warning("log-in refused: no such account", extra={"account": name})
            raise RefusedError(REFUSED)
        with self.audit.writing() as pen:
            session = self._begun(pen, name, right=right)
        if session is None:
            raise RefusedError(REFUSED)
        return session

    def session(self, secret: str | None, *, click: bool = True) -> Session | None:
        """The log-in whose cookie this is; on a station without accounts everybody's own.

        Without `click` it grows no younger: what a page fetches by itself keeps nobody logged in.
        """
        now = datetime.now(UTC)
        with self.audit.database.reading() as db:
            kept = db.get(LogIn, _hashed(secret)) if secret else None
            account = db.get(Account, kept.name) if kept else None
            if kept is None or account is None or account.disabled or self._over(kept, now):
                return self._local if not _count(db) else None
            if click and now - datetime.fromisoformat(kept.seen) > SEEN_EVERY:
                kept.seen = text_of(now)
            person = Person(name=account.name, role=Role(account.role))
            return Session(person=person, secret=secret or "", csrf=kept.csrf)

    def log_out(self, secret: str) -> None:
        with self.audit.database.reading() as db:
            db.execute(delete(LogIn).where(LogIn.secret == _hashed(secret)))

    def any(self) -> bool:
        """True once there is an account."""
        with self.audit.database.reading() as db:
            return bool(_count(db))

    def _right(self, account: Account | None, password: str) -> bool:
        """Takes as long for a name that nobody has."""
        from argon2.exceptions import Argon2Error, InvalidHashError

        tool = hasher()
        with self._one:
            try:
                tool.verify(account.password if account else _nobody(tool), password)
            except (Argon2Error, InvalidHashError):
                return False
        return account is not None

    def _begun(self, pen: Pen, name: str, *, right: bool) -> Session | None:
        account, now = pen.session.get(Account, name), datetime.now(UTC)
        if account is None or account.disabled or account.locked_until > text_of(now):
            return None
        if not right:
            return self._failed(pen, account, now)
        account.failures, account.locked_until = 0, ""
        pen.session.execute(delete(LogIn).where(LogIn.began < text_of(now - LONGEST)))
        session = Session(
            person=Person(name=name, role=Role(account.role)), secret=secrets.token_hex(32), csrf=secrets.token_hex(16)
        )
        at = text_of(now)
        pen.session.add(LogIn(secret=_hashed(session.secret), name=name, csrf=session.csrf, began=at, seen=at))
        pen.write(name, "log-in", name)
        return session

    def _failed(self, pen: Pen, account: Account, now: datetime) -> None:
        """One more wrong password; after so many none is looked at for a while."""
        account.failures += 1
        locked = account.failures >= self.lock_after
        if locked:
            account.failures, account.locked_until = 0, text_of(now + self.lock)
        pen.write(account.name, "locked" if locked else "log-in refused", account.name)

    def _over(self, kept: LogIn, now: datetime) -> bool:
        seen, began = datetime.fromisoformat(kept.seen), datetime.fromisoformat(kept.began)
        return now - seen > self.idle or now - began > LONGEST

    # --- accounts ---

    def add(self, who: str, name: str, role: Role, password: str) -> None:
        """Raises UsageError: the name is taken or cannot be one, or the password is too short."""
        if not (1 <= len(name) <= 64 and name.isprintable() and name == name.strip()) or name == LOCAL.name:
            raise UsageError(f"{name!r} cannot be an account's name: 1 to 64 printable characters, not 'local'")
        hashed = _new_password(password)
        with self.audit.writing() as pen:
            if pen.session.get(Account, name) is not None:
                raise UsageError(f"{name}: has an account already: takt users role or password changes it")
            pen.session.add(Account(name=name, role=role, password=hashed))
            pen.write(who, "account added", name, after=role.value)

    def set_role(self, who: str, name: str, role: Role) -> None:
        with self.audit.writing() as pen:
            account = _existing(pen.session, name)
            pen.write(who, "account's role", name, before=account.role, after=role.value)
            account.role = role

    def set_password(self, who: str, name: str, password: str) -> None:
        """Ends the account's log-ins and its lock."""
        hashed = _new_password(password)
        with self.audit.writing() as pen:
            account = _existing(pen.session, name)
            account.password, account.failures, account.locked_until = hashed, 0, ""
            pen.session.execute(delete(LogIn).where(LogIn.name == name))
            pen.write(who, "account's password", name)

    def set_disabled(self, who: str, name: str, *, disabled: bool) -> None:
        """A disabled account is kept: the audit names it."""
        with self.audit.writing() as pen:
            account = _existing(pen.session, name)
            pen.session.execute(delete(LogIn).where(LogIn.name == name))
            words = ("enabled", "disabled")
            pen.write(who, "account's state", name, before=words[account.disabled], after=words[disabled])
            account.disabled = disabled

    def all(self) -> list[dict[str, Any]]:
        """Every account without its password."""
        shown = ("name", "role", "disabled", "locked_until")
        with self.audit.database.reading() as db:
            rows = db.scalars(select(Account).order_by(Account.name))
            return [{name: getattr(row, name) for name in shown} for row in rows]


def _count(db: Db) -> int:
    """All accounts: to disable the last one opens nothing."""
    return db.execute(select(func.count()).select_from(Account)).scalar_one()


def _existing(db: Db, name: str) -> Account:
    account = db.get(Account, name)
    if account is None:
        raise NotFoundError(f"{name}: has no account: takt users list shows who has")
    return account


def _hashed(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _new_password(password: str) -> str:
    if not LEAST <= len(password) <= MOST:
        raise UsageError(f"a password has {LEAST} to {MOST} characters")
    return str(hasher().hash(password))


_NOBODY: list[str] = []


def _nobody(tool: Any) -> str:
    """A hash that no password has."""
    if not _NOBODY:
        _NOBODY.append(str(tool.hash(secrets.token_hex(32))))
    return _NOBODY[0]


def same(one: str, other: str) -> bool:
    """Compares secrets in a time that tells nothing of them."""
    return hmac.compare_digest(one.encode(), other.encode())
