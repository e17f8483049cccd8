"""Logging in, and the first administrator."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from control_api.errors import InvalidLogin, Unauthorized
from control_api.identity import passwords, store
from control_api.identity.roles import Role
from control_api.identity.tokens import Caller

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session  # opaque here: the queries are in store


def ensure_first_admin(session: Session, username: str, password: str, now: datetime) -> bool:
    """Create the administrator when there is no user at all; say whether it was created."""
    if not store.is_empty(session):
        return False
    return store.add_once(session, username, passwords.hash_password(password), Role.ADMIN, now)


def log_in(session: Session, username: str, password: str) -> Caller:
    """Return who logs in. Raises InvalidLogin, the same for a wrong name and a wrong password."""
    user = store.by_name(session, username)
    right = passwords.matches(password, user.password_hash if user else None)
    if user is None or not right:
        raise InvalidLogin
    return Caller(user.id, user.username, user.role)


def current(session: Session, user_id: UUID) -> Caller:
    """Return the user as it is now. Raises Unauthorized when there is no such user any more."""
    user = store.by_id(session, user_id)
    if user is None:
        raise Unauthorized
    return Caller(user.id, user.username, user.role)
