"""Registering and leaving: who is let in as which worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

from control_api.cluster import stale_store
from control_api.enrolment import admission
from control_api.enrolment.admission import Bootstrap, Grant
from control_api.errors import (
    HostnameTaken,
    InvalidCredential,
    MachineIdTaken,
    NameTaken,
    WorkerNotFound,
    WorkerRemoved,
)
from control_api.workers import store
from control_api.workers.credentials import Claim, Credentials
from control_api.workers.lifecycle import Intent, Moment, Status
from control_api.workers.models import Worker
from control_api.workers.store import Enrolled
from control_api.workers.wire import Registration

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session  # opaque here: the queries are in store

TAKEN = {"hostname": HostnameTaken, "name": NameTaken, "machine_id": MachineIdTaken}


class Doors(NamedTuple):
    """What lets a machine in: the bootstrap token and the credentials of registered workers."""

    bootstrap: Bootstrap
    credentials: Credentials


class Entry(NamedTuple):
    """The outcome of a registration.

    grant: what the enrolment token allowed; None when the machine came with its credential.
    replaced: the silent worker that was removed because this machine has its hostname.
    """

    worker: Worker
    credential: str
    is_restart: bool
    grant: Grant | None = None
    replaced: UUID | None = None


class Stored(NamedTuple):
    """A worker whose facts are stored."""

    worker_id: UUID
    epoch: int
    is_restart: bool
    replaced: UUID | None = None


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

    bearer: what came in the Authorization header, a credential or a token; it wins over the token in the body.
    peer: the address that the request came from; it is noted beside the claimed one.
    Raises InvalidCredential, InvalidRegistrationToken, HostnameTaken, MachineIdTaken.
    """
    claim = doors.credentials.check(bearer) if bearer else None
    known = _holder(session, claim) if claim else None
    try:
        if known is not None:
            grant, stored = None, _renew(session, known, request, peer, at)
        else:
            token = _token(request, bearer, claim)
            grant = admission.admit(
                session,
                doors.bootstrap,
                token,
                machine_id=request.machine_id,
                hostname=request.hostname,
                peer=peer,
                now=at.now,
            )
            stored = _enrol(session, request, grant, peer, at)
            stale_store.doubt_unless_heard(session, stored.worker_id, request.boot_id, at)
    except store.Taken as taken:
        raise TAKEN[taken.column] from None
    store.begin_life(session, stored.worker_id, request.boot_id)
    if grant is not None and not stored.is_restart:
        _record_first(session, stored, request, grant, peer, at)
    store.record_changes(session, at, actor="worker", only=[stored.worker_id])
    credential = doors.credentials.issue(stored.worker_id, stored.epoch)
    worker = _fresh(session, stored.worker_id)
    return Entry(worker, credential, stored.is_restart, grant, stored.replaced)


def leave(session: Session, claim: Claim, reason: str | None, at: Moment) -> tuple[Worker, bool]:
    """Store that the worker says goodbye; return it, and whether that is news. Raises as `authentic` does."""
    before = authentic(session, claim).heartbeat
    is_news = before.left_at is None or before.left_reason != (reason or "")
    store.leave(session, claim.worker_id, reason or "", at.now)
    store.record_changes(session, at, actor="worker", only=[claim.worker_id])
    return _fresh(session, claim.worker_id), is_news


def note_join_error(session: Session, claim: Claim, sentence: str) -> bool:
    """Store why the worker has not joined the cluster; say whether that is news. Raises as `authentic` does."""
    if authentic(session, claim).join_error == sentence:
        return False
    store.note_join_error(session, claim.worker_id, sentence)
    return True


def rotate(session: Session, credentials: Credentials, claim: Claim, worker_id: UUID, now: datetime) -> str:
    """Return a new credential for this worker, which shows its own; that one dies. Raises as `authentic` does."""
    if claim.worker_id != worker_id:
        raise InvalidCredential
    authentic(session, claim)
    return credentials.issue(worker_id, revoke(session, worker_id, now))


def revoke(session: Session, worker_id: UUID, now: datetime) -> int:
    """Let the worker's credential die; return the epoch of the next one. Raises WorkerNotFound."""
    epoch = store.raise_epoch(session, worker_id, now)
    if epoch is None:
        raise WorkerNotFound
    return epoch


def approve(session: Session, worker_id: UUID, at: Moment, actor: str) -> tuple[Worker, bool]:
    """Approve the worker; return it, and whether that changed anything. Raises WorkerNotFound."""
    changed = store.approve(session, worker_id, at.now)
    store.record_changes(session, at, actor=actor, only=[worker_id])
    worker = _fresh(session, worker_id)
    if worker.removed_at is not None:
        raise WorkerNotFound
    return worker, changed


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


def _token(request: Registration, bearer: str | None, claim: Claim | None) -> str:
    """Return the one token that counts: the header's; the body's where the header has none or a dead credential."""
    in_body = request.registration_token.get_secret_value() if request.registration_token else None
    if claim is not None and in_body is None:
        raise InvalidCredential
    return (in_body or "") if claim is not None or bearer is None else bearer


def _renew(session: Session, worker: Worker, request: Registration, peer: str | None, at: Moment) -> Stored:
    values = {
        **request.facts(),
        "machine_id": request.machine_id or worker.machine_id,
        "observed_address": peer,
        "registered_at": at.now,
        "updated_at": at.now,
    }
    store.renew(session, worker.id, values)
    return Stored(worker.id, worker.epoch, is_restart=True)


def _enrol(session: Session, request: Registration, grant: Grant, peer: str | None, at: Moment) -> Stored:
    wanted = _wanted(request, grant, peer, at)
    enrolled, replaced = _place(session, wanted, grant, at)
    was_there = enrolled.worker_id != wanted["id"]
    is_new_here = not was_there or enrolled.let_in_by != grant.token_id
    if is_new_here and was_there:
        store.let_in_by(session, enrolled.worker_id, grant.token_id)
    admission.count(session, grant, is_new=is_new_here, now=at.now)
    is_restart = enrolled.epoch > 1  # whoever was expected has epoch 0, and now its first credential
    return Stored(enrolled.worker_id, enrolled.epoch, is_restart, replaced)


def _wanted(request: Registration, grant: Grant, peer: str | None, at: Moment) -> dict[str, Any]:
    return {
        **request.facts(),
        "id": uuid4(),
        "name": request.hostname,
        "machine_id": request.machine_id,
        "observed_address": peer,
        "status": Status.PENDING,
        "intent": Intent.ACTIVE,
        "approved": not grant.approval_required,
        "enrolment_token_id": grant.token_id,
        "epoch": 1,
        "labels": grant.labels,
        "created_at": at.now,
        "registered_at": at.now,
        "updated_at": at.now,
    }


def _place(
    session: Session, wanted: dict[str, Any], grant: Grant, at: Moment
) -> tuple[Enrolled, UUID | None]:
    """Store the machine; return its worker, and the silent one that had to leave its hostname to it."""
    hostname, machine_id, replaced = wanted["hostname"], wanted["machine_id"], None
    key = "machine_id" if machine_id else "hostname"
    try:
        enrolled = store.enrol(session, wanted, key=key)
    except store.Taken as taken:
        if taken.column == "machine_id" or not grant.may_replace:
            raise
        replaced = store.free_silent_hostname(session, hostname, machine_id, at)
        enrolled = store.enrol(session, wanted, key=key)
    if enrolled is None:
        raise HostnameTaken
    return enrolled, replaced


def _record_first(
    session: Session, stored: Stored, request: Registration, grant: Grant, peer: str | None, at: Moment
) -> None:
    evidence = {
        "ipAddress": request.ip_address,
        "observedAddress": peer,
        "admittedBy": grant.name,
        **({"replaces": str(stored.replaced)} if stored.replaced else {}),
    }
    approved = not grant.approval_required
    store.record_first(
        session, stored.worker_id, approved=approved, actor="worker", evidence=evidence, now=at.now
    )


def _fresh(session: Session, worker_id: UUID) -> Worker:
    session.expire_all()
    worker = store.worker(session, worker_id)
    if worker is None:
        raise WorkerNotFound
    return worker
