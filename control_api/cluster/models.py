"""The tables of the cluster: what has to be taken back from K3s later."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from control_api.db import Base, UtcDateTime


class JoinToken(Base):
    """A join token that was handed out and not deleted yet: its id, which is no secret."""

    __tablename__ = "join_tokens"

    id: Mapped[str] = mapped_column(String(6), primary_key=True)
    worker_id: Mapped[UUID] = mapped_column(ForeignKey("workers.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class StaleNode(Base):
    """The name of a node that, if it was made before a moment, is of a machine that no longer is."""

    __tablename__ = "stale_nodes"

    name: Mapped[str] = mapped_column(String(253), primary_key=True)
    before: Mapped[datetime] = mapped_column(UtcDateTime)
