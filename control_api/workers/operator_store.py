"""The writes of operators on the workers' tables, and the end of a maintenance whose time is up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from control_api.workers import store
from control_api.workers.lifecycle import Intent
from control_api.workers.models import STANDING, Heartbeat, Worker


def create(session: Session, values: Mapping[str, Any]) -> None:
    """Insert a worker that has never been heard. values: every column that must be there. Raises Taken."""
    with store.unique():
        session.execute(insert(Worker).values(**values))
    session.execute(insert(Heartbeat).values(worker_id=values["id"], seq=0, node_ready=False))
    store.index_statuses(session, [values["id"]])


def change(session: Session, worker_id: UUID, values: Mapping[str, Any], now: datetime) -> None:
    """Write columns of a worker. Raises Taken."""
    with store.unique():
        session.execute(update(Worker).where(Worker.id == worker_id).values(**values, updated_at=now))


def end_maintenance(session: Session, now: datetime) -> Sequence[UUID]:
    """End every maintenance whose time is up, in one statement; return the workers, whose statuses are due."""
    over = select(Worker.id).where(
        STANDING, Worker.intent == Intent.MAINTENANCE, Worker.maintenance_until <= now
    )
    statement = (
        update(Worker)
        .where(Worker.id.in_(over.order_by(Worker.id).with_for_update()))
        .values(**store.AT_WORK, updated_at=now)
        .returning(Worker.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalars(statement).all()
