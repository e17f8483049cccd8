"""Registering and leaving: who is let in as which worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID, uuid4

from control_api.enrolment.bootstrap import Bootstrap
from control_api.errors import (
    HostnameTaken,
    InvalidCredential,
    InvalidRegistrationToken,
    MachineIdTaken,
    NameTaken,
    WorkerNotFound,
    WorkerRemoved,
)
from control_api.workers import store
from control_api.workers.credentials import Claim, Credentials
from control_api.workers.lifecycle import Intent, Moment, Status
from control_api.workers.models import Worker
from control_api.workers.wire import Registration

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # opaque here: the queries are in store

TAKEN = {"hostname": HostnameTaken, "name": NameTaken, "machine_id": MachineIdTaken}


class Doors(NamedTuple):
    """What lets a machine in: the bootstrap token and the credentials of registered workers."""

    bootstrap: Bootstrap
    credentials: Credentials


class Entry(NamedTuple):
    """The outcome of a registration."""

    worker: Worker
    credential: str
    is_restart: bool


def register(
    session: Session,
    doors: Doors,
    request: Registration,
    *,
    bearer: str | None,
    peer: str | None,
    at: Moment,
) -> Entry:
    """Register the machine and return its worker.

    bearer: what came in the Authorization header, a credential or a token; else the token in the body counts.
    peer: the address that the request came from; it is noted beside the claimed one.
    Raises InvalidCredential, InvalidRegistrationToken, HostnameTaken, MachineIdTaken.
    """
    claim = doors.credentials.check(bearer) if bearer else None
    known = _holder(session, claim) if claim else None
    try:
        if known is not None:
            worker_id, epoch, is_restart = _renew(session, known, request, peer, at), known.epoch, True
        else:
            _admit(doors, bearer, claim, request)
            worker_id, epoch, is_restart = _enrol(session, request, peer, at)
    except store.Taken as taken:
        raise TAKEN[taken.column] from None
    store.begin_life(session, worker_id, request.boot_id)
    if not is_restart:
        evidence = {"ipAddress": request.ip_address, "observedAddress": peer}
        store.record_first(session, worker_id, approved=True, actor="worker", evidence=evidence, now=at.now)
    store.record_changes(session, at, actor="worker", only=[worker_id])
    return Entry(_fresh(session, worker_id), doors.credentials.issue(worker_id, epoch), is_restart)


def leave(session: Session, claim: Claim, reason: str | None, at: Moment) -> Worker:
    """Store that the worker says goodbye; return it as it is now. Raises as `authentic` does."""
    authentic(session, claim)
    store.leave(session, claim.worker_id, reason or "", at.now)
    store.record_changes(session, at, actor="worker", only=[claim.worker_id])
    return _fresh(session, claim.worker_id)


def authentic(session: Session, claim: Claim) -> Worker:
    """Return the worker whose credential this is. Raises WorkerNotFound, WorkerRemoved, InvalidCredential."""
    worker = store.locked(session, claim.worker_id)
    if worker is None:
        raise WorkerNotFound
    if worker.removed_at is not None:
        raise WorkerRemoved
    if worker.epoch != claim.epoch:
        raise InvalidCredential
    return worker


def _holder(session: Session, claim: Claim) -> Worker | None:
    """Return the worker that the credential still stands for; None when it was revoked or removed."""
    worker = store.locked(session, claim.worker_id)
    stands = worker is not None and worker.removed_at is None and worker.epoch == claim.epoch
    return worker if stands else None


def _admit(doors: Doors, bearer: str | None, claim: Claim | None, request: Registration) -> None:
    """Let in whoever shows the token; a dead credential beside it does no harm, alone it is refused."""
    in_body = request.registration_token.get_secret_value() if request.registration_token else None
    if claim is not None and in_body is None:
        raise InvalidCredential
    for token in (bearer, in_body):
        if token is not None and (claim is None or token is not bearer):
            try:
                return doors.bootstrap.admit(token)
            except InvalidRegistrationToken:
                continue
    raise InvalidRegistrationToken


def _renew(session: Session, worker: Worker, request: Registration, peer: str | None, at: Moment) -> UUID:
    values = {
        **request.facts(),
        "machine_id": request.machine_id or worker.machine_id,
        "observed_address": peer,
        "registered_at": at.now,
        "updated_at": at.now,
    }
    store.renew(session, worker.id, values)
    return worker.id


def _enrol(session: Session, request: Registration, peer: str | None, at: Moment) -> tuple[UUID, int, bool]:
    proposed = uuid4()
    values = {
        **request.facts(),
        "id": proposed,
        "name": request.hostname,
        "machine_id": request.machine_id,
        "observed_address": peer,
        "status": Status.PENDING,
        "intent": Intent.ACTIVE,
        "epoch": 1,
        "labels": {},
        "created_at": at.now,
        "registered_at": at.now,
        "updated_at": at.now,
    }
    stored = store.enrol(session, values, key="machine_id" if request.machine_id else "hostname")
    if stored is None:
        raise HostnameTaken
    worker_id, epoch = stored
    return worker_id, epoch, worker_id != proposed


def _fresh(session: Session, worker_id: UUID) -> Worker:
    session.expire_all()
    worker = store.worker(session, worker_id)
    if worker is None:
        raise WorkerNotFound
    return worker
