"""Every query on the stream of events: the history of the workers, read in the order of its ids."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, or_, select, text, true
from sqlalchemy.orm import Session, aliased

from control_api import db
from control_api.events.models import Forgotten
from control_api.workers.models import Transition, Worker

FORGOTTEN_AT_ONCE = 1000
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


def forgotten(session: Session) -> int:
    """Return the last event that was deleted: behind it, history has no gap. 0 when all is kept."""
    return session.scalar(select(Forgotten.upto)) or 0


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


def forget(session: Session, place: int, before: datetime) -> tuple[int, int | None]:
    """Delete what is from before that moment among the thousand events behind the place.

    Returns how many, and the place to go on from; None when whatever follows is newer. The newest event of each worker
    stays whatever its age, so that the history still leads to the present, and so does the very newest of all, so
    that no id is handed out twice.
    """
    following = select(Transition.id, Transition.at).where(Transition.id > place).order_by(Transition.id)
    old = [row.id for row in session.execute(following.limit(FORGOTTEN_AT_ONCE)) if row.at < before]
    if not old:
        return 0, None
    newer = aliased(Transition)
    superseded = exists().where(newer.worker_id == Transition.worker_id, newer.id > Transition.id)
    statement = delete(Transition).where(
        Transition.id > place,
        Transition.id <= old[-1],
        Transition.at < before,
        Transition.id < select(func.max(newer.id)).scalar_subquery(),
        or_(Transition.worker_id.is_(None), superseded),
    )
    gone = session.scalars(
        statement.returning(Transition.id).execution_options(synchronize_session=False)
    ).all()
    if gone:
        _note_forgotten(session, max(gone))
    return len(gone), old[-1]


def _note_forgotten(session: Session, upto: int) -> None:
    """Remember the last event that was deleted."""
    statement = db.insert(session, Forgotten).values(id=1, upto=upto)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["id"], set_={"upto": upto}, where=Forgotten.upto < upto
        )
    )


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
