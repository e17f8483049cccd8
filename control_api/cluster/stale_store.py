"""Queries of the cluster room: nodes that may be of a machine that no longer is."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import and_, delete, literal, select
from sqlalchemy.orm import Session

from control_api import db
from control_api.cluster.models import StaleNode
from control_api.db import UtcDateTime
from control_api.workers.lifecycle import Moment
from control_api.workers.models import STANDING, Heartbeat, Worker


class Doubt(NamedTuple):
    """A node of this name that was made before this moment may have to go, unless its worker has joined."""

    name: str
    before: datetime
    joined: bool


def doubt_node(session: Session, worker_id: UUID, before: datetime) -> None:
    """Write that a node of the worker's name, if it was made before this moment, is of a machine that is gone."""
    row = select(Worker.hostname, literal(before, UtcDateTime)).where(Worker.id == worker_id)
    statement = db.insert(session, StaleNode).from_select(["name", "before"], row)
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"before": before}))


def doubt_unless_heard(session: Session, worker_id: UUID, boot_id: UUID | None, at: Moment) -> None:
    """Doubt the node of a machine that comes with a token: what ran there before it may have been wiped.

    Not so when the worker is heard, in the same boot as now: then its node is its own, whatever its state.
    """
    query = select(Heartbeat.received_at, Heartbeat.left_at, Heartbeat.boot_id)
    row = session.execute(query.where(Heartbeat.worker_id == worker_id)).first()
    if row is not None and row.received_at is not None and row.left_at is None:
        is_same_boot = None in {boot_id, row.boot_id} or boot_id == row.boot_id
        if is_same_boot and at.now - row.received_at <= at.rules.timeout:
            return
    doubt_node(session, worker_id, at.now)


def doubts(session: Session, name: str | None = None) -> list[Doubt]:
    """Return the nodes that are in doubt; only that of this name when one is given."""
    query = select(StaleNode.name, StaleNode.before, Heartbeat.joined_at)
    query = query.outerjoin(Worker, and_(Worker.hostname == StaleNode.name, STANDING)).outerjoin(Heartbeat)
    rows = session.execute(query if name is None else query.where(StaleNode.name == name))
    return [Doubt(named, before, joined_at is not None) for named, before, joined_at in rows]


def trust_node(session: Session, doubt: Doubt) -> None:
    """Forget a doubt, unless it was raised anew meanwhile."""
    session.execute(delete(StaleNode).where(StaleNode.name == doubt.name, StaleNode.before == doubt.before))
