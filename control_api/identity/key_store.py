"""Every query and every write on the API keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from control_api import db
from control_api.identity.models import STANDING, ApiKey

FRESH = timedelta(minutes=1)  # the last use of a key is known as exactly as that


def add_once(session: Session, **values: Any) -> ApiKey | None:
    """Add the key and return it; None when a standing key has the name."""
    statement = db.insert(session, ApiKey).values(id=uuid4(), **values)
    unless = statement.on_conflict_do_nothing(index_elements=["name"], index_where=STANDING)
    added: ApiKey | None = session.scalar(unless.returning(ApiKey))
    return added


def by_hash(session: Session, key_hash: str) -> ApiKey | None:
    """Return the key that stands under this hash."""
    return session.scalar(select(ApiKey).where(ApiKey.key_hash == key_hash, ApiKey.revoked_at.is_(None)))


def everything(session: Session) -> Sequence[ApiKey]:
    """Return all keys, also revoked ones, the newest first."""
    return session.scalars(select(ApiKey).order_by(ApiKey.created_at.desc(), ApiKey.id)).all()


def revoke(session: Session, key_id: UUID, now: datetime) -> ApiKey | None:
    """Revoke the key and return it; None when none stands under this id."""
    standing = (ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
    return session.scalar(update(ApiKey).where(*standing).values(revoked_at=now).returning(ApiKey))


def touch(session: Session, key_id: UUID, now: datetime) -> None:
    """Note that the key is in use."""
    stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now - FRESH)
    session.execute(update(ApiKey).where(ApiKey.id == key_id, stale).values(last_used_at=now))


def is_fresh(key: ApiKey, now: datetime) -> bool:
    """Say whether the stored last use is exact enough."""
    return key.last_used_at is not None and key.last_used_at >= now - FRESH
