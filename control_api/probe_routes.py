"""How the service is, for whoever watches it: a load balancer, systemd, a person."""

from __future__ import annotations

from fastapi import APIRouter, Response

from control_api.envelope import Wire
from control_api.errors import BodyTooLarge, DatabaseUnavailable
from control_api.http import Wired, failures

router = APIRouter(responses=failures(BodyTooLarge))


class Alive(Wire):
    """The process is up."""

    ok: bool


class Readiness(Wire):
    """Whether requests can be served, and what is missing.

    ready: the database answers and the monitor looks. degraded: what works less well meanwhile, by name.
    """

    ready: bool
    database: bool
    monitor: bool
    degraded: list[str]


NOT_READY = Readiness(ready=False, database=False, monitor=True, degraded=[])


@router.get("/healthz")
async def healthz() -> Alive:
    """Say that the process is up, whatever it depends on."""
    return Alive(ok=True)


@router.get(
    "/readyz",
    responses={
        503: {
            "model": Readiness,
            "description": "Not ready",
            "content": {"application/json": {"example": NOT_READY.model_dump(by_alias=True)}},
        }
    },
)
def readyz(response: Response, service: Wired) -> Readiness:
    """Say whether requests can be served: the database answers and the monitor's loop has looked lately."""
    try:
        service.database.ping()
        database = True
    except DatabaseUnavailable:
        database = False
    service.counters.probe()
    monitor = service.monitor.is_alive
    ready = database and monitor
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, database=database, monitor=monitor, degraded=service.degraded.names())
