"""The tables of what happened: the audit log."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Identity, Index, Integer, String
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from control_api.db import Base, UtcDateTime, words

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

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), Identity(always=True), primary_key=True
    )
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(String(300))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(300))
    outcome: Mapped[Outcome] = mapped_column(words(Outcome, "outcome"))
    peer: Mapped[str | None] = mapped_column(String(45))
    request_id: Mapped[str | None] = mapped_column(String(64))
    details: Mapped[dict[str, Any]] = mapped_column(JSON_B)
