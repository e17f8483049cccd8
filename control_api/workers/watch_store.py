"""The queries of the monitor."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import String, and_, case, func, select, type_coerce, update
from sqlalchemy.orm import Session

from control_api import db
from control_api.workers import lifecycle_store
from control_api.workers.lifecycle import Moment, Status
from control_api.workers.lifecycle_store import heard_at
from control_api.workers.models import STANDING, Heartbeat, Watch, Worker


class Census(NamedTuple):
    """How the fleet is heard: `live` workers, `late` ones that missed a beat, `due` ones about to expire.

    changed: how many are not what is recorded of them, of any status; in a grace it may be fewer.
    """

    live: int
    late: int
    due: int
    changed: int = 0


def census(session: Session, at: Moment, *, late: timedelta, due: timedelta) -> Census:
    """Count the live workers, those silent for longer than `late` and than `due`, and the changed ones.

    All in one pass and without a lock, since it is all that most looks need.
    """
    live = Worker.status.in_([Status.ACTIVE, Status.NOT_READY])
    changed = lifecycle_store.status(replace(at, grace_until=None)) != type_coerce(Worker.status, String)
    counted = (
        live,
        and_(live, heard_at < at.now - late),
        and_(live, heard_at < at.now - due),
        changed,
    )
    query = select(*(func.coalesce(func.sum(case((each, 1), else_=0)), 0) for each in counted))
    query = query.select_from(Worker).join(Heartbeat).where(STANDING)
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
