"""The table of the people who may log in."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from control_api.db import Base, UtcDateTime, words
from control_api.identity.roles import Role


class User(Base):
    """A person with a password and a role."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(63), unique=True)
    password_hash: Mapped[str] = mapped_column(String(200))
    role: Mapped[Role] = mapped_column(words(Role, "role"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
