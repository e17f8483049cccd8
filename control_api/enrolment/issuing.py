"""Making and revoking enrolment tokens."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from control_api.enrolment import store, tokens
from control_api.enrolment.models import EnrolmentToken
from control_api.enrolment.wire import NewEnrolmentToken
from control_api.errors import EnrolmentTokenNameTaken, EnrolmentTokenNotFound

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # opaque here: the queries are in store


def create(
    session: Session, wanted: NewEnrolmentToken, *, by: str, now: datetime
) -> tuple[EnrolmentToken, str]:
    """Make a token; return it with its secret, which is nowhere else. by: the actor. Raises EnrolmentTokenNameTaken."""
    minted = tokens.mint()
    ttl = wanted.ttl_seconds
    values = {
        **wanted.model_dump(exclude={"ttl_seconds"}),
        "id": minted.id,
        "digest": minted.digest,
        "uses": 0,
        "created_by": by,
        "created_at": now,
        "expires_at": None if ttl is None else now + timedelta(seconds=ttl),
    }
    row = store.add(session, values)
    if row is None:
        raise EnrolmentTokenNameTaken
    return row, minted.value


def get(session: Session, token_id: UUID) -> EnrolmentToken:
    """Return the token. Raises EnrolmentTokenNotFound."""
    row = store.token(session, token_id)
    if row is None:
        raise EnrolmentTokenNotFound
    return row


def revoke(session: Session, token_id: UUID, now: datetime) -> tuple[EnrolmentToken, bool]:
    """Let the token let in nobody any more; return it, and whether that changed anything.

    Raises EnrolmentTokenNotFound.
    """
    changed = store.revoke(session, token_id, now)
    return get(session, token_id), changed
