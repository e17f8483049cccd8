"""Queries of the cluster room: what K3s says of the workers' nodes, and the join tokens that are out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Integer, String, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from control_api import db
from control_api.cluster.models import JoinToken
from control_api.cluster.nodes import NodeReport
from control_api.workers.lifecycle import Node
from control_api.workers.models import STANDING, Heartbeat, Watch, Worker
from control_api.workers.store import chunks

AT_ONCE = 200  # join tokens that one look deletes, so that it does not last


# ---- nodes


def save_nodes(
    session: Session, reports: Iterable[NodeReport], pods: Mapping[str, int] | None, asked_at: datetime
) -> list[UUID]:
    """Write what K3s said of every worker's node when it was asked, and return the workers for whom that is new.

    pods: by the node's name; None when they are not known. What is older than what is stored changes nothing.
    """
    older = or_(Watch.nodes_seen_at.is_(None), Watch.nodes_seen_at <= asked_at)
    saved = session.execute(update(Watch).where(older).values(nodes_seen_at=asked_at))
    if not saved.rowcount:  # type: ignore[attr-defined]  # an UPDATE has one
        return []
    rows = [
        (node.name, node.state, None if pods is None else pods.get(node.name, 0), node.pod_capacity)
        for node in reports
    ]
    listed = db.table(
        session, rows, {"name": String(), "state": String(), "pods": Integer(), "capacity": Integer()}
    )
    state = func.coalesce(listed.c.state, Node.MISSING.value)
    new = (state, listed.c.pods, listed.c.capacity)
    old = (Worker.node_state, Worker.node_pods, Worker.node_pod_capacity)
    differs = or_(*(was.is_distinct_from(is_now) for was, is_now in zip(old, new, strict=True)))
    query = select(Worker.id, *new).outerjoin(listed, listed.c.name == Worker.hostname)
    query = query.where(STANDING, differs).order_by(Worker.id).with_for_update(of=Worker)
    groups: dict[tuple[str, int | None, int | None], list[UUID]] = {}
    for worker_id, *values in session.execute(query):
        groups.setdefault((values[0], values[1], values[2]), []).append(worker_id)
    for (node, count, capacity), ids in groups.items():
        changes: dict[str, Any] = {
            "node_state": Node(node),
            "node_pods": count,
            "node_pod_capacity": capacity,
            **({"join_error": None} if node == Node.READY else {}),  # it has joined after all
        }
        for chunk in chunks(ids):
            statement = update(Worker).where(Worker.id.in_(chunk)).values(**changes)
            session.execute(statement.execution_options(synchronize_session=False))
    return [worker_id for ids in groups.values() for worker_id in ids]


# ---- join tokens


def remember_join_token(session: Session, token_id: str, worker_id: UUID, expires_at: datetime) -> None:
    """Write the id of a join token before it is made, so that it is deleted whatever happens in between."""
    session.add(JoinToken(id=token_id, worker_id=worker_id, expires_at=expires_at))


def spent_join_tokens(session: Session, now: datetime) -> list[tuple[str, UUID]]:
    """Return join tokens that nobody needs any more, each with its worker.

    The worker says that it is ready, and so does K3s; or it was removed; or the token has expired.
    """
    joined = and_(Worker.node_state == Node.READY, Heartbeat.joined_at.is_not(None))
    query = select(JoinToken.id, JoinToken.worker_id).join(Worker).join(Heartbeat)
    query = query.where(or_(joined, Worker.removed_at.is_not(None), JoinToken.expires_at <= now))
    rows = session.execute(query.order_by(JoinToken.expires_at).limit(AT_ONCE))
    return [(token_id, worker_id) for token_id, worker_id in rows]


def forget_join_token(session: Session, token_id: str) -> None:
    """Forget the id of a deleted join token."""
    session.execute(delete(JoinToken).where(JoinToken.id == token_id))
