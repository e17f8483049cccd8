"""Every query and every write on webhooks and their deliveries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import Session

from control_api.events.models import Delivery, State, Webhook

DELETED_AT_ONCE = 1000

# ---- webhooks


def add(session: Session, **values: Any) -> Webhook:
    """Store a webhook and return it."""
    return session.scalars(insert(Webhook).values(**values).returning(Webhook)).one()


def count(session: Session) -> int:
    """Return how many there are."""
    return session.scalar(select(func.count()).select_from(Webhook)) or 0


def every(session: Session) -> Sequence[Webhook]:
    """Return all of them, the oldest first."""
    return session.scalars(select(Webhook).order_by(Webhook.created_at, Webhook.id)).all()


def one(session: Session, webhook_id: UUID) -> Webhook | None:
    """Return the webhook."""
    return session.get(Webhook, webhook_id)


def change(session: Session, webhook_id: UUID, **values: Any) -> Webhook | None:
    """Write these columns; return the webhook, None when there is none."""
    statement = update(Webhook).where(Webhook.id == webhook_id).values(**values).returning(Webhook)
    return session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()


def change_unless_changed(session: Session, seen: Webhook, **values: Any) -> bool:
    """Write these columns, unless an administrator has changed the webhook since; say whether it was done."""
    row = session.execute(
        update(Webhook)
        .where(Webhook.id == seen.id, Webhook.updated_at == seen.updated_at)
        .values(**values)
        .returning(Webhook.id)
        .execution_options(synchronize_session=False)
    )
    return row.first() is not None


def move(session: Session, webhook_id: UUID, column: str, old: int, **values: Any) -> bool:
    """Write these columns, unless the cursor in `column` was moved meanwhile; say whether it was done."""
    row = session.execute(
        update(Webhook)
        .where(Webhook.id == webhook_id, getattr(Webhook, column) == old)
        .values(**values)
        .returning(Webhook.id)
        .execution_options(synchronize_session=False)
    )
    return row.first() is not None


def remove(session: Session, webhook_id: UUID) -> None:
    """Remove the webhook with its deliveries."""
    session.execute(delete(Webhook).where(Webhook.id == webhook_id))


def busy(session: Session, settled: int, now: datetime) -> Sequence[UUID]:
    """Return the webhooks for which there may be something to do."""
    work = or_(Webhook.cursor < settled, Webhook.replay_after.is_not(None), exists().where(*_due(now)))
    return session.scalars(select(Webhook.id).where(*_speaking(now), work)).all()


def speaking(session: Session, webhook_id: UUID, now: datetime) -> Webhook | None:
    """Return the webhook if it is enabled and does not rest."""
    return session.scalar(select(Webhook).where(Webhook.id == webhook_id, *_speaking(now)))


def _speaking(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return Webhook.enabled.is_(True), or_(Webhook.resume_at.is_(None), Webhook.resume_at <= now)


def _due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return Delivery.webhook_id == Webhook.id, Delivery.state == State.PENDING, Delivery.next_at <= now


# ---- deliveries


def due(session: Session, webhook_id: UUID, now: datetime) -> Delivery | None:
    """Return the first delivery that is to be tried."""
    query = select(Delivery).where(
        Delivery.webhook_id == webhook_id, Delivery.state == State.PENDING, Delivery.next_at <= now
    )
    return session.scalar(query.order_by(Delivery.id).limit(1))


def pending(session: Session, webhook_id: UUID) -> int:
    """Return how many deliveries have begun and not ended."""
    query = select(func.count()).where(Delivery.webhook_id == webhook_id, Delivery.state == State.PENDING)
    return session.scalar(query) or 0


def begin(session: Session, webhook_id: UUID, event_ids: Iterable[int], now: datetime) -> None:
    """Store that these events are to be delivered."""
    common = {
        "webhook_id": webhook_id,
        "state": State.PENDING,
        "attempts": 0,
        "begun_at": now,
        "next_at": now,
    }
    rows = [{**common, "event_id": event_id} for event_id in event_ids]
    if rows:
        session.execute(insert(Delivery), rows)


def note(session: Session, delivery: Delivery, **values: Any) -> bool:
    """Write how an attempt ended, unless something else was written meanwhile; say whether it was done."""
    row = session.execute(
        update(Delivery)
        .where(
            Delivery.id == delivery.id,
            Delivery.attempts == delivery.attempts,
            Delivery.begun_at == delivery.begun_at,
        )
        .values(attempts=delivery.attempts + 1, **values)
        .returning(Delivery.id)
        .execution_options(synchronize_session=False)
    )
    return row.first() is not None


def again(session: Session, webhook_id: UUID, delivery_id: int, now: datetime) -> Delivery | None:
    """Let a delivery begin anew; return it, None when there is none."""
    begun = {"state": State.PENDING, "attempts": 0, "begun_at": now, "next_at": now}
    statement = update(Delivery).where(Delivery.id == delivery_id, Delivery.webhook_id == webhook_id)
    return session.scalars(
        statement.values(**begun).returning(Delivery), execution_options={"populate_existing": True}
    ).one_or_none()


def hurry(session: Session, webhook_id: UUID, now: datetime) -> None:
    """Let whatever is pending be tried now, and be given up a full day later."""
    waiting = Delivery.webhook_id == webhook_id, Delivery.state == State.PENDING
    session.execute(update(Delivery).where(*waiting).values(begun_at=now, next_at=now))


def deliveries(
    session: Session, webhook_id: UUID, *, limit: int, before: int | None, state: State | None
) -> Sequence[Delivery]:
    """Return the webhook's deliveries, the newest first."""
    query = select(Delivery).where(Delivery.webhook_id == webhook_id)
    if before is not None:
        query = query.where(Delivery.id < before)
    if state is not None:
        query = query.where(Delivery.state == state)
    return session.scalars(query.order_by(Delivery.id.desc()).limit(limit)).all()


def forget(session: Session, before: datetime) -> int:
    """Delete some of the deliveries that ended and were begun before that moment; return how many."""
    ended = Delivery.begun_at < before, Delivery.state != State.PENDING
    some = select(Delivery.id).where(*ended).order_by(Delivery.begun_at).limit(DELETED_AT_ONCE)
    gone = session.execute(delete(Delivery).where(Delivery.id.in_(some)).returning(Delivery.id))
    return len(gone.all())
