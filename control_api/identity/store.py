"""Every query and every write on the users' table."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from control_api import db
from control_api.identity.models import User
from control_api.identity.roles import Role


def by_name(session: Session, username: str) -> User | None:
    """Return the user of this name."""
    return session.scalar(select(User).where(User.username == username))


def by_id(session: Session, user_id: UUID) -> User | None:
    """Return the user with this id."""
    return session.get(User, user_id)


def is_empty(session: Session) -> bool:
    """Say whether there is nobody yet."""
    return session.scalar(select(func.count()).select_from(User)) == 0


def add_once(session: Session, username: str, password_hash: str, role: Role, now: datetime) -> bool:
    """Add the user unless the name exists; say whether it was added."""
    statement = db.insert(session, User).values(
        id=uuid4(), username=username, password_hash=password_hash, role=role, created_at=now
    )
    added = session.execute(statement.on_conflict_do_nothing(index_elements=["username"]).returning(User.id))
    return added.first() is not None
