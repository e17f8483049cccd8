"""API keys: shown once, stored as a hash, good for their scopes until they expire or are revoked."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from control_api.errors import (
    ApiKeyNotFound,
    DatabaseUnavailable,
    InvalidRequest,
    KeyNameTaken,
    Unauthorized,
)
from control_api.events import audit
from control_api.identity import key_store
from control_api.identity.callers import Caller, program
from control_api.identity.roles import Scope

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session  # opaque here: the queries are in key_store

    from control_api.db import Database
    from control_api.identity.models import ApiKey

PREFIX = "muster_"  # tells a key from a JWT, and lets scanners of repositories find it
LONGEST = timedelta(days=3653)


def make() -> str:
    """Return a new key: 256 random bits, which need no slow hash."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def create(
    database: Database,
    name: str,
    scopes: frozenset[Scope],
    *,
    expires_at: datetime | None,
    actor: str,
    peer: str | None = None,
    now: datetime,
) -> tuple[str, ApiKey]:
    """Make a key; return it and what is stored of it. Raises InvalidRequest, KeyNameTaken."""
    if expires_at is not None and not now < expires_at <= now + LONGEST:
        raise InvalidRequest(details=(("expiresAt", "Name a moment in the next ten years."),))
    key = make()
    values = {"name": name, "scopes": sorted(scopes), "created_by": actor, "expires_at": expires_at}
    with database.transaction() as session:
        stored = key_store.add_once(session, key_hash=digest(key), created_at=now, **values)
        if stored is None:
            raise KeyNameTaken
        details = {"scopes": sorted(scopes), "expiresAt": expires_at.isoformat() if expires_at else None}
        _record(session, "api_key.create", stored, actor=actor, peer=peer, now=now, **details)
        return key, stored


def revoke(database: Database, key_id: UUID, *, actor: str, peer: str | None = None, now: datetime) -> ApiKey:
    """Revoke the key and return it. Raises ApiKeyNotFound."""
    with database.transaction() as session:
        revoked = key_store.revoke(session, key_id, now)
        if revoked is None:
            raise ApiKeyNotFound
        _record(session, "api_key.revoke", revoked, actor=actor, peer=peer, now=now)
        return revoked


def authenticate(database: Database, key: str, now: datetime) -> Caller:
    """Return the program that holds the key, and note its use. Raises Unauthorized."""
    with database.reading() as session:
        found = key_store.by_hash(session, digest(key))
    if found is None or (found.expires_at is not None and found.expires_at <= now):
        raise Unauthorized
    if not key_store.is_fresh(found, now):
        with suppress(DatabaseUnavailable), database.transaction() as session:
            key_store.touch(session, found.id, now)
    return program(found.name, frozenset(Scope(scope) for scope in found.scopes))


def _record(
    session: Session,
    action: str,
    key: ApiKey,
    *,
    actor: str,
    peer: str | None,
    now: datetime,
    **details: Any,
) -> None:
    subject = f"api-key:{key.name}"
    audit.record(session, actor=actor, action=action, subject=subject, peer=peer, details=details, now=now)
