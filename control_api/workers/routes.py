"""The workers over HTTP: parse, call, answer."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Header, Query
from fastapi.responses import Response, StreamingResponse

from control_api.envelope import Success
from control_api.errors import (
    HeartbeatOutOfOrder,
    InvalidCredential,
    Overloaded,
    WorkerNotFound,
    WorkerRemoved,
)
from control_api.events import audit
from control_api.http import (
    BearerToken,
    InventoryReader,
    Now,
    Peer,
    Viewer,
    Wired,
    answers,
    answers_to_anyone,
    success,
)
from control_api.workers import inventory, inventory_store, list_store, listing, own, registry, store, wire

log = structlog.get_logger()
OLDER = "nextCursor of the page before"
OF_A_WORKER = (InvalidCredential, WorkerNotFound, WorkerRemoved)
router = APIRouter(prefix="/api", tags=["workers"])


@router.patch(
    "/workers/{worker_id}/heartbeat",
    responses=answers_to_anyone(*OF_A_WORKER, HeartbeatOutOfOrder, Overloaded),
)
def heartbeat(
    worker_id: UUID, token: BearerToken, report: wire.HeartbeatReport | None = None
) -> Success[wire.Received]:
    """Send a heartbeat, with the worker's credential. Every field may be left out."""
    # Written down for the documentation only: workers/heartbeats.py answers in front of the application.
    raise NotImplementedError


@router.post("/workers/{worker_id}/leave", responses=answers_to_anyone(*OF_A_WORKER))
def leave(
    *,
    worker_id: UUID,
    token: BearerToken,
    service: Wired,
    now: Now,
    peer: Peer,
    goodbye: wire.Goodbye | None = None,
) -> Success[wire.Left]:
    """Say goodbye: the worker is INACTIVE at once, until its next heartbeat."""
    with (
        own.credential(service, token, worker_id, "worker.leave", peer=peer, now=now) as claim,
        service.database.transaction() as session,
    ):
        at = store.moment(session, now, service.settings.rules)
        reason = goodbye.reason if goodbye else None
        worker, is_news = registry.leave(session, claim, reason, at)
        if is_news:
            subject, details = f"worker:{worker_id}", {"reason": reason}
            audit.record(
                session,
                actor=subject,
                action="worker.leave",
                subject=subject,
                peer=peer,
                details=details,
                now=now,
            )
    log.info("worker said goodbye", worker=str(worker_id), hostname=worker.hostname)
    return success("Goodbye noted", wire.Left(status=worker.status))


@router.get("/workers", responses=answers())
def workers(
    *,
    _viewer: Viewer,
    service: Wired,
    now: Now,
    asked: Annotated[wire.ListQuery, Query()],
) -> Success[wire.WorkerPage]:
    """List the workers: filtered, sorted, a page at a time. Without parameters: the first hundred by hostname."""
    wanted = asked.listing()
    with service.database.snapshot() as session:
        at = store.moment(session, now, service.settings.rules)
        found = list_store.page(session, at, store.watch(session), wanted)
        views = [wire.view(worker, at) for worker in found.workers]
    following = None if found.after is None else listing.cursor(wanted.sort, wanted.order, found.after)
    return success(f"{len(views)} workers", wire.WorkerPage(workers=views, next_cursor=following))


@router.get("/workers/stats", responses=answers())
def stats(_viewer: Viewer, service: Wired, now: Now) -> Success[wire.Stats]:
    """Sum up the fleet. From 10,000 workers on, the sums may be ten times as old as counting them takes."""
    with service.database.reading() as session:
        at = store.moment(session, now, service.settings.rules)
        has_cluster = service.cluster is not None
        sums = service.sums.get(lambda: wire.stats(store.tallies(session, at), at, has_cluster))
    return success("The fleet in numbers", sums)


@router.get("/workers/{worker_id}", responses=answers(WorkerNotFound))
def worker(worker_id: UUID, _viewer: Viewer, service: Wired, now: Now) -> Success[wire.WorkerView]:
    """Show one worker."""
    with service.database.reading() as session:
        at = store.moment(session, now, service.settings.rules)
        found = store.worker(session, worker_id)
        if found is None or found.removed_at is not None:
            raise WorkerNotFound
        return success("Worker found", wire.view(found, at))


@router.get("/workers/{worker_id}/transitions", responses=answers(WorkerNotFound))
def transitions(
    worker_id: UUID,
    _viewer: Viewer,
    service: Wired,
    limit: Annotated[int, Query(ge=1, le=wire.MAX_PAGE)] = 100,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description=OLDER)] = None,
) -> Success[wire.TransitionPage]:
    """List the worker's changes of status, the newest first; those of a removed worker too."""
    with service.database.reading() as session:
        if store.worker(session, worker_id) is None:
            raise WorkerNotFound
        rows = store.transitions(
            session, worker_id, limit + 1, before=None if cursor is None else int(cursor)
        )
        page = wire.TransitionPage(
            transitions=[wire.transition_view(row) for row in rows[:limit]],
            next_cursor=str(rows[limit - 1].id) if len(rows) > limit else None,
        )
    return success(f"{len(page.transitions)} transitions", page)


@router.get(
    "/inventory",
    dependencies=[InventoryReader],
    response_model=Success[wire.Inventory],
    responses={304: {"description": "Nothing has changed since the answer with this ETag."}, **answers()},
)
def whole_inventory(
    *,
    service: Wired,
    now: Now,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response:
    """List every worker at once, for the inventory plugin; a client that has the answer already is told so."""
    with service.database.reading() as session:
        at = store.moment(session, now, service.settings.rules)
        # First the tag, then the rows: a change in between costs the next request an answer, and hides nothing.
        tag = inventory.entity_tag(inventory_store.fingerprint(session, at))
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if inventory.matches(if_none_match, tag):
            return Response(status_code=304, headers=headers)
        file = inventory.document(inventory_store.rows(session, at))
    headers["Content-Length"] = str(file.tell())
    return StreamingResponse(inventory.pieces(file), headers=headers, media_type="application/json")
