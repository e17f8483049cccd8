"""Every query and every write on the workers' tables, but for the batches of heartbeats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import (
    FromClause,
    Select,
    String,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased, contains_eager

from control_api import db
from control_api.cluster import stale_store
from control_api.workers import history_store, lifecycle, lifecycle_store
from control_api.workers.lifecycle import Intent, Moment, Rules, Status
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
Item = TypeVar("Item")


class Change(NamedTuple):
    """A change of status that was recorded of so many workers; `examples` are some of them."""

    from_status: Status
    to_status: Status
    workers: int
    examples: Sequence[UUID]


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
    status = lifecycle_store.status(at).label("status")
    own = Heartbeat.current_pods
    current_pods = func.coalesce(Worker.node_pods, own) if at.knows_nodes else own
    by_k3s = (Worker.node_pod_capacity,) if at.knows_nodes else ()
    pod_capacity = (*by_k3s, Worker.max_pods, DEFAULT_MAX_PODS)

    def used(share: Any, of: Any) -> Any:
        return func.coalesce(func.sum(share * of / 100.0), 0.0)

    query = (
        select(
            status,
            func.count(),
            func.coalesce(func.sum(Worker.cpu_cores), 0),
            func.coalesce(func.sum(Worker.total_memory_bytes), 0),
            func.coalesce(func.sum(Worker.total_storage_bytes), 0),
            func.sum(func.coalesce(*pod_capacity)),
            used(Heartbeat.cpu_usage, Worker.cpu_cores),
            used(Heartbeat.memory_usage, Worker.total_memory_bytes),
            used(Heartbeat.disk_usage, Worker.total_storage_bytes),
            func.coalesce(func.sum(current_pods), 0),
        )
        .select_from(Worker)
        .join(Heartbeat)
        .where(STANDING)
        .group_by(status)
    )
    return [_tally(*row) for row in session.execute(query)]


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
        select(Worker.id, Worker.hostname, lifecycle_store.status(at))
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
    many: bool = False,
) -> list[Change]:
    """Record every status that has changed, each with its transition; return what has changed.

    This is the one way a status is ever written. The rows are locked in the order of their ids, with their
    heartbeats, so that a heartbeat that is being stored is waited for and not overruled.
    only: look at these workers alone; None looks at all.
    because: the reason of these changes, when somebody has one; else the signals of the machine tell it.
    many: whether thousands have changed. The answer is the same; the way to it is another.
    """
    changes: list[Change] = []
    if many:
        db.keep_in_memory(session)
    for ids in [None] if only is None else chunks(sorted(only)):
        due = _due(session, at, ids, many=many)
        writes = partial(_writes, session, at, actor, because)
        found = db.write_together(
            session, due, writes, kinds=("from_status", "to_status"), example="worker_id"
        )
        changes += [Change(Status(old), Status(new), *those) for old, new, *those in found]
    if changes:
        db.announce(session)
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


def _due(session: Session, at: Moment, ids: Sequence[UUID] | None, *, many: bool) -> Select[Any]:
    """Return the workers whose status has changed, with what it was, what it is and what that rests on.

    PostgreSQL thinks that a value differs from another one in nearly every row, and would walk along both tables in
    the order of their ids. Of a number that is the right one it thinks the contrary.
    """
    new, recorded = lifecycle_store.status(at), type_coerce(Worker.status, String)
    changed = new != recorded if many else case((new == recorded, 0), else_=1) == 1
    place = db.place(session, Worker.__tablename__).label("place")
    named = (Worker.id.label("worker_id"), Worker.hostname, place, recorded.label("from_status"))
    query = (
        select(*named, *lifecycle_store.seen(at))
        .join(Heartbeat)
        .where(STANDING, changed)
        .order_by(Worker.id)
        .with_for_update(of=[Worker, Heartbeat])
    )
    return query if ids is None else query.where(Worker.id.in_(ids))


def _writes(session: Session, at: Moment, actor: str, because: str | None, due: FromClause) -> Sequence[Any]:
    """Write the new statuses, and into the index of statuses, in which every standing worker has its row.

    Workers page by page, and the index of statuses in the order of its own index: it grows at one end then.
    """
    reason = lifecycle_store.reason(session, at, due) if because is None else literal(because, String)
    transition = {
        "worker_id": due.c.worker_id,
        "from_status": due.c.from_status,
        "to_status": due.c.to_status,
        "reason": reason,
        "evidence": lifecycle_store.evidence(session, at, due),
        "actor": literal(actor, String),
        "at": literal(at.now, db.UtcDateTime),
    }
    new = select(due.c.worker_id, type_coerce(due.c.to_status, Worker.status.type).label("status"))
    placed, indexed = new.order_by(due.c.place).subquery(), new.order_by(due.c.hostname).subquery()
    return (
        update(Worker)
        .where(Worker.id == placed.c.worker_id)
        .values(status=placed.c.status, updated_at=at.now),
        update(StatusIndex)
        .where(StatusIndex.worker_id == indexed.c.worker_id)
        .values(status=indexed.c.status),
        insert(Transition).from_select([*transition], select(*transition.values())),
    )


def _tally(status: str, *sums: Any) -> Tally:
    """Return the sums; what a worker that is not heard said it uses is not in use."""
    workers, cores, memory, storage, pod_capacity, *used = sums
    cpu_used, memory_used, storage_used, pods = used if status != Status.INACTIVE.value else (0, 0, 0, 0)
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
