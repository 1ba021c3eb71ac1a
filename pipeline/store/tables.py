"""The store's tables. What came from the ledger is never changed; what people say of it stands beside it."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column

FORMAT = 2


class Table(DeclarativeBase):
    """Every table of the store. Times are UTC in ISO 8601 with microseconds, so that they sort as text."""


class DroppedEvidence(Table):
    """Pixels of one panel that were to be kept and are lost; known before or after its outcome."""

    __tablename__ = "dropped_evidence"

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    reason: Mapped[str] = mapped_column(String(8))
    why: Mapped[str]


class Panel(Table):
    """One trigger and its one outcome, as the ledger has it."""

    __tablename__ = "panels"
    __table_args__ = (
        Index("panels_by_time", "closed_at", "token"),
        Index("panels_by_outcome", "outcome", "closed_at"),
        Index("panels_by_fault", "fault", "closed_at"),
        Index("panels_by_recipe", "recipe", "closed_at"),
        Index("panels_by_station", "station", "closed_at"),
        Index("panels_by_panel_id", "panel_id"),
    )

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    station: Mapped[str] = mapped_column(String(64))
    seq: Mapped[int] = mapped_column(BigInteger)
    panel_id: Mapped[str] = mapped_column(String(64))
    closed_at: Mapped[str] = mapped_column(String(32))
    outcome: Mapped[str] = mapped_column(String(8))
    fault: Mapped[str | None] = mapped_column(String(32))
    acknowledged: Mapped[bool]
    score: Mapped[float | None]
    limit: Mapped[float | None]
    latency_ms: Mapped[float | None]
    recipe: Mapped[str] = mapped_column(String(64))
    calibration: Mapped[str] = mapped_column(String(64))
    engine: Mapped[str] = mapped_column(String(64))
    defects: Mapped[list[Any]] = mapped_column(JSON)
    timing: Mapped[dict[str, int] | None] = mapped_column(JSON)
    steps: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # step -> time; ack_code
    evidence_dropped: Mapped[str | None] = column_property(  # why its pixels are lost; None where they are not
        select(DroppedEvidence.why).where(DroppedEvidence.token == token).scalar_subquery()
    )


class Picture(Table):
    """The evidence of one panel: a folder of lossless pictures and thumbnails under the state's `evidence`."""

    __tablename__ = "pictures"
    __table_args__ = (
        Index("pictures_by_day", "kept_at", "reason"),
        Index("pictures_by_reason", "reason", "lossless", "kept_at"),
    )

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    reason: Mapped[str] = mapped_column(String(8))
    folder: Mapped[str]
    compressed: Mapped[bool] = mapped_column(default=False)
    station: Mapped[str] = mapped_column(String(64), default="", server_default="")  # whose disk they lie on
    kept_at: Mapped[str] = mapped_column(String(32), default="", server_default="")
    bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # of the lossless ones and the map
    lossless: Mapped[bool] = mapped_column(default=True, server_default="1")  # False: policy left the thumbnails
    thumbs: Mapped[bool] = mapped_column(default=False, server_default="0")
    height: Mapped[int | None]
    width: Mapped[int | None]
    greys: Mapped[dict[str, float] | None] = mapped_column(JSON)  # mean of every picture, in its own digits


class KnownRecipe(Table):
    """What is to be known of a recipe when its folder may be gone."""

    __tablename__ = "recipes"

    recipe: Mapped[str] = mapped_column(String(64), primary_key=True)
    product: Mapped[str] = mapped_column(String(200), index=True)
    manifest: Mapped[dict[str, Any]] = mapped_column(JSON)


class Review(Table):
    """How the review of one panel stands; follows from its votes."""

    __tablename__ = "reviews"
    __table_args__ = (Index("reviews_by_state", "state", "at"), Index("reviews_by_code", "code"))

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    state: Mapped[str] = mapped_column(String(12))
    finding: Mapped[str | None] = mapped_column(String(12))
    code: Mapped[str] = mapped_column(String(64))
    by: Mapped[str] = mapped_column(String(64))
    at: Mapped[str] = mapped_column(String(32))
    votes: Mapped[int]


class Vote(Table):
    """What one person said of one panel; `n` is its record in the audit."""

    __tablename__ = "votes"

    n: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    token: Mapped[str] = mapped_column(String(64), index=True)
    by: Mapped[str] = mapped_column(String(64))
    at: Mapped[str] = mapped_column(String(32))
    finding: Mapped[str] = mapped_column(String(12))
    code: Mapped[str] = mapped_column(String(64))
    comment: Mapped[str]
    undone: Mapped[bool] = mapped_column(default=False)


class AuditRecord(Table):
    """Who did what, when, from what to what; each record holds the hash of the one before, and is signed."""

    __tablename__ = "audit"

    n: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(32))
    station: Mapped[str] = mapped_column(String(64))
    who: Mapped[str] = mapped_column(String(64))
    what: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(String(64), index=True)
    before: Mapped[str]
    after: Mapped[str]
    reason: Mapped[str]
    recipe: Mapped[str] = mapped_column(String(64))
    prev: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))
    signature: Mapped[str] = mapped_column(String(128))


class Account(Table):
    """Somebody who may log in."""

    __tablename__ = "accounts"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(12))
    password: Mapped[str]  # Argon2id, with its parameters
    disabled: Mapped[bool] = mapped_column(default=False)
    failures: Mapped[int] = mapped_column(default=0)  # since the last log-in
    locked_until: Mapped[str] = mapped_column(String(32), default="")


class LogIn(Table):
    """A session: the SHA-256 of the cookie's secret, never the secret."""

    __tablename__ = "log_ins"

    secret: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    began: Mapped[str] = mapped_column(String(32))
    seen: Mapped[str] = mapped_column(String(32))


class KeptAnchor(Table):
    """A signed anchor of the ledger, kept apart from the files that it vouches for."""

    __tablename__ = "anchors"

    signature: Mapped[str] = mapped_column(String(128), primary_key=True)
    station: Mapped[str] = mapped_column(String(64))
    wall: Mapped[str] = mapped_column(String(32))
    records: Mapped[int] = mapped_column(BigInteger, index=True)
    head: Mapped[str] = mapped_column(String(64))


class Mark(Table):
    """A named number: the format, and how far the ledger has been followed."""

    __tablename__ = "marks"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
