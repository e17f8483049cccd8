"""The users: what may be changed of them, and that an administrator always remains."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from control_api.errors import InvalidLogin, LastAdmin, UsernameTaken, UserNotFound
from control_api.events import audit
from control_api.identity import passwords, store
from control_api.identity.roles import Role

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session  # opaque here: the queries are in store

    from control_api.db import Database
    from control_api.identity.models import User


def ensure_first_admin(session: Session, username: str, password: str, now: datetime) -> bool:
    """Create the administrator when there is no user at all; say whether it was created."""
    if not store.is_empty(session):
        return False
    user = store.add_once(session, username, passwords.hash_password(password), Role.ADMIN, now)
    if user is not None:
        _record(session, "user.create", user, actor="setup", now=now, role=Role.ADMIN)
    return user is not None


def require_password(user: User | None, password: str) -> User:
    """Return the user when that is the password. Raises InvalidLogin: whatever is wrong, the same, as late."""
    right = passwords.matches(password, user.password_hash if user else None)
    if user is None or not right or user.disabled:
        raise InvalidLogin
    return user


def unchanged(session: Session, user: User) -> User:
    """Return the user as stored, and lock it. Raises InvalidLogin when it changed since the password was looked at."""
    current = store.locked(session, user.id)
    if current is None or current.epoch != user.epoch:
        raise InvalidLogin
    return current


def find(session: Session, user_id: UUID) -> User:
    """Return the user. Raises UserNotFound."""
    user = store.by_id(session, user_id)
    if user is None:
        raise UserNotFound
    return user


def create(
    database: Database,
    username: str,
    password: str,
    role: Role,
    *,
    actor: str,
    peer: str | None = None,
    now: datetime,
) -> User:
    """Add a user. Raises InvalidRequest, UsernameTaken, Overloaded."""
    passwords.require_good(password, username)
    hashed = passwords.hash_password(password)  # takes long: before the transaction
    with database.transaction() as session:
        user = store.add_once(session, username, hashed, role, now)
        if user is None:
            raise UsernameTaken
        _record(session, "user.create", user, actor=actor, peer=peer, now=now, role=role)
        return user


def change(
    database: Database,
    user_id: UUID,
    *,
    role: Role | None = None,
    disabled: bool | None = None,
    password: str | None = None,
    field: str = "password",
    actor: str,
    peer: str | None = None,
    now: datetime,
) -> User:
    """Change what is given and differs; then every login of that user ends.

    field: what the client calls the password. Raises UserNotFound, LastAdmin, InvalidRequest, Overloaded.
    """
    hashed = _hash_for(database, user_id, password, field) if password is not None else None
    asked = {"role": role, "disabled": disabled, "password_hash": hashed}
    with database.transaction() as session:
        admins = store.lock_admins(session)
        user = _locked(session, user_id)
        wanted = {name: value for name, value in asked.items() if value not in {None, getattr(user, name)}}
        _keep_an_admin(admins, user, wanted)
        if wanted:
            store.change(session, user, **wanted)
            _record(session, "user.update", user, actor=actor, peer=peer, now=now, **_shown(wanted))
        return user


def remove(database: Database, user_id: UUID, *, actor: str, peer: str | None = None, now: datetime) -> User:
    """Remove the user and return what it was. Raises UserNotFound, LastAdmin."""
    with database.transaction() as session:
        admins = store.lock_admins(session)
        user = _locked(session, user_id)
        _keep_an_admin(admins, user, {"disabled": True})
        store.remove(session, user)
        _record(session, "user.remove", user, actor=actor, peer=peer, now=now)
        return user


def _hash_for(database: Database, user_id: UUID, password: str, field: str) -> str:
    with database.reading() as session:
        username = find(session, user_id).username
    passwords.require_good(password, username, field=field)
    return passwords.hash_password(password)


def _locked(session: Session, user_id: UUID) -> User:
    user = store.locked(session, user_id)
    if user is None:
        raise UserNotFound
    return user


def _keep_an_admin(admins: list[UUID], user: User, wanted: dict[str, Any]) -> None:
    stays = wanted.get("role", user.role) is Role.ADMIN and not wanted.get("disabled", user.disabled)
    if admins == [user.id] and not stays:
        raise LastAdmin


def _shown(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the change as the audit log shows it: that there is a new password, and not its hash."""
    names = {"role": "role", "disabled": "disabled", "password_hash": "password"}
    return {names[name]: value for name, value in wanted.items()}  # a password is blacked out there


def _record(
    session: Session,
    action: str,
    user: User,
    *,
    actor: str,
    peer: str | None = None,
    now: datetime,
    **details: Any,
) -> None:
    subject = f"user:{user.username}"
    audit.record(session, actor=actor, action=action, subject=subject, peer=peer, details=details, now=now)
