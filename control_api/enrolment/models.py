"""The table of the enrolment tokens."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from control_api.db import Base, Json, UtcDateTime

STANDING = text("revoked_at IS NULL")  # a revoked token frees its name


class EnrolmentToken(Base):
    """What lets machines in: known by its hash only, never deleted, so that the log can always name it.

    expires_at, max_uses: None is no limit. uses: machines that it has let in. cidrs: none is every network.
    """

    __tablename__ = "enrolment_tokens"
    __table_args__ = (
        Index(
            "uq_enrolment_tokens_name", "name", unique=True, postgresql_where=STANDING, sqlite_where=STANDING
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    description: Mapped[str | None] = mapped_column(String(200))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    labels: Mapped[dict[str, str]] = mapped_column(Json)
    cidrs: Mapped[list[str]] = mapped_column(Json)
    approval_required: Mapped[bool]
    may_replace: Mapped[bool]
    max_uses: Mapped[int | None]
    uses: Mapped[int] = mapped_column(default=0)
    created_by: Mapped[str] = mapped_column(String(300))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
