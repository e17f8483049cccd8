"""The queries of the monitor."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import case, func, select, update
from sqlalchemy.orm import Session

from control_api import db
from control_api.workers.lifecycle import Moment, Status
from control_api.workers.lifecycle_store import heard_at
from control_api.workers.models import STANDING, Heartbeat, Watch, Worker


class Census(NamedTuple):
    """How the fleet is heard: `live` workers, `late` ones that missed a beat, `due` ones about to expire."""

    live: int
    late: int
    due: int


def census(session: Session, at: Moment, *, late: timedelta, due: timedelta) -> Census:
    """Count the live workers, those silent for longer than `late`, and those silent for longer than `due`."""
    query = (
        select(
            func.count(),
            func.coalesce(func.sum(case((heard_at < at.now - late, 1), else_=0)), 0),
            func.coalesce(func.sum(case((heard_at < at.now - due, 1), else_=0)), 0),
        )
        .select_from(Worker)
        .join(Heartbeat)
        .where(STANDING, Worker.status.in_([Status.ACTIVE, Status.NOT_READY]))
    )
    return Census(*(int(count) for count in session.execute(query).one()))


def save_watch(session: Session, now: datetime, grace_until: datetime) -> None:
    """Write that the monitor has just looked, and until when nobody is declared silent."""
    values = {"ticked_at": now, "grace_until": grace_until}
    statement = db.insert(session, Watch).values(id=1, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))


def pull_back(session: Session, now: datetime) -> None:
    """Take what lies in the future for heard now: the clock was set back."""
    session.execute(update(Watch).where(Watch.nodes_seen_at > now).values(nodes_seen_at=None))
    session.execute(update(Heartbeat).where(Heartbeat.received_at > now).values(received_at=now))
    session.execute(update(Worker).where(Worker.registered_at > now).values(registered_at=now))
