"""Every query on the stream of events: the history of the workers, read in the order of its ids."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, text, true
from sqlalchemy.orm import Session

from control_api.workers.models import Transition, Worker

# Whoever writes to the table holds this lock from before its first id until its transaction has ended.
WRITERS = text(
    "SELECT virtualtransaction FROM pg_locks WHERE relation = 'transitions'::regclass AND locktype = 'relation'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND mode = 'RowExclusiveLock' AND granted"
)


class Kind(StrEnum):
    """What an event tells."""

    REGISTERED = "worker.registered"
    TRANSITION = "worker.transition"
    REMOVED = "worker.removed"
    NOTE = "monitor.note"


class Event(NamedTuple):
    """Something that happened. id: its place in the stream; None when it is about the stream itself."""

    id: int | None
    kind: str
    data: dict[str, Any]
    at: datetime | None = None


def place_of(event: Event) -> int:
    """Return the place in the stream of an event that was read from the table."""
    if event.id is None:
        msg = f"{event.kind} has no place"
        raise ValueError(msg)
    return event.id


def newest(session: Session) -> int:
    """Return the highest id that can be seen; 0 when there is none."""
    return session.scalar(select(func.max(Transition.id))) or 0


def oldest(session: Session) -> int | None:
    """Return the lowest id that is kept."""
    return session.scalar(select(func.min(Transition.id)))


def writers(session: Session) -> frozenset[str]:
    """Return the transactions that may hold an id nobody can see yet; SQLite has one writer, who hides none."""
    if session.get_bind().dialect.name == "sqlite":
        return frozenset()
    return frozenset(session.scalars(WRITERS))


def after(
    session: Session,
    position: int,
    limit: int,
    *,
    upto: int | None = None,
    worker: UUID | None = None,
    kinds: Collection[Kind] = (),
) -> list[Event]:
    """Return the next events after the position, in order. upto: the last id; worker, kinds: only of these."""
    query = _all().where(Transition.id > position).order_by(Transition.id).limit(limit)
    if upto is not None:
        query = query.where(Transition.id <= upto)
    if worker is not None:
        query = query.where(Transition.worker_id == worker)
    if kinds:
        query = query.where(or_(*(_of(kind) for kind in kinds)))
    return [_event(*row) for row in session.execute(query)]


def _all() -> Select[Transition, str, str]:
    return select(Transition, Worker.hostname, Worker.name).outerjoin(
        Worker, Worker.id == Transition.worker_id
    )


def _of(kind: Kind) -> ColumnElement[bool]:
    worker = Transition.worker_id.is_not(None)
    known, stays = Transition.from_status.is_not(None), Transition.to_status.is_not(None)
    return {
        Kind.REGISTERED: and_(worker, ~known),
        Kind.TRANSITION: and_(worker, known, stays),
        Kind.REMOVED: and_(worker, known, ~stays),
        Kind.NOTE: and_(true(), ~worker),
    }[kind]


def _kind(row: Transition) -> Kind:
    if row.worker_id is None:
        return Kind.NOTE
    if row.from_status is None:
        return Kind.REGISTERED
    return Kind.REMOVED if row.to_status is None else Kind.TRANSITION


def _event(row: Transition, hostname: str | None, name: str | None) -> Event:
    kind = _kind(row)
    data: dict[str, Any] = {"id": row.id, "kind": kind.value, "at": row.at.isoformat()}
    if row.worker_id is not None:
        data |= {"workerId": str(row.worker_id), "hostname": hostname, "name": name}
        data |= {"from": row.from_status, "to": row.to_status}
    data |= {"reason": row.reason, "actor": row.actor, "evidence": row.evidence}
    return Event(row.id, kind.value, data, row.at)
