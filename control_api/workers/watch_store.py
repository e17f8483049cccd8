"""The queries of those who watch: the monitor, and the reader of K3s's nodes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import and_, case, func, or_, select, update
from sqlalchemy.orm import Session

from control_api import db
from control_api.workers.lifecycle import Moment, Node, Status
from control_api.workers.models import STANDING, Heartbeat, Watch, Worker
from control_api.workers.store import chunks, heard_at


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
    session.execute(update(Heartbeat).where(Heartbeat.received_at > now).values(received_at=now))
    session.execute(update(Worker).where(Worker.registered_at > now).values(registered_at=now))
    session.execute(update(Watch).where(Watch.nodes_seen_at > now).values(nodes_seen_at=None))


def save_node_states(session: Session, ready: Mapping[str, bool], now: datetime) -> None:
    """Write what K3s says of every worker's node. ready: by the node's name, which is the hostname."""
    rows = session.execute(select(Worker.id, Worker.hostname, Worker.node_state).where(STANDING)).all()
    changed: dict[Node, list[UUID]] = {}
    for worker_id, hostname, old in rows:
        state = Node.READY if ready.get(hostname) else Node.NOT_READY
        new = state if hostname in ready else Node.MISSING
        if new != old:
            changed.setdefault(new, []).append(worker_id)
    for state, ids in changed.items():
        for chunk in chunks(sorted(ids)):
            session.execute(
                update(Worker)
                .where(Worker.id.in_(chunk))
                .values(node_state=state)
                .execution_options(synchronize_session=False)
            )
    session.execute(update(Watch).values(nodes_seen_at=now))


def remember_join_token(session: Session, worker_id: UUID, token_id: str) -> None:
    """Write the id of the join token that was handed to the worker, so that it can be deleted."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(join_token_id=token_id))


def spent_join_tokens(session: Session) -> list[tuple[UUID, str]]:
    """Return workers with a join token that they no longer need: they were removed, or they and K3s say ready."""
    query = (
        select(Worker.id, Worker.join_token_id)
        .join(Heartbeat)
        .where(
            Worker.join_token_id.is_not(None),
            or_(
                Worker.removed_at.is_not(None),
                and_(Worker.node_state == Node.READY, Heartbeat.joined_at.is_not(None)),
            ),
        )
    )
    return [(worker_id, token_id) for worker_id, token_id in session.execute(query) if token_id]


def forget_join_token(session: Session, worker_id: UUID, token_id: str) -> None:
    """Forget the id of a deleted join token, unless the worker was handed another one meanwhile."""
    session.execute(
        update(Worker)
        .where(Worker.id == worker_id, Worker.join_token_id == token_id)
        .values(join_token_id=None)
        .execution_options(synchronize_session=False)
    )
