"""Every query and every write on the users and their logins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from control_api import db
from control_api.identity.models import Login, User
from control_api.identity.roles import Role

REMEMBERED = timedelta(days=30)  # that long after its end, a login still says from where its user comes


def by_name(session: Session, username: str) -> User | None:
    """Return the user of this name."""
    return session.scalar(select(User).where(User.username == username))


def by_id(session: Session, user_id: UUID) -> User | None:
    """Return the user with this id."""
    return session.get(User, user_id)


def locked(session: Session, user_id: UUID) -> User | None:
    """Return the user, whom nobody else changes before this transaction ends."""
    return session.get(User, user_id, with_for_update=True, populate_existing=True)


def everyone(session: Session) -> Sequence[User]:
    """Return all users, by name."""
    return session.scalars(select(User).order_by(User.username)).all()


def is_empty(session: Session) -> bool:
    """Say whether there is nobody yet."""
    return session.scalar(select(func.count()).select_from(User)) == 0


def lock_admins(session: Session) -> list[UUID]:
    """Return the administrators who can log in; they stay so until this transaction ends."""
    able = select(User.id).where(User.role == Role.ADMIN, User.disabled.is_(False))
    return list(session.scalars(able.order_by(User.id).with_for_update()))


def add_once(session: Session, username: str, password_hash: str, role: Role, now: datetime) -> User | None:
    """Add the user and return it; None when the name exists."""
    statement = db.insert(session, User).values(
        id=uuid4(), username=username, password_hash=password_hash, role=role, created_at=now
    )
    added: User | None = session.scalar(
        statement.on_conflict_do_nothing(index_elements=["username"]).returning(User)
    )
    return added


def change(session: Session, user: User, **values: Any) -> None:
    """Change the user, and end every login of theirs."""
    for name, value in values.items():
        setattr(user, name, value)
    user.epoch += 1
    session.flush()


def remove(session: Session, user: User) -> None:
    """Remove the user and the logins."""
    session.execute(delete(User).where(User.id == user.id))


# ---- logins


def add_login(
    session: Session, user: User, refresh_id: UUID, *, peer: str | None, now: datetime, until: datetime
) -> UUID:
    """Add a login as of the user's epoch, forget those long over, and return its id."""
    forgotten = delete(Login).where(Login.user_id == user.id, Login.expires_at < now - REMEMBERED)
    session.execute(forgotten)
    login = Login(
        id=uuid4(),
        user_id=user.id,
        epoch=user.epoch,
        refresh_id=refresh_id,
        peer=peer,
        created_at=now,
        expires_at=until,
    )
    session.add(login)
    session.flush()
    return login.id


def holder(session: Session, login_id: UUID) -> User | None:
    """Return whose login this is, if the login still stands."""
    standing = (Login.revoked_at.is_(None), Login.epoch == User.epoch, User.disabled.is_(False))
    return session.scalar(
        select(User).join(Login, Login.user_id == User.id).where(Login.id == login_id, *standing)
    )


def exchange(session: Session, login_id: UUID, spent: UUID, fresh: UUID, *, until: datetime) -> bool:
    """Put a fresh refresh token in the place of the one that is spent now; say whether it was unspent."""
    unspent = (Login.id == login_id, Login.refresh_id == spent, Login.revoked_at.is_(None))
    statement = update(Login).where(*unspent).values(refresh_id=fresh, expires_at=until)
    return session.scalar(statement.returning(Login.id)) is not None


def end_login(session: Session, login_id: UUID, now: datetime) -> bool:
    """Revoke every token of the login; say whether it stood."""
    statement = update(Login).where(Login.id == login_id, Login.revoked_at.is_(None)).values(revoked_at=now)
    return session.scalar(statement.returning(Login.id)) is not None


def came_from(session: Session, username: str, peer: str | None) -> bool:
    """Say whether the user has logged in from that address before."""
    known = select(Login.id).join(User, Login.user_id == User.id)
    return session.scalar(known.where(User.username == username, Login.peer == peer).limit(1)) is not None
