"""The metrics over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from control_api import http
from control_api.errors import DatabaseUnavailable, Forbidden, Unauthorized
from control_api.http import BearerToken, Now, Peer, Wired
from control_api.identity.roles import Role, Scope
from control_api.metrics import gauges

may_read = http.allowed(Role.VIEWER, Scope.METRICS)
router = APIRouter()
EXAMPLE = """# HELP muster_workers Workers, by status.
# TYPE muster_workers gauge
muster_workers{status="ACTIVE"} 2.0
"""


def reader(request: Request, token: BearerToken, service: Wired, now: Now, peer: Peer) -> None:
    """Let in who may read metrics; while nobody can be looked up, who was let in within the last hour.

    Raises Unauthorized, Forbidden, DatabaseUnavailable.
    """
    try:
        may_read(request, http.caller_of(request, token, service, now, peer), service, now, peer)
        service.scrapers.remember(token or "", now)
    except (Unauthorized, Forbidden):
        service.scrapers.forget(token or "")
        raise
    except DatabaseUnavailable:
        if not service.scrapers.knows(token or "", now):
            raise


@router.get(
    "/metrics",
    dependencies=[Depends(reader)],
    response_class=Response,
    responses={
        200: {
            "description": "Metrics in the text format of Prometheus.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": EXAMPLE}},
        },
        **http.answers(),
    },
)
def metrics(service: Wired, now: Now) -> Response:
    """Tell what happened since the start and how things are now, for Prometheus."""
    return Response(
        generate_latest(gauges.Everything(service, now)), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
    )
