"""The fleet in a browser: its pages, and the forms on them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse, Response
from pydantic import ValidationError

from control_api import http
from control_api.dashboard import query, reading
from control_api.dashboard.http import Asked, Form, Operating, OurPage, Visiting, pages, see
from control_api.dashboard.render import ASSETS, render
from control_api.dashboard.words import when
from control_api.http import Now, Peer, Wired
from control_api.identity.callers import Caller
from control_api.workers import operations, store
from control_api.workers.operator_wire import Rest

FOREVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
router = pages()
assets = APIRouter(include_in_schema=False)


@router.get("/")
def root() -> Response:
    """Lead to the fleet."""
    return see(query.PATH)


@router.get("/fleet")
def fleet(asked: Asked, caller: Visiting, service: Wired, now: Now) -> Response:
    """Show the workers."""
    with service.database.snapshot() as session:
        page = reading.fleet(session, service, asked, now)
    return _page("fleet.html", page, caller, now, query.live(asked))


@router.get("/workers/{worker_id}")
def worker(worker_id: UUID, caller: Visiting, service: Wired, now: Now) -> Response:
    """Show one worker."""
    with service.database.reading() as session:
        page = reading.worker(session, service, worker_id, caller, now)
    return _page("worker.html", page, caller, now, f"/workers/{worker_id}/live")


@router.post("/workers/{worker_id}/maintenance", dependencies=[OurPage])
def rest(worker_id: UUID, form: Form, caller: Operating, service: Wired, now: Now, peer: Peer) -> Response:
    """Put the worker into maintenance."""
    wanted = _rest(form)
    with service.database.transaction() as session:
        at = store.moment(session, now, service.settings.rules)
        operations.rest(session, worker_id, wanted, actor=caller.actor, peer=peer, at=at)
    return see(f"/workers/{worker_id}")


@router.post("/workers/{worker_id}/maintenance/end", dependencies=[OurPage])
def resume(worker_id: UUID, caller: Operating, service: Wired, now: Now, peer: Peer) -> Response:
    """End the worker's maintenance."""
    with service.database.transaction() as session:
        at = store.moment(session, now, service.settings.rules)
        operations.resume(session, worker_id, actor=caller.actor, peer=peer, at=at)
    return see(f"/workers/{worker_id}")


@assets.get("/static/{name}")
def asset(name: str) -> Response:
    """Serve a file that pages refer to."""
    found = ASSETS.get(name)
    if found is None:
        raise HTTPException(404)
    return Response(found.body, media_type=found.media_type, headers=FOREVER)


# ---- inside


def _page(template: str, page: Any, caller: Caller, now: Any, stream: str) -> Response:
    return HTMLResponse(render(template, page=page, caller=caller, live=stream, seen=when(now, now)))


def _rest(form: dict[str, str]) -> Rest:
    """Return what the form wants. Raises InvalidRequest."""
    until = f"{form['until']}Z" if form.get("until") else None
    try:
        return Rest.model_validate(
            {"reason": form.get("reason", ""), "until": until, "drain": "drain" in form}
        )
    except ValidationError as exc:
        raise http.invalid([{**error, "loc": ("form", *error["loc"])} for error in exc.errors()]) from None
