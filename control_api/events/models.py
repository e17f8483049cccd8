"""The tables of what happened and to whom it is told: the audit log, webhooks and their deliveries."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Identity, Index, Integer, String
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from control_api.db import Base, UtcDateTime, words

BIG_KEY = BigInteger().with_variant(Integer(), "sqlite")  # only INTEGER counts up by itself there
JSON_B = JSON().with_variant(postgresql.JSONB(), "postgresql")


class Outcome(StrEnum):
    """How an attempt to change something ended."""

    DONE = "done"
    REFUSED = "refused"


class AuditEntry(Base):
    """One change, or one refused attempt; written once and never changed."""

    __tablename__ = "audit"
    __table_args__ = (
        Index(None, "at"),
        Index(None, "actor", "id"),
        Index(None, "action", "id"),
        Index(None, "subject", "id"),
    )

    id: Mapped[int] = mapped_column(BIG_KEY, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(String(300))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(300))
    outcome: Mapped[Outcome] = mapped_column(words(Outcome, "outcome"))
    peer: Mapped[str | None] = mapped_column(String(45))
    request_id: Mapped[str | None] = mapped_column(String(64))
    details: Mapped[dict[str, Any]] = mapped_column(JSON_B)


class State(StrEnum):
    """What became of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Webhook(Base):
    """A receiver of events.

    cursor: the last event of the stream that was looked at for it. replay_after, replay_upto: what it is to be told
    again. resume_at: nothing is sent before. failing_since: the first failure since the last success.
    """

    __tablename__ = "webhooks"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(String(2000))
    secret: Mapped[str] = mapped_column(String(100))
    previous_secret: Mapped[str | None] = mapped_column(String(100))
    previous_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    kinds: Mapped[list[str]] = mapped_column(JSON_B)
    statuses: Mapped[list[str]] = mapped_column(JSON_B)
    enabled: Mapped[bool]
    disabled_reason: Mapped[str | None] = mapped_column(String(400))
    failing_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    resume_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    cursor: Mapped[int] = mapped_column(BigInteger)
    replay_after: Mapped[int | None] = mapped_column(BigInteger)
    replay_upto: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Delivery(Base):
    """One event for one receiver: how often it was tried, and how that ended."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_webhook_id_state", "webhook_id", "state", "id"),
        Index("ix_webhook_deliveries_webhook_id", "webhook_id", "id"),
        Index("ix_webhook_deliveries_begun_at", "begun_at"),
    )

    id: Mapped[int] = mapped_column(BIG_KEY, Identity(always=True), primary_key=True)
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event_id: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[State] = mapped_column(words(State, "state"))
    attempts: Mapped[int]
    begun_at: Mapped[datetime] = mapped_column(UtcDateTime)
    next_at: Mapped[datetime] = mapped_column(UtcDateTime)
    tried_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    answer: Mapped[str | None] = mapped_column(String(200))


class Forgotten(Base):
    """Up to which event some of the history is no longer kept: a single row, or none."""

    __tablename__ = "forgotten"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    upto: Mapped[int] = mapped_column(BigInteger)
