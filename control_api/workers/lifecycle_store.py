"""What lifecycle decides and says, as expressions of the database, for filters and sets; tests hold the two equal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, FromClause, String, and_, case, false, literal, or_, true, type_coerce
from sqlalchemy.orm import InstrumentedAttribute, Session

from control_api import db
from control_api.workers import lifecycle
from control_api.workers.lifecycle import GOODBYE, LIVE, NOT_HEARD, Intent, Moment, Node, Status
from control_api.workers.models import Heartbeat, Worker

heard_at = case(
    (Heartbeat.received_at > Worker.registered_at, Heartbeat.received_at), else_=Worker.registered_at
)


def status(at: Moment) -> ColumnElement[str]:
    """Return lifecycle's status."""
    return case(
        (Worker.intent == Intent.MAINTENANCE, Status.MAINTENANCE.value),
        *_conditions(at),
        else_=Status.NOT_READY.value,
    )


def health(at: Moment) -> ColumnElement[str]:
    """Return lifecycle's health: the status but for an operator's maintenance."""
    return case(*_conditions(at), else_=Status.NOT_READY.value)


def _conditions(at: Moment) -> Sequence[tuple[ColumnElement[bool], str]]:
    spared = Worker.status.in_(LIVE) if at.in_grace else false()
    unseen = Worker.node_state.is_(None) if at.knows_nodes else false()
    ready = Worker.node_state == Node.READY if at.knows_nodes else true()

    def silent_for_more_than(time: timedelta) -> ColumnElement[bool]:
        return and_(heard_at < at.now - time, ~spared)

    return (
        (~Worker.approved, Status.PENDING.value),
        (Heartbeat.left_at.is_not(None), Status.INACTIVE.value),
        (
            and_(or_(Heartbeat.joined_at.is_(None), unseen), ~silent_for_more_than(at.rules.join_grace)),
            Status.PENDING.value,
        ),
        (silent_for_more_than(at.rules.timeout), Status.INACTIVE.value),
        (and_(Heartbeat.node_ready, ready), Status.ACTIVE.value),
    )


def seen(at: Moment) -> tuple[ColumnElement[Any] | InstrumentedAttribute[Any], ...]:
    """Return the status as `to_status`, and under their own names what `reason` and `evidence` make of it."""
    return (
        status(at).label("to_status"),
        heard_at.label("heard_at"),
        Worker.approved,
        type_coerce(Worker.node_state, String).label("node_state"),
        Heartbeat.received_at,
        Heartbeat.left_at,
        Heartbeat.left_reason,
        Heartbeat.node_ready,
    )


def reason(session: Session, at: Moment, rows: FromClause) -> ColumnElement[str]:
    """Return lifecycle's reason for a change to the status. rows: columns that `seen` has named."""
    has = rows.c
    new = has.to_status

    def told(of: Status, *, approved: bool = True, node_ready: bool = True, node: Node | None = None) -> str:
        return lifecycle.why(
            of,
            approved=approved,
            left_reason="",
            silence=timedelta(0),
            node_ready=node_ready,
            node=node,
            at=at,
        )

    silent, goodbye = NOT_HEARD.split("{}"), GOODBYE.removesuffix("{}")
    seconds = db.whole(db.seconds(session, at.now, has.heard_at))
    unready = [
        (
            and_(has.node_ready == ready, has.node_state == node.value),
            told(Status.NOT_READY, node_ready=ready, node=node),
        )
        for ready in (True, False)
        for node in Node
    ]
    return case(
        (new == Status.MAINTENANCE.value, told(Status.MAINTENANCE)),
        (
            and_(new == Status.INACTIVE.value, has.left_at.is_(None)),
            literal(silent[0]) + seconds + silent[1],
        ),
        (and_(new == Status.INACTIVE.value, has.left_reason != ""), literal(goodbye) + has.left_reason),
        (new == Status.INACTIVE.value, told(Status.INACTIVE)),
        (and_(new == Status.PENDING.value, has.approved), told(Status.PENDING)),
        (new == Status.PENDING.value, told(Status.PENDING, approved=False)),
        (new == Status.ACTIVE.value, told(Status.ACTIVE)),
        *unready,
        else_=told(Status.NOT_READY, node_ready=False),
    )


def evidence(session: Session, at: Moment, rows: FromClause) -> ColumnElement[Any]:
    """Return what a change rests on, as a JSON object. rows: columns that `seen` has named."""
    has = rows.c
    return db.json_object(
        session,
        {
            "lastHeartbeat": db.iso(session, has.received_at),
            "silenceSeconds": db.seconds(session, at.now, has.heard_at),
            "nodeReady": has.node_ready,
            "nodeState": has.node_state if at.knows_nodes else literal(None, String),
            "nodesSeenAt": literal(at.nodes_seen_at.isoformat() if at.nodes_seen_at else None, String),
        },
    )
