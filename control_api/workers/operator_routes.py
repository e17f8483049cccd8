"""What operators do with workers over HTTP: parse, call, answer."""

from __future__ import annotations

from uuid import UUID

import structlog
from fastapi import APIRouter

from control_api.envelope import Success
from control_api.errors import HostnameTaken, NameTaken, WorkerNotFound
from control_api.http import Admin, Now, Operator, Peer, Wired, answers, success
from control_api.workers import operations, store, wire
from control_api.workers.operator_wire import Change, Creation, Rest

log = structlog.get_logger()
router = APIRouter(prefix="/api", tags=["workers"])


@router.post("/workers", status_code=201, responses=answers(HostnameTaken, NameTaken))
def create(
    request: Creation, caller: Admin, service: Wired, now: Now, peer: Peer
) -> Success[wire.WorkerView]:
    """Expect a machine: the first that registers under this hostname, and is no worker yet, becomes this worker."""
    with service.database.transaction() as session:
        at = store.moment(session, now, service.settings.rules)
        worker = operations.create(session, request, actor=caller.actor, peer=peer, at=at)
    log.info("worker created", worker=str(worker.id), hostname=worker.hostname, actor=caller.actor)
    return success("Worker created", wire.view(worker, at))


@router.patch("/workers/{worker_id}", responses=answers(WorkerNotFound, NameTaken))
def change(
    worker_id: UUID, request: Change, caller: Admin, service: Wired, now: Now, peer: Peer
) -> Success[wire.WorkerView]:
    """Change what an operator decides of a worker; fields that are not given stay as they are."""
    with service.database.transaction() as session:
        at = store.moment(session, now, service.settings.rules)
        worker = operations.change(session, worker_id, request, actor=caller.actor, peer=peer, at=at)
    return success("Worker changed", wire.view(worker, at))


@router.delete("/workers/{worker_id}", responses=answers(WorkerNotFound))
def remove(worker_id: UUID, caller: Admin, service: Wired, now: Now, peer: Peer) -> Success[wire.Removed]:
    """Take a worker off the roll-call: its credential is revoked, its names are free; its history stays."""
    with service.database.transaction() as session:
        at = store.moment(session, now, service.settings.rules)
        worker = operations.remove(session, worker_id, actor=caller.actor, peer=peer, at=at)
    log.info("worker removed", worker=str(worker_id), hostname=worker.hostname, actor=caller.actor)
    return success("Worker removed", wire.Removed(id=worker_id, hostname=worker.hostname, removed_at=now))


@router.post("/workers/{worker_id}/maintenance", responses=answers(WorkerNotFound))
def rest(
    worker_id: UUID, request: Rest, caller: Operator, service: Wired, now: Now, peer: Peer
) -> Success[wire.WorkerView]:
    """Put a worker into maintenance; again, to change the reason, the end or the wish to drain."""
    with service.database.transaction() as session:
        at = store.moment(session, now, service.settings.rules)
        worker = operations.rest(session, worker_id, request, actor=caller.actor, peer=peer, at=at)
    return success("Worker is in maintenance", wire.view(worker, at))


@router.delete("/workers/{worker_id}/maintenance", responses=answers(WorkerNotFound))
def resume(
    worker_id: UUID, caller: Operator, service: Wired, now: Now, peer: Peer
) -> Success[wire.WorkerView]:
    """End a worker's maintenance; its status is again what the machine's signals say."""
    with service.database.transaction() as session:
        at = store.moment(session, now, service.settings.rules)
        worker = operations.resume(session, worker_id, actor=caller.actor, peer=peer, at=at)
    return success("Worker is not in maintenance", wire.view(worker, at))
