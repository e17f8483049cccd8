"""Every query and every write on the enrolment tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.orm import Session

from control_api import db
from control_api.enrolment.models import STANDING, EnrolmentToken
from control_api.workers import models as workers

NEWEST_FIRST = (EnrolmentToken.created_at.desc(), EnrolmentToken.id)


def token(session: Session, token_id: UUID) -> EnrolmentToken | None:
    """Return the token with this id, revoked ones too."""
    return session.get(EnrolmentToken, token_id)


def page(session: Session, *, limit: int, offset: int) -> tuple[Sequence[EnrolmentToken], int]:
    """Return some of the tokens, the newest first, and how many there are in all."""
    total = session.scalar(select(func.count()).select_from(EnrolmentToken)) or 0
    query = select(EnrolmentToken).order_by(*NEWEST_FIRST).limit(limit).offset(offset)
    return session.scalars(query).all(), total


def add(session: Session, values: Mapping[str, Any]) -> EnrolmentToken | None:
    """Add a token and return it; None when a token that is not revoked has its name."""
    statement = db.insert(session, EnrolmentToken).values(**values)
    statement = statement.on_conflict_do_nothing(index_elements=["name"], index_where=STANDING)
    added: EnrolmentToken | None = session.scalar(statement.returning(EnrolmentToken))
    return added


def revoke(session: Session, token_id: UUID, now: datetime) -> bool:
    """Revoke the token; say whether that changed anything."""
    row = session.execute(
        update(EnrolmentToken)
        .where(EnrolmentToken.id == token_id, EnrolmentToken.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(EnrolmentToken.id)
    ).first()
    return row is not None


def let_in(session: Session, token_id: UUID, *, machine_id: str | None, hostname: str) -> bool:
    """Say whether the token has let this very machine in before."""
    same = (
        workers.Worker.machine_id == machine_id
        if machine_id
        else (workers.Worker.machine_id.is_(None) & (workers.Worker.hostname == hostname))
    )
    return bool(
        session.scalar(
            select(exists().where(workers.STANDING, workers.Worker.enrolment_token_id == token_id, same))
        )
    )


def use(session: Session, token_id: UUID, *, machines: int, now: datetime) -> bool:
    """Note a use that lets in so many machines more, 0 or 1; False when there is no room or it is revoked.

    One statement on the locked row: of simultaneous machines exactly as many as are left get in.
    """
    uses = EnrolmentToken.uses + machines
    room = or_(EnrolmentToken.max_uses.is_(None), uses <= EnrolmentToken.max_uses)
    row = session.execute(
        update(EnrolmentToken)
        .where(EnrolmentToken.id == token_id, EnrolmentToken.revoked_at.is_(None), room)
        .values(uses=uses, last_used_at=now)
        .returning(EnrolmentToken.id)
    ).first()
    return row is not None
