"""What operators do with workers: create, change, remove, put into maintenance and back; each with its trail."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from control_api.errors import HostnameTaken, InvalidRequest, MachineIdTaken, NameTaken, WorkerNotFound
from control_api.events import audit
from control_api.workers import operator_store, store
from control_api.workers.lifecycle import Intent, Moment, Status
from control_api.workers.models import Worker
from control_api.workers.operator_wire import MAX_LABELS, Change, Creation, Rest

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # opaque here: the queries are in the stores

LONGEST_REST = timedelta(days=366)
TAKEN = {"hostname": HostnameTaken, "name": NameTaken, "machine_id": MachineIdTaken}


def create(session: Session, request: Creation, *, actor: str, peer: str | None, at: Moment) -> Worker:
    """Store a machine that is expected, and return its worker. Raises HostnameTaken, NameTaken.

    Its epoch is 0: no credential was ever made for it. It is PENDING, and INACTIVE when it does not come.
    """
    worker_id = uuid4()
    values = {
        **request.columns(),
        "id": worker_id,
        "status": Status.PENDING,
        "intent": Intent.ACTIVE,
        "approved": True,
        "epoch": 0,
        "cpu_cores": 0,
        "ssh_host_keys": [],
        "created_at": at.now,
        "registered_at": at.now,
        "updated_at": at.now,
    }
    try:
        operator_store.create(session, values)
    except store.Taken as taken:
        raise TAKEN[taken.column] from None
    store.record_first(session, worker_id, approved=True, actor=actor, evidence={}, now=at.now)
    details = request.model_dump(mode="json", by_alias=True, exclude_unset=True)
    _trail(session, "worker.create", worker_id, actor, peer, at, details)
    return _fresh(session, worker_id)


def change(
    session: Session, worker_id: UUID, request: Change, *, actor: str, peer: str | None, at: Moment
) -> Worker:
    """Change what an operator decides of a worker. Raises WorkerNotFound, NameTaken, InvalidRequest."""
    worker = _held(session, worker_id)
    labels = {**worker.labels, **request.labels}
    kept = {key: value for key, value in labels.items() if value is not None}
    if len(kept) > MAX_LABELS:
        raise InvalidRequest(details=(("labels", f"a worker has at most {MAX_LABELS} labels"),))
    wanted: dict[str, Any] = {**request.columns(), "labels": kept}
    new = {name: value for name, value in wanted.items() if getattr(worker, name) != value}
    if new:
        try:
            operator_store.change(session, worker_id, new, at.now)
        except store.Taken as taken:
            raise TAKEN[taken.column] from None
        details = request.model_dump(mode="json", by_alias=True, exclude_unset=True)
        _trail(session, "worker.update", worker_id, actor, peer, at, details)
    return _fresh(session, worker_id)


def remove(session: Session, worker_id: UUID, *, actor: str, peer: str | None, at: Moment) -> Worker:
    """Take a worker off the roll-call and return what it was. Raises WorkerNotFound.

    Its credential is worth nothing from now on, its hostname, name and machine id are free.
    """
    worker = _held(session, worker_id)
    store.remove(session, worker_id, actor=actor, because="removed by an operator", now=at.now)
    _trail(session, "worker.remove", worker_id, actor, peer, at, {"hostname": worker.hostname})
    return worker


def rest(
    session: Session, worker_id: UUID, request: Rest, *, actor: str, peer: str | None, at: Moment
) -> Worker:
    """Put a worker into maintenance, or renew what is known of it. Raises WorkerNotFound, InvalidRequest."""
    if request.until is not None and not at.now < request.until <= at.now + LONGEST_REST:
        raise InvalidRequest(details=(("until", "must lie in the future, at most 366 days ahead"),))
    worker = _held(session, worker_id)
    resting = worker.intent is Intent.MAINTENANCE
    values = {
        "intent": Intent.MAINTENANCE,
        "maintenance_reason": request.reason,
        "maintenance_by": actor,
        "maintenance_since": worker.maintenance_since if resting else at.now,
        "maintenance_until": request.until,
        "maintenance_drain": request.drain,
    }
    operator_store.change(session, worker_id, values, at.now)
    because = f"maintenance: {request.reason}"
    store.record_changes(session, at, actor=actor, only=[worker_id], because=because)
    details = request.model_dump(mode="json", by_alias=True)
    _trail(session, "worker.maintenance", worker_id, actor, peer, at, details)
    return _fresh(session, worker_id)


def resume(session: Session, worker_id: UUID, *, actor: str, peer: str | None, at: Moment) -> Worker:
    """End a worker's maintenance; without one nothing happens. Raises WorkerNotFound."""
    if _held(session, worker_id).intent is Intent.MAINTENANCE:
        operator_store.change(session, worker_id, store.AT_WORK, at.now)
        because = "an operator ended the maintenance"
        store.record_changes(session, at, actor=actor, only=[worker_id], because=because)
        _trail(session, "worker.resume", worker_id, actor, peer, at, {})
    return _fresh(session, worker_id)


def resume_those_due(session: Session, at: Moment) -> list[store.Change]:
    """End every maintenance whose time is up; return the changes."""
    ids = operator_store.end_maintenance(session, at.now)
    for worker_id in ids:
        _trail(session, "worker.resume", worker_id, "monitor", None, at, {"reason": "its time was up"})
    because = "the maintenance's time was up"
    return store.record_changes(session, at, actor="monitor", only=ids, because=because)


def _held(session: Session, worker_id: UUID) -> Worker:
    """Return the worker, locked until the transaction ends. Raises WorkerNotFound."""
    worker = store.locked(session, worker_id)
    if worker is None or worker.removed_at is not None:
        raise WorkerNotFound
    return worker


def _fresh(session: Session, worker_id: UUID) -> Worker:
    session.expire_all()
    worker = store.worker(session, worker_id)
    if worker is None:
        raise WorkerNotFound
    return worker


def _trail(
    session: Session,
    action: str,
    worker_id: UUID,
    actor: str,
    peer: str | None,
    at: Moment,
    details: dict[str, Any],
) -> None:
    audit.record(
        session,
        actor=actor,
        action=action,
        subject=f"worker:{worker_id}",
        peer=peer,
        details=details,
        now=at.now,
    )
