"""Letting machines in over HTTP: registering, approving, rotating a credential."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from fastapi import APIRouter, Request, Response

from control_api import errors, http
from control_api.cluster import joining
from control_api.cluster.joining import Handout
from control_api.envelope import Success
from control_api.errors import (
    Conflict,
    InvalidCredential,
    InvalidRegistrationToken,
    MusterError,
    TooManyAttempts,
    Unauthorized,
    WorkerNotFound,
    WorkerRemoved,
)
from control_api.events import audit
from control_api.http import BearerToken, Now, Operator, Peer, Wired, answers, answers_to_anyone, success
from control_api.service import Service
from control_api.workers import own, registry, store, wire
from control_api.workers.credentials import Claim
from control_api.workers.models import Worker
from control_api.workers.registry import Entry

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # opaque here: the queries are in store

NOT_APPROVED = "an operator must approve it before it gets a join token"
log = structlog.get_logger()
router = APIRouter(prefix="/api", tags=["workers"])


@router.post(
    "/workers/register",
    status_code=201,
    responses={
        200: {"model": Success[wire.Registered], "description": "The machine was known."},
        **answers_to_anyone(
            InvalidRegistrationToken, InvalidCredential, TooManyAttempts, *registry.TAKEN.values()
        ),
    },
    openapi_extra={"security": [{}]},  # or nothing in the header, but a token in the body
)
def register(
    *,
    request: wire.Registration,
    response: Response,
    token: BearerToken,
    service: Wired,
    now: Now,
    peer: Peer,
) -> Success[wire.Registered]:
    """Register a machine: 201 for a new worker, 200 for one that is known.

    It shows its credential or an enrolment token as bearer token; a token may also come in the body.
    """
    try:
        service.enrolments.check(peer)
        with service.database.transaction() as session:
            at = store.moment(session, now, service.settings.rules)
            entry = registry.register(session, service.doors, request, bearer=token, peer=peer, at=at)
            _note(session, entry, peer, now)
    except (Unauthorized, Conflict, TooManyAttempts) as exc:
        _refuse(service, request.hostname, exc, peer, now)
        raise
    worker, settings = entry.worker, service.settings
    log.info(
        "worker registered",
        worker=str(worker.id),
        hostname=worker.hostname,
        restart=entry.is_restart,
        approved=worker.approved,
        peer=peer,
    )
    handout = _hand_out(service, worker, peer, now)
    response.status_code = 200 if entry.is_restart else 201
    said = "Worker registered again" if entry.is_restart else "Worker registered successfully"
    return success(
        f"{said}; {handout.problem}." if handout.problem else said,
        wire.Registered(
            worker_id=worker.id,
            worker=wire.view(worker, at),
            is_restart=entry.is_restart,
            credential=entry.credential,
            join_token=handout.token,
            master_url=settings.master_url,
            heartbeat=wire.HeartbeatTarget(
                url=f"/api/workers/{worker.id}/heartbeat", interval_seconds=settings.heartbeat_seconds
            ),
        ),
    )


@router.put(
    "/workers/{worker_id}/join-error",
    responses=answers_to_anyone(InvalidCredential, WorkerNotFound, WorkerRemoved),
)
def join_error(
    worker_id: UUID, said: wire.JoinError, token: BearerToken, service: Wired, now: Now, peer: Peer
) -> Success[wire.JoinErrorNoted]:
    """Say why this worker has not joined the cluster, with its credential.

    The sentence stands beside the worker until it registers again, or its node is ready.
    """
    with (
        own.credential(service, token, worker_id, "worker.join_error", peer=peer, now=now) as claim,
        service.database.transaction() as session,
    ):
        is_news = registry.note_join_error(session, claim, said.join_error)
        if is_news:
            subject, details = f"worker:{worker_id}", {"joinError": said.join_error}
            audit.record(
                session,
                actor=subject,
                action="worker.join_error",
                subject=subject,
                peer=peer,
                details=details,
                now=now,
            )
    log.warning("worker has not joined", worker=str(worker_id), reason=said.join_error)
    return success("Noted", wire.JoinErrorNoted(join_error=said.join_error))


@router.post("/workers/{worker_id}/approve", responses=answers(WorkerNotFound))
def approve(
    worker_id: UUID, caller: Operator, service: Wired, now: Now, peer: Peer
) -> Success[wire.WorkerView]:
    """Approve a worker whose enrolment token asks for that; it gets its join token when it registers again."""
    with service.database.transaction() as session:
        at = store.moment(session, now, service.settings.rules)
        worker, changed = registry.approve(session, worker_id, at, caller.actor)
        if changed:
            subject = f"worker:{worker_id}"
            audit.record(
                session, actor=caller.actor, action="worker.approve", subject=subject, peer=peer, now=now
            )
    said = "Worker approved" if changed else "This worker was approved already"
    return success(said, wire.view(worker, at))


@router.post(
    "/workers/{worker_id}/rotate", responses=answers(InvalidCredential, WorkerNotFound, WorkerRemoved)
)
def rotate(
    request: Request, worker_id: UUID, token: BearerToken, service: Wired, now: Now, peer: Peer
) -> Success[wire.Rotated]:
    """Let the worker's credential die at once.

    The worker itself gets the new one. An operator gets none: the machine registers again with an enrolment token.
    """
    claim = service.doors.credentials.check(token or "")
    if claim is not None:
        credential = _rotate_own(service, worker_id, claim, peer, now)
        return success("This is the new credential; the old one is dead", wire.Rotated(credential=credential))
    caller = http.operator_of(request, token, service, now, peer)
    with service.database.transaction() as session:
        registry.revoke(session, worker_id, now)
        _note_rotation(session, caller.actor, worker_id, peer, now)
    said = "The worker's credential is dead; the machine must register again with an enrolment token"
    return success(said, wire.Rotated(credential=None))


def _rotate_own(service: Service, worker_id: UUID, claim: Claim, peer: str | None, now: datetime) -> str:
    actor = f"worker:{claim.worker_id}"
    try:
        with service.database.transaction() as session:
            credential = registry.rotate(session, service.doors.credentials, claim, worker_id, now)
            _note_rotation(session, actor, worker_id, peer, now)
    except (InvalidCredential, WorkerNotFound, WorkerRemoved) as exc:
        subject = f"worker:{worker_id}"
        service.refusals.note(exc, actor=actor, action="worker.rotate", subject=subject, peer=peer, now=now)
        raise
    return credential


def _note_rotation(session: Session, actor: str, worker_id: UUID, peer: str | None, now: datetime) -> None:
    subject = f"worker:{worker_id}"
    audit.record(session, actor=actor, action="worker.rotate", subject=subject, peer=peer, now=now)


def _note(session: Session, entry: Entry, peer: str | None, now: datetime) -> None:
    """Write a registration into the audit log, and the removal that it may have brought."""
    subject = f"worker:{entry.worker.id}"
    actor = f"token:{entry.grant.name}" if entry.grant else subject
    details = {"hostname": entry.worker.hostname, "isRestart": entry.is_restart}
    audit.record(
        session, actor=actor, action="worker.register", subject=subject, peer=peer, details=details, now=now
    )
    if entry.replaced is not None:
        details = {"hostname": entry.worker.hostname, "cause": "silent, replaced", "replacedBy": subject}
        audit.record(
            session,
            actor=actor,
            action="worker.remove",
            subject=f"worker:{entry.replaced}",
            peer=peer,
            details=details,
            now=now,
        )


def _refuse(service: Service, hostname: str, exc: MusterError, peer: str | None, now: datetime) -> None:
    """Count, log and audit a refused registration; only here is it said what is wrong with a token."""
    cause, name = errors.code(type(exc)).lower().replace("_", " "), ""
    if isinstance(exc, InvalidRegistrationToken):
        cause, name = f"{cause}: {exc.cause}", exc.token
    if isinstance(exc, Unauthorized):
        service.enrolments.failed(peer)
    log.warning("registration refused", hostname=hostname, peer=peer, reason=cause, enrolment=name or None)
    service.refusals.note(
        exc,
        actor=f"token:{name}" if name else audit.ANONYMOUS,
        action="worker.register",
        subject=f"hostname:{hostname}",
        peer=peer,
        details={"cause": cause},
        now=now,
    )


def _hand_out(service: Service, worker: Worker, peer: str | None, now: datetime) -> Handout:
    if not worker.approved:
        return Handout(None, NOT_APPROVED)
    static = service.settings.k3s_cluster_token
    fallback = static.get_secret_value() if static else None
    return joining.hand_out(
        service.cluster, service.database, worker.id, worker.hostname, peer=peer, fallback=fallback, now=now
    )
