"""Every query and every write on the workers' tables, but for the batches of heartbeats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    String,
    Uuid,
    and_,
    case,
    delete,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    type_coerce,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased, contains_eager

from control_api import db
from control_api.cluster import stale_store
from control_api.workers import history_store, lifecycle
from control_api.workers.lifecycle import LIVE, Intent, Moment, Node, Rules, Status
from control_api.workers.models import STANDING, Heartbeat, StatusIndex, Transition, Watch, Worker

AT_WORK: dict[str, Any] = {  # what ends a maintenance
    "intent": Intent.ACTIVE,
    "maintenance_reason": None,
    "maintenance_by": None,
    "maintenance_since": None,
    "maintenance_until": None,
    "maintenance_drain": None,
}
DEFAULT_MAX_PODS = 110  # what a kubelet takes
CHUNK = 1000  # ids in one IN (…): SQLite and PostgreSQL both bound the number of parameters
MANY = 10_000  # rows in one parameter
TOLD: dict[str, Any] = {  # what tells one transition of a batch from another
    "worker_id": Uuid,
    "from_status": String,
    "to_status": String,
    "reason": String,
    "evidence": db.Json,
}
Item = TypeVar("Item")
heard_at = case(
    (Heartbeat.received_at > Worker.registered_at, Heartbeat.received_at), else_=Worker.registered_at
)


class Tally(NamedTuple):
    """The sums over the workers of one status."""

    status: Status
    workers: int
    cpu_cores: int
    memory_bytes: int
    storage_bytes: int
    cpu_used: float
    memory_used: float
    storage_used: float
    pods: int
    pod_capacity: int


# ---- reading


def moment(session: Session, now: datetime, rules: Rules) -> Moment:
    """Return what statuses depend on now: the monitor's grace, and when K3s was last heard."""
    watching = session.execute(select(Watch.grace_until, Watch.nodes_seen_at)).first()
    return Moment(now, rules) if watching is None else Moment(now, rules, *watching)


def watch(session: Session) -> Watch | None:
    """Return what the monitor knows of itself; None before it ever ran."""
    return session.get(Watch, 1)


def worker(session: Session, worker_id: UUID) -> Worker | None:
    """Return the worker with its heartbeat, removed ones too; None when there never was one."""
    return session.scalar(_with_heartbeat(select(Worker)).where(Worker.id == worker_id))


def locked(session: Session, worker_id: UUID) -> Worker | None:
    """Return the worker, and keep others from changing it until the transaction ends."""
    query = _with_heartbeat(select(Worker)).where(Worker.id == worker_id)
    return session.scalar(query.with_for_update(of=Worker))


def transitions(
    session: Session, worker_id: UUID, limit: int, *, before: int | None = None
) -> Sequence[Transition]:
    """Return the worker's last `limit` changes of status, the newest first; only those before an id, if given."""
    query = select(Transition).where(Transition.worker_id == worker_id).order_by(Transition.id.desc())
    if before is not None:
        query = query.where(Transition.id < before)
    return session.scalars(query.limit(limit)).all()


def tallies(session: Session, at: Moment) -> list[Tally]:
    """Return sums over the standing workers, one row a status that occurs, in one query."""
    status = derived_status(at).label("status")
    heard = status != Status.INACTIVE.value
    own = Heartbeat.current_pods
    current_pods = func.coalesce(Worker.node_pods, own) if at.knows_nodes else own
    by_k3s = (Worker.node_pod_capacity,) if at.knows_nodes else ()
    pod_capacity = (*by_k3s, Worker.max_pods, DEFAULT_MAX_PODS)

    def used(share: Any, of: Any) -> Any:
        return func.coalesce(func.sum(case((heard, share * of / 100.0))), 0.0)

    query = (
        select(
            status,
            func.count(),
            func.coalesce(func.sum(Worker.cpu_cores), 0),
            func.coalesce(func.sum(Worker.total_memory_bytes), 0),
            func.coalesce(func.sum(Worker.total_storage_bytes), 0),
            used(Heartbeat.cpu_usage, Worker.cpu_cores),
            used(Heartbeat.memory_usage, Worker.total_memory_bytes),
            used(Heartbeat.disk_usage, Worker.total_storage_bytes),
            func.coalesce(func.sum(case((heard, current_pods))), 0),
            func.sum(func.coalesce(*pod_capacity)),
        )
        .select_from(Worker)
        .join(Heartbeat)
        .where(STANDING)
        .group_by(status)
    )
    return [_tally(row) for row in session.execute(query)]


def derived_status(at: Moment) -> ColumnElement[str]:
    """Return lifecycle's status as an expression, for filters and sets; a test holds the two equal."""
    return case(
        (Worker.intent == Intent.MAINTENANCE, Status.MAINTENANCE.value),
        *_conditions(at),
        else_=Status.NOT_READY.value,
    )


def derived_health(at: Moment) -> ColumnElement[str]:
    """Return lifecycle's health in the same way: the status but for an operator's maintenance."""
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


# ---- registering


class Enrolled(NamedTuple):
    """A worker as `enrol` has stored it. let_in_by: the enrolment token that it came with before, if it is known."""

    worker_id: UUID
    epoch: int
    let_in_by: UUID | None


def enrol(session: Session, values: Mapping[str, Any], *, key: str) -> Enrolled | None:
    """Insert the worker, or renew the one that `key` already names, in one statement.

    values: every column of a new worker. key: `machine_id`, or `hostname` for a worker without a machine id.
    Returns None when `key` is the hostname of a worker with a machine id.
    Raises Taken.
    """
    if key == "machine_id":
        _adopt(session, values["hostname"], values["machine_id"])
    statement = db.insert(session, Worker).values(**values)
    kept = {"id", "name", "status", "intent", "epoch", "labels", "created_at", "node_state", "join_token_id"}
    kept |= {"enrolment_token_id"}
    renewed = {column: statement.excluded[column] for column in values if column not in kept}
    renewed["name"] = case((Worker.name == Worker.hostname, statement.excluded.name), else_=Worker.name)
    statement = statement.on_conflict_do_update(
        index_elements=[key],
        index_where=STANDING,
        set_={**renewed, "epoch": Worker.epoch + 1},  # the credential that was out there dies
        where=None if key == "machine_id" else Worker.machine_id.is_(None),
    )
    statement = statement.returning(Worker.id, Worker.epoch, Worker.enrolment_token_id)
    try:
        row = _insert(session, statement)
    except Taken:
        # PostgreSQL looks at `key` first and at the other index later: a simultaneous registration of this very
        # machine may have come in between. Once that is committed, the same statement finds it.
        row = _insert(session, statement)
    return None if row is None else Enrolled(*row)


def let_in_by(session: Session, worker_id: UUID, token_id: UUID | None) -> None:
    """Write which enrolment token has let the worker in; None is the settings' own."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(enrolment_token_id=token_id))


def free_silent_hostname(session: Session, hostname: str, machine_id: str | None, at: Moment) -> UUID | None:
    """Remove the worker of this hostname if it is INACTIVE, and return its id.

    The row is locked with its heartbeat, so that a heartbeat that is being stored still saves the worker; and
    with the row of the machine that wants the hostname, in the order in which everybody locks.
    """
    both = (
        select(Worker.id, Worker.hostname, derived_status(at))
        .join(Heartbeat)
        .where(STANDING, or_(Worker.hostname == hostname, Worker.machine_id == machine_id))
        .order_by(Worker.id)
        .with_for_update(of=[Worker, Heartbeat])
    )
    for worker_id, name, status in session.execute(both).all():
        if name == hostname and status == Status.INACTIVE.value:
            record_changes(session, at, actor="worker", only=[worker_id])  # its silence, if nobody has yet
            remove(session, worker_id, actor="worker", because="replaced by another machine", now=at.now)
            return UUID(str(worker_id))
    return None


def remove(session: Session, worker_id: UUID, *, actor: str, because: str, now: datetime) -> None:
    """Mark the worker as removed, which frees its names and revokes its credential; its history stays, and ends.

    Its node goes too, once its machine is off: K3s would refuse the next machine of that name.
    """
    stale_store.doubt_node(session, worker_id, now)
    was = session.scalar(select(Worker.status).where(Worker.id == worker_id))
    gone = {"removed_at": now, "updated_at": now, "epoch": Worker.epoch + 1, "status": Status.INACTIVE}
    session.execute(update(Worker).where(Worker.id == worker_id).values(**AT_WORK, **gone))
    session.execute(delete(StatusIndex).where(StatusIndex.worker_id == worker_id))
    history_store.record_removal(session, worker_id, was, reason=because, actor=actor, now=now)


def approve(session: Session, worker_id: UUID, now: datetime) -> bool:
    """Approve the worker; say whether that changed anything."""
    row = session.execute(
        update(Worker)
        .where(Worker.id == worker_id, STANDING, ~Worker.approved)
        .values(approved=True, updated_at=now)
        .returning(Worker.id)
    ).first()
    return row is not None


def raise_epoch(session: Session, worker_id: UUID, now: datetime) -> int | None:
    """Revoke the worker's credential and return the epoch of the next one; None when there is no such worker.

    A worker that is only expected has no credential that could die, and stays expected.
    """
    return session.scalar(
        update(Worker)
        .where(Worker.id == worker_id, STANDING)
        .values(epoch=case((Worker.epoch == 0, 0), else_=Worker.epoch + 1), updated_at=now)
        .returning(Worker.epoch)
    )


def _adopt(session: Session, hostname: str, machine_id: str) -> None:
    """Let the machine be the worker that operators expect under its hostname, unless it is a worker already."""
    other = aliased(Worker)
    known = select(other.id).where(other.removed_at.is_(None), other.machine_id == machine_id)
    expected = (Worker.hostname == hostname, Worker.machine_id.is_(None), Worker.epoch == 0)
    session.execute(
        update(Worker)
        .where(STANDING, *expected, ~known.exists())
        .values(machine_id=machine_id)
        .execution_options(synchronize_session=False)
    )


def _insert(session: Session, statement: Any) -> Any:
    with session.begin_nested(), unique():  # a refusal costs the savepoint, not the transaction
        return session.execute(statement).first()


def renew(session: Session, worker_id: UUID, values: Mapping[str, Any]) -> None:
    """Write what a known worker says of itself; a name that nobody chose follows the hostname. Raises Taken."""
    name = case((Worker.name == Worker.hostname, values["hostname"]), else_=Worker.name)
    with unique():
        session.execute(update(Worker).where(Worker.id == worker_id).values(**values, name=name))


class Taken(Exception):  # noqa: N818 - an answer that unwinds the transaction, not a fault
    """A unique value belongs to another worker; `column` says which."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


@contextmanager
def unique() -> Iterator[None]:
    """Turn the database's refusal of a second hostname, name or machine id into Taken."""
    try:
        yield
    except IntegrityError as exc:
        text = str(exc.orig)
        for column in ("hostname", "name", "machine_id"):
            if f"uq_workers_{column}" in text or f"workers.{column}" in text:
                raise Taken(column) from None
        raise


def begin_life(session: Session, worker_id: UUID, boot_id: UUID | None) -> None:
    """Store that the worker has registered: not ready until it says so, and its heartbeats count anew."""
    fresh: dict[str, Any] = {
        "boot_id": boot_id,
        "previous_boot_id": None,
        "seq": 0,
        "node_ready": False,
        "joined_at": None,
        "left_at": None,
        "left_reason": None,
    }
    statement = db.insert(session, Heartbeat).values(worker_id=worker_id, **fresh)
    session.execute(statement.on_conflict_do_update(index_elements=["worker_id"], set_=fresh))
    index_statuses(session, [worker_id])


def leave(session: Session, worker_id: UUID, reason: str, now: datetime) -> None:
    """Store that the worker said goodbye."""
    session.execute(
        update(Heartbeat).where(Heartbeat.worker_id == worker_id).values(left_at=now, left_reason=reason)
    )


def note_join_error(session: Session, worker_id: UUID, sentence: str) -> None:
    """Write why the worker has not joined; its next registration, or a node that is ready, wipes it out."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(join_error=sentence))


# ---- recording


def record_first(
    session: Session, worker_id: UUID, *, approved: bool, actor: str, evidence: dict[str, Any], now: datetime
) -> None:
    """Write the transition with which a worker becomes known; one that was expected has it already."""
    if session.scalar(select(Transition.id).where(Transition.worker_id == worker_id).limit(1)) is not None:
        return
    db.announce(session)
    session.add(
        Transition(
            worker_id=worker_id,
            from_status=None,
            to_status=Status.PENDING,
            reason=lifecycle.why_first(approved),
            actor=actor,
            evidence=evidence,
            at=now,
        )
    )


def record_changes(
    session: Session,
    at: Moment,
    *,
    actor: str,
    only: Sequence[UUID] | None = None,
    because: str | None = None,
) -> list[dict[str, Any]]:
    """Record every status that has changed, each with its transition; return the transitions.

    This is the one way a status is ever written. The rows are locked in the order of their ids, with their
    heartbeats, so that a heartbeat that is being stored is waited for and not overruled.
    only: look at these workers alone; None looks at all.
    because: the reason of these changes, when somebody has one; else the signals of the machine tell it.
    """
    changes: list[dict[str, Any]] = []
    for ids in [None] if only is None else chunks(sorted(only)):
        changes += [_transition(row, at, actor) for row in session.execute(_due(at, ids))]
    for change in changes:
        change["reason"] = because or change["reason"]
    if changes:
        db.announce(session)
    for chunk in chunks(changes, MANY):
        _write_statuses(session, chunk, at.now)
        _write_transitions(session, chunk, actor, at.now)
    return changes


def index_statuses(session: Session, ids: Sequence[UUID]) -> None:
    """Bring the hand-made index of recorded statuses up to date for these workers."""
    these = Worker.id.in_(db.members(session, ids))
    rows = select(Worker.id, Worker.hostname, Worker.status).where(STANDING, these)
    statement = db.insert(session, StatusIndex).from_select(["worker_id", "hostname", "status"], rows)
    new = {name: statement.excluded[name] for name in ("hostname", "status")}
    session.execute(statement.on_conflict_do_update(index_elements=["worker_id"], set_=new))


# ---- inside


def _with_heartbeat(query: Select[Worker]) -> Select[Worker]:
    return query.join(Worker.heartbeat).options(contains_eager(Worker.heartbeat))


def _due(at: Moment, ids: Sequence[UUID] | None) -> Executable:
    new = derived_status(at)
    query = (
        select(
            Worker.id,
            Worker.status,
            new,
            Worker.approved,
            Worker.registered_at,
            Heartbeat.received_at,
            Heartbeat.node_ready,
            Worker.node_state,
            Heartbeat.left_at,
            Heartbeat.left_reason,
        )
        .join(Heartbeat)
        .where(STANDING, new != type_coerce(Worker.status, String))
        .order_by(Worker.id)
        .with_for_update(of=[Worker, Heartbeat])
    )
    return query if ids is None else query.where(Worker.id.in_(ids))


def _transition(row: Any, at: Moment, actor: str) -> dict[str, Any]:
    worker_id, old, new, approved, registered_at, received_at, node_ready, node, left_at, left_reason = row
    silence = at.now - lifecycle.last_heard(registered_at, received_at)
    to = Status(new)
    return {
        "worker_id": worker_id,
        "from_status": old,
        "to_status": to,
        "reason": lifecycle.why(
            to,
            left_reason=None if left_at is None else left_reason or "",
            silence=silence,
            approved=approved,
            node_ready=node_ready,
            node=node,
            at=at,
        ),
        "actor": actor,
        "evidence": {
            "lastHeartbeat": received_at.isoformat() if received_at else None,
            "silenceSeconds": round(silence.total_seconds(), 3),
            "nodeReady": node_ready,
            "nodeState": node if at.knows_nodes else None,
            "nodesSeenAt": at.nodes_seen_at.isoformat() if at.nodes_seen_at else None,
        },
        "at": at.now,
    }


def _write_statuses(session: Session, changes: Sequence[dict[str, Any]], now: datetime) -> None:
    """Write the new statuses, and into the index of statuses, in which every standing worker has its row."""
    groups: dict[tuple[Status, Status], list[UUID]] = {}
    for change in changes:
        groups.setdefault((change["from_status"], change["to_status"]), []).append(change["worker_id"])
    for (old, new), ids in groups.items():
        these = db.members(session, ids)
        for statement in (
            update(Worker)
            .where(Worker.id.in_(these), Worker.status == old)
            .values(status=new, updated_at=now),
            update(StatusIndex).where(StatusIndex.worker_id.in_(these)).values(status=new),
        ):
            session.execute(statement.execution_options(synchronize_session=False))


def _write_transitions(
    session: Session, changes: Sequence[dict[str, Any]], actor: str, now: datetime
) -> None:
    """Write transitions, all in one statement: one by one they take longer than everything else of a change."""
    told = ((change["worker_id"].hex, *(change[name] for name in list(TOLD)[1:])) for change in changes)
    rows = db.table(session, told, TOLD)
    values = select(*rows.c, literal(actor), literal(now, db.UtcDateTime))
    session.execute(insert(Transition).from_select([*TOLD, "actor", "at"], values))


def _tally(row: Any) -> Tally:
    status, workers, cores, memory, storage, cpu_used, memory_used, storage_used, pods, pod_capacity = row
    return Tally(
        Status(status),
        workers,
        int(cores),
        int(memory),
        int(storage),
        float(cpu_used),
        float(memory_used),
        float(storage_used),
        int(pods),
        int(pod_capacity),
    )


def chunks(items: Sequence[Item], size: int = CHUNK) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
