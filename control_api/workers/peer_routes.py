"""The addresses of the cluster's machines over HTTP, for the firewalls of the nodes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response

from control_api import http
from control_api.envelope import Success
from control_api.errors import InvalidCredential, NotApproved
from control_api.http import BearerToken, Now, Peer, Wired, answers, success
from control_api.workers import inventory, wire

router = APIRouter(prefix="/api", tags=["workers"])


@router.get(
    "/peers",
    response_model=Success[wire.Peers],
    responses={
        304: {"description": "Nothing has changed since the answer with this ETag."},
        **answers(InvalidCredential, NotApproved),
    },
)
def peers(
    *,
    request: Request,
    token: BearerToken,
    service: Wired,
    now: Now,
    peer: Peer,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response | Success[wire.Peers]:
    """List the addresses of all workers that may be in the cluster, for the firewalls of its nodes.

    Asked with a worker's credential, or with an API key that reads the inventory. At most a second old.
    """
    claim = service.doors.credentials.check(token or "")
    if claim is None:
        http.inventory_reader_of(request, token, service, now, peer)
        found = service.peers.get(now)
    else:
        request.state.actor = f"worker:{claim.worker_id}"
        try:
            found = service.peers.get_for(claim, now)
        except (InvalidCredential, NotApproved) as exc:
            http.note_refusal(request, service, exc, request.state.actor, peer, now)
            raise
    headers = {"ETag": found.tag, "Cache-Control": "private, no-cache"}
    if inventory.matches(if_none_match, found.tag):
        return Response(status_code=304, headers=headers)
    answer = success(f"{len(found.addresses)} addresses", wire.Peers(addresses=list(found.addresses)))
    return Response(answer.model_dump_json(by_alias=True), headers=headers, media_type="application/json")
